"""CATH labels as a condition: shown in part while training, left out for guidance, asked for when sampling.

A condition is ``cond.data["cath"]`` (B, 3) int64, the indices of class, architecture and topology; 0 is not told.
Geffner et al. 2025 (arXiv:2503.00710), section 3.3 and appendix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fewstep.protocol import Batch, Cond, Key, Roles, Sampler, Source, State, Step

SHARES = (0.5, 0.1, 0.15, 0.25)
"""Shares of chains that are told nothing, C, C and A, all three levels."""


@dataclass(frozen=True)
class PartlyTold:
    """Batches of another source whose labels are told to a random level."""

    source: Source

    def batch(self, index: int, key: Key) -> Batch:
        """The batch, with labels below the drawn level set to 0."""
        batch = self.source.batch(index, key)
        mark = key.at("told", index).uniform((len(batch.like),))
        return replace(batch, cond=told_to(batch.cond, levels_told(mark)))


def levels_told(mark: Tensor) -> Tensor:
    """(B,) how many levels are told, by SHARES, from uniform numbers (B,)."""
    return torch.bucketize(mark, torch.tensor(SHARES, dtype=mark.dtype).cumsum(0)[:-1], right=True)


def told_to(cond: Cond, levels: Tensor) -> Cond:
    """The condition with only the first ``levels`` (B,) of its labels."""
    cath = cond.data["cath"]
    kept = torch.arange(cath.shape[1], device=cath.device) < levels[:, None]
    return replace(cond, data={**cond.data, "cath": cath * kept})


def unlabelled(cond: Cond) -> Cond:
    """The condition that tells no label: the unconditional twin."""
    if cond.data is None:
        return cond
    return replace(cond, data={**cond.data, "cath": torch.zeros_like(cond.data["cath"])})


def asked_for(sampler: Sampler, labels: tuple[int, int, int]) -> Sampler:
    """The same contender, asked for chains with these labels."""

    def draw(roles: Roles, batch: Batch, step: Step) -> Iterator[State]:
        cath = torch.tensor(labels, device=batch.like.device).expand(len(batch.like), 3)
        wanted = replace(batch.cond, data={**(batch.cond.data or {}), "cath": cath})
        yield from sampler.fn(roles, replace(batch, cond=wanted), step)

    return replace(sampler, fn=draw, with_steps=None)


@dataclass(frozen=True)
class Until:
    """Decay of an average that follows until a share of the stage is over and then stands still: an early checkpoint."""

    share: float
    decay: float = 0.98

    def __call__(self, step: Step) -> float:
        """The decay at this step."""
        return self.decay if step.index < self.share * step.total else 1.0
