"""First-order chains over the amino acids: teachers whose posterior, entropy and pair law are known exactly.

Given the visible letters, a hidden letter of a Markov chain depends on its nearest visible neighbors alone, at
distances m and n: p(x) is proportional to (P^m)[left, x] (P^n)[x, right].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from fewstep.processes import Masked
from fewstep.protocol import Batch, Cond, Key
from fewstep.testing.markov import MarkovTeacher, stationary_law
from fewstep_protein.sequence_didi.alphabet import HIDDEN

CONCENTRATION = 0.3
"""Of the Dirichlet law of random rows: few likely neighbors, as in a language; I = 0.977 nats for seed 0."""


@dataclass(frozen=True)
class Chain:
    """A stationary chain with this transition matrix (20, 20), float64, rows that sum to 1."""

    transition: Tensor

    @cached_property
    def stationary(self) -> Tensor:
        """(20,) how often each letter is seen."""
        return stationary_law(self.transition)

    @cached_property
    def pairs(self) -> Tensor:
        """(20, 20) probabilities of neighboring letters."""
        return self.stationary[:, None] * self.transition

    @cached_property
    def information(self) -> float:
        """I(x_i; x_{i+1}) in nats: what letters drawn independently of one another miss, per bond."""
        independent = self.stationary[:, None] * self.stationary[None]
        return float(torch.special.xlogy(self.pairs, self.pairs / independent).sum())

    @cached_property
    def entropy_rate(self) -> float:
        """Nats per residue of a long sequence."""
        return float(-torch.special.xlogy(self.pairs, self.transition).sum())

    def draw(self, count: int, length: int, key: Key) -> Tensor:
        """(count, length) exact samples, letter by letter."""
        marks = key.uniform((count, length))
        rows = self.transition.cumsum(1)
        letter = _invert(self.stationary.cumsum(0).expand(count, -1), marks[:, 0])
        found = [letter]
        for place in range(1, length):
            letter = _invert(rows[letter], marks[:, place])
            found.append(letter)
        return torch.stack(found, 1)


def dirichlet_chain(seed: int = 0) -> Chain:
    """Random rows of a symmetric Dirichlet law, by NumPy's legacy generator: the same on every machine."""
    drawn = np.random.RandomState(seed).dirichlet([CONCENTRATION] * HIDDEN, size=HIDDEN)
    return Chain(torch.from_numpy(drawn))


def sharpened_chain(counts: Tensor, power: float) -> Chain:
    """Rows of counted neighbors (20, 20), half a count added to each, raised to a power and normalized.

    Neighbors of real proteins tell each other almost nothing (0.006 nats); a power makes them do so while the
    likes and dislikes stay those of nature.
    """
    share = (counts.double() + 0.5) / (counts.double() + 0.5).sum(1, keepdim=True)
    sharp = share**power
    return Chain(sharp / sharp.sum(1, keepdim=True))


@dataclass(frozen=True)
class ChainSource:
    """Exact samples x (B, length) as batches."""

    chain: Chain
    length: int
    size: int

    def batch(self, index: int, key: Key) -> Batch:
        """Ids, all of them real."""
        x = self.chain.draw(key.share(self.size), self.length, key.at("chain", index))
        return Batch(like=torch.zeros_like(x), x=x)


class ExactNet(nn.Module):
    """The exact posterior of a chain, in the place of a network. It has buffers and no parameters."""

    def __init__(self, chain: Chain) -> None:
        """Keep the chain."""
        super().__init__()
        self.chain = MarkovTeacher(Masked(HIDDEN), chain.transition)

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        """(B, L) ids -> (B, L, 20) log probabilities; padding is unseen, not a letter."""
        seen = x if cond.mask is None else torch.where(cond.mask.bool(), x, HIDDEN)
        found: Tensor = self.chain.believe(seen, time, cond)
        return found.float()


def _invert(cumulative: Tensor, marks: Tensor) -> Tensor:
    """(B,) letters whose cumulative probability (B, 20) first exceeds the mark."""
    return torch.searchsorted(cumulative.contiguous(), marks[:, None].contiguous(), right=True)[:, 0].clamp(
        max=HIDDEN - 1
    )
