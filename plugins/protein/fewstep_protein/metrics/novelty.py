"""Novelty against the training set: the TM-score of samples to the nearest of the chains that the teacher was shown.

Never novelty in nature: the Protein Data Bank is a thousand times larger than what is shipped here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from fewstep.protocol import Key, Metric, Score
from fewstep.runs import bootstrap
from fewstep_protein.metrics import alignment, secondary
from fewstep_protein.metrics.ensemble import Ensemble, of_batch

ASKED, CANDIDATES = 8, 8
"""Samples that are compared, and windows that each is aligned with."""
COST = 500_000
"""Residue pairs of all alignments: about half a second."""
WINDOWS = 4096
"""Windows of the training set that are superposed on a sample."""


def metrics(training: Sequence[Tensor]) -> tuple[Metric, ...]:
    """TM-score to the nearest training chain, which are (n, 3) in nanometers."""

    def measure(made: Ensemble, real: Ensemble, key: Key) -> Score:
        found = nearest(made.chains, training)
        return bootstrap(found if len(found) else torch.ones(1), key)

    told = "novelty against the training set: mean TM-score to the nearest training chain"
    return (Metric("training_tm", "lower", of_batch(measure), "", told),)


def nearest(chains: Sequence[Tensor], training: Sequence[Tensor], asked: int = ASKED) -> Tensor:
    """(m,) TM-scores of m of these chains to the training chain that is nearest to each.

    The windows that fit a sample best without gaps are aligned with it in full; the largest score counts. So it is a
    lower bound of the score that all alignments would give. A chain that exploded counts 1: it is nothing new.
    """
    picked = [chains[i] for i in places([len(chain) for chain in chains], asked)]
    return torch.tensor([nearest_score(chain, training) for chain in picked], dtype=torch.float64)


def places(lengths: Sequence[int], asked: int) -> list[int]:
    """Row numbers at even places among all lengths; fewer of long chains."""
    order = alignment.PICK.permutation(len(lengths)).tolist()
    order.sort(key=lambda i: lengths[i])
    affordable = COST // (CANDIDATES * max(lengths) ** 2)
    number = min(len(order), asked, max(2, affordable))
    return [order[(2 * k + 1) * len(order) // (2 * number)] for k in range(number)]


def nearest_score(chain: Tensor, training: Sequence[Tensor], candidates: int = CANDIDATES) -> float:
    """TM-score of one chain to the nearest of ``candidates`` training windows; 1 for a chain that cannot be aligned."""
    if len(chain) < alignment.SHORTEST or secondary.exploded(chain):
        return 1.0
    return max(
        (alignment.tm_score(chain, one) for one in best_fits(chain, training, candidates)), default=0.0
    )


def best_fits(chain: Tensor, training: Sequence[Tensor], number: int) -> list[Tensor]:
    """The windows of the training set that superpose best on a chain, at most one of each training chain.

    Training chains shorter than the chain are left out, unless all are; then the longest ones stand for all.
    """
    fitting = [one for one in training if len(one) >= len(chain)]
    if not fitting:
        return sorted(training, key=len, reverse=True)[:number]
    windows, owner = cut(fitting, len(chain))
    order = superposed(windows.double(), chain.double()).argsort().tolist()
    best: dict[int, int] = {}
    for i in order:
        best.setdefault(int(owner[i]), i)
        if len(best) == number:
            break
    return [windows[i] for i in best.values()]


def cut(chains: Sequence[Tensor], length: int) -> tuple[Tensor, Tensor]:
    """(W, length, 3) windows at even distances, at most about WINDOWS, and (W,) of which chain each is."""
    every = max(1, sum(len(one) - length + 1 for one in chains) // WINDOWS)
    parts = [one.unfold(0, length, every).transpose(1, 2) for one in chains]
    owner = [torch.full((len(part),), i) for i, part in enumerate(parts)]
    return torch.cat(parts), torch.cat(owner)


def superposed(windows: Tensor, chain: Tensor) -> Tensor:
    """(W,) mean squared distance of windows (W, n, 3) to a chain (n, 3) after the best rotation (Kabsch 1976)."""
    one = chain - chain.mean(0)
    many = windows - windows.mean(1, keepdim=True)
    joint = torch.einsum("wni,nj->wij", many, one)
    values = torch.linalg.svdvals(joint)
    mirrored = torch.linalg.det(joint).sign()
    fit = values[:, 0] + values[:, 1] + mirrored * values[:, 2]
    return (many.square().sum((1, 2)) + one.square().sum() - 2 * fit) / len(chain)


def windows_like(lengths: Iterable[int], chains: Sequence[Tensor], key: Key) -> list[Tensor]:
    """A random window of each length, every window of that length equally likely; none where no chain is long enough."""
    wanted = list(lengths)
    mark = key.at("windows").uniform((max(1, len(wanted)),)).tolist()
    found = []
    for length, u in zip(wanted, mark, strict=False):
        room = [max(0, len(one) - length + 1) for one in chains]
        place = int(u * sum(room))
        for one, count in zip(chains, room, strict=True):
            if place < count:
                found.append(one[place : place + length])
                break
            place -= count
    return found
