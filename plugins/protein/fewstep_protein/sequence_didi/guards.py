"""Signs of collapse, sequence by sequence: few letters, long runs, the same words again, copies of known proteins.

Runs of alanine or leucine are the classic failure of few-step protein language models: folding networks are confident
about them, and nobody can use them. All functions take sequences as ids (n,) without padding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from fewstep_protein.sequence_didi.alphabet import HIDDEN

WORD = 3
"""Letters of the words that are counted."""
TOGETHER = 32
"""Sequences that are compared with the training set at once: 32 of 100 residues need about 40 MB."""


def describe(found: Sequence[Tensor]) -> dict[str, Tensor]:
    """Columns (B,) for a table: length, entropy in nats, longest run, share of different 3-letter words."""
    return {
        "length": torch.tensor([float(len(row)) for row in found]),
        "entropy": torch.tensor([entropy(shares(row)) for row in found]),
        "longest_run": torch.tensor([float(longest_run(row)) for row in found]),
        "distinct_words": torch.tensor([distinct_words(row) for row in found]),
    }


def shares(row: Tensor) -> Tensor:
    """(20,) share of each letter."""
    return torch.bincount(row, minlength=HIDDEN).double() / max(1, len(row))


def entropy(law: Tensor) -> float:
    """Nats of a law."""
    return float(-torch.special.xlogy(law, law).sum())


def longest_run(row: Tensor) -> int:
    """Most equal letters in a row; 0 for an empty sequence."""
    if not len(row):
        return 0
    changes = torch.nonzero(row[1:] != row[:-1]).flatten() + 1
    ends = torch.cat([torch.tensor([0]), changes, torch.tensor([len(row)])])
    return int(ends.diff().max())


def distinct_words(row: Tensor, length: int = WORD) -> float:
    """Share of words that are different from one another; 1 = none comes twice, also if there is no word."""
    if len(row) < length:
        return 1.0
    words = row.unfold(0, length, 1)
    return len(torch.unique(words, dim=0)) / len(words)


def nearest_identities(found: Sequence[Tensor], training: Sequence[Tensor]) -> Tensor:
    """(B,) largest share of equal letters with any stretch of a training sequence, without gaps.

    A stretch that reaches beyond its protein counts the overhang as different.
    """
    nearest = torch.zeros(len(found))
    for length in sorted({len(row) for row in found}):
        mine = [i for i, row in enumerate(found) if len(row) == length]
        stream = _stream(training, length)
        for first in range(0, len(mine), TOGETHER):
            rows = mine[first : first + TOGETHER]
            filters = F.one_hot(torch.stack([found[i] for i in rows]), HIDDEN).float().mT
            nearest[rows] = F.conv1d(stream, filters)[0].amax(1) / length
    return nearest


def mean_identity(found: Sequence[Tensor]) -> float:
    """Mean share of equal letters between two different sequences, position by position from their beginnings.

    The closed form of the mean over all pairs, so that thousands cost nothing: sum_a c_a (c_a - 1) per position.

    Raises:
        ValueError: fewer than two sequences.
    """
    if len(found) < 2:
        raise ValueError("a diversity needs at least two sequences")
    width = max(len(row) for row in found)
    counts = torch.zeros(width, HIDDEN, dtype=torch.float64)
    for row in found:
        counts[torch.arange(len(row)), row] += 1
    total = counts.sum(1)
    both = total * (total - 1)
    return float((counts * (counts - 1)).sum() / both.sum().clamp(min=1))


def _stream(training: Sequence[Tensor], length: int) -> Tensor:
    """(1, 20, T) all training letters as indicator vectors, with nothing between proteins."""
    gap = torch.zeros(length - 1, HIDDEN)
    pieces = [gap]
    for row in training:
        pieces += [F.one_hot(row, HIDDEN).float(), gap]
    return torch.cat(pieces).T[None].contiguous()
