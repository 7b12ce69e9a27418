"""TM-scores: how alike folds are, by the program TM-align (Zhang & Skolnick 2005), which tmtools wraps.

A TM-score is divided by the length of the shorter chain here, so that a chain found whole inside a longer one scores
1. It knows hands: a mirror image is another fold. Of chains of less than 22 residues the program measures in units of
0.5 angstrom, so only near copies score high; "the same fold above 0.5" is a statement about longer chains.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fewstep.protocol import Key
from fewstep_protein.metrics import secondary
from fewstep_protein.structures.clusters import SAME_FOLD
from fewstep_protein.structures.clusters import tm_score as aligned
from fewstep_protein.structures.files import ANGSTROM

GROUPS, GROUP = 3, 8
"""Groups of about equally long chains, and chains of each, within which all pairs are aligned."""
COST = 500_000
"""Residue pairs of all alignments: about half a second. Longer chains are aligned in smaller groups."""
SHORTEST = 4
"""Residues of a chain that can be aligned."""
PICK = Key(0).at("aligned")
"""Which of equally long chains are aligned: the same places of the batch for every contender."""


@dataclass(frozen=True)
class Neighbors:
    """Which chains were aligned, group by group, and their TM-scores.

    Args:
        rows: of each group, the numbers of its chains.
        scores: of each group, (g, g) symmetric TM-scores with a diagonal of 1.
    """

    rows: tuple[tuple[int, ...], ...]
    scores: tuple[Tensor, ...]

    @property
    def count(self) -> int:
        """Chains in all groups."""
        return sum(map(len, self.rows))

    @property
    def joint(self) -> tuple[Tensor, Tensor]:
        """(m, m) scores of all these chains, and which of them are of one group, hence known."""
        together = torch.block_diag(*self.scores)
        known = torch.block_diag(*(torch.ones(len(r), len(r), dtype=torch.float64) for r in self.rows))
        return together, known > 0


def tm_score(first: Tensor, second: Tensor) -> float:
    """TM-score of two chains (n, 3) and (m, 3) in nanometers, over the length of the shorter one.

    Raises:
        FewstepError: tmtools is not there.
        ValueError: a chain that cannot be aligned.
    """
    if min(len(first), len(second)) < SHORTEST or secondary.exploded(first) or secondary.exploded(second):
        raise ValueError(f"chains of at least {SHORTEST} residues within 200 angstrom can be aligned")
    places = [chain.detach().double().cpu().numpy() * ANGSTROM for chain in (first, second)]
    return aligned(*map(np.ascontiguousarray, places))


def neighbors(chains: Sequence[Tensor]) -> Neighbors:
    """TM-scores within groups of about equally long chains, chosen by lengths and a fixed key alone.

    A chain that exploded adds no diversity: all its pairs score 1.
    """
    rows = groups([len(chain) for chain in chains])
    return Neighbors(rows, tuple(_scores([chains[i] for i in row]) for row in rows))


def groups(lengths: Sequence[int], cost: int = COST) -> tuple[tuple[int, ...], ...]:
    """Row numbers of the chains that are aligned: neighbors in length at even places among all lengths."""
    order = PICK.permutation(len(lengths)).tolist()
    order.sort(key=lambda i: lengths[i])  # stable: equal lengths stay shuffled
    number = max(1, min(GROUPS, len(order) // 2))
    size = min(GROUP, len(order) // number)
    longest = max(lengths)
    while size > 2 and number * math.comb(size, 2) * longest**2 > cost:
        size -= 1
    parts = [order[k * len(order) // number : (k + 1) * len(order) // number] for k in range(number)]
    middles = [(len(part) - size) // 2 for part in parts]
    return tuple(tuple(part[m : m + size]) for part, m in zip(parts, middles, strict=True))


def _scores(chains: Sequence[Tensor]) -> Tensor:
    found = torch.ones(len(chains), len(chains), dtype=torch.float64)
    for i, j in itertools.combinations(range(len(chains)), 2):
        found[i, j] = found[j, i] = _or_one(chains[i], chains[j])
    return found


def _or_one(first: Tensor, second: Tensor) -> float:
    try:
        return tm_score(first, second)
    except ValueError:
        return 1.0


def clusters(scores: Tensor, present: Tensor, same: float = SAME_FOLD) -> Tensor:
    """(...) numbers of greedy clusters: each chain joins the first center it resembles, or becomes one.

    Args:
        scores: (m, m) TM-scores.
        present: (..., m) which chains take part.
        same: TM-score above which a chain joins.
    """
    center = torch.zeros_like(present)
    for i in range(len(scores)):
        near = (center & (scores[i] > same)).any(-1)
        center[..., i] = present[..., i] & ~near
    return center.sum(-1)
