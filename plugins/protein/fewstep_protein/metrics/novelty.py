"""Novelty against the training set: the TM-score of samples to the nearest of the chains that the teacher was shown.

Never novelty in nature: the Protein Data Bank is a thousand times larger than what is shipped here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv1d

from fewstep.protocol import Key, Metric, Score
from fewstep.runs import bootstrap
from fewstep_protein.metrics import alignment, secondary
from fewstep_protein.metrics.ensemble import Ensemble, of_batch

ASKED, CANDIDATES = 8, 8
"""Samples that are compared, and windows that each is aligned with."""
COST = 500_000
"""Residue pairs of all alignments: about half a second."""
MARGIN = 0.5
"""How much further than the sample a window reaches to each side, of the sample's length."""


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
    affordable = int(COST / (CANDIDATES * max(lengths) ** 2 * (1 + 2 * MARGIN)))
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
    """Windows of the training chains around where a chain fits best without gaps, one of each training chain.

    They reach MARGIN of its length further to both sides, so that an alignment may have gaps. Training chains shorter
    than the chain are left out, unless all are; then the longest ones stand for all.
    """
    fitting = [one for one in training if len(one) >= len(chain)]
    if not fitting:
        return sorted(training, key=len, reverse=True)[:number]
    apart = superposed(torch.cat(fitting), chain)
    parts = apart.split([len(one) for one in fitting])
    best = [part[: len(part) - len(chain) + 1].min(0) for part in parts]
    order = torch.stack([found.values for found in best]).argsort()[:number].tolist()
    more = int(MARGIN * len(chain))
    starts = [int(best[i].indices) for i in order]
    return [
        fitting[i][max(0, at - more) : at + len(chain) + more] for i, at in zip(order, starts, strict=True)
    ]


def superposed(places: Tensor, chain: Tensor) -> Tensor:
    """(L,) mean squared distance, after the best rotation (Kabsch 1976), of a chain (n, 3) to what begins at each place.

    A window is ``places`` (L, 3) from there on; the last n - 1 values belong to none and are infinite. In single
    precision and all windows at once: their products with the chain are a convolution, their squares differences of
    running sums.
    """
    one, count = (chain - chain.mean(0)).float(), len(chain)
    along = places.float().T
    joint = conv1d(along[:, None], one.T[:, None]).permute(2, 0, 1)
    inner = (
        _running(along.double().square().sum(0), count)
        - _running(along.double(), count).square().sum(0) / count
    )
    squared = (inner.float() + one.square().sum() - 2 * _best_turn(joint)) / count
    return torch.cat([squared.clamp(min=0), squared.new_full((count - 1,), math.inf)])


def _running(values: Tensor, count: int) -> Tensor:
    """(..., L - count + 1) sums of ``count`` values in a row."""
    total = torch.nn.functional.pad(values.cumsum(-1), (1, 0))
    return total[..., count:] - total[..., :-count]


def _best_turn(joint: Tensor) -> Tensor:
    """(W,) largest trace of a rotation times (W, 3, 3): singular values summed, the smallest with the determinant's sign.

    Their squares are the eigenvalues of a symmetric matrix in closed form (Smith 1961): the library's decomposition
    takes ten times as long for a hundred thousand small matrices.
    """
    square = joint @ joint.mT
    middle = square.diagonal(dim1=1, dim2=2).sum(1) / 3
    off = square - middle[:, None, None] * torch.eye(3, dtype=joint.dtype)
    spread = (off.square().sum((1, 2)) / 6).sqrt().clamp(min=1e-12)
    angle = ((_determinant(off) / spread**3 / 2).clamp(-1, 1)).acos() / 3
    largest = middle + 2 * spread * angle.cos()
    smallest = middle + 2 * spread * (angle + 2 * math.pi / 3).cos()
    values = torch.stack([largest, 3 * middle - largest - smallest, smallest]).clamp(min=0).sqrt()
    return values[0] + values[1] + _determinant(joint).sign() * values[2]


def _determinant(matrix: Tensor) -> Tensor:
    return (matrix[:, 0] * torch.linalg.cross(matrix[:, 1], matrix[:, 2])).sum(1)


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
