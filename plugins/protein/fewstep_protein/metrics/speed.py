"""Structures per second by length: what a designer waits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fewstep.protocol import Key, Sampler, Shelf
from fewstep.runs.evaluation import draw
from fewstep_protein.structures.sources import blank


@dataclass(frozen=True)
class Pace:
    """What one batch of equally long chains took.

    Args:
        length: residues of each chain.
        chains: in the batch.
        calls: of the network, for the whole batch.
        seconds: wall time, without loading and after a warm-up.
    """

    length: int
    chains: int
    calls: int
    seconds: float

    @property
    def structures_per_second(self) -> float:
        """Chains over seconds."""
        return self.chains / self.seconds


def paces(
    sampler: Sampler, shelf: Shelf, lengths: Sequence[int], chains: int, key: Key, device: str = "cpu"
) -> list[Pace]:
    """How fast a contender draws, length by length.

    Args:
        sampler: the contender.
        shelf: its modules.
        lengths: residues.
        chains: of each batch.
        key: of the draws.
        device: where the modules are.
    """
    found = []
    for length in lengths:
        drawn = draw(f"{length} residues", sampler, shelf, blank(torch.full((chains,), length)), key, device)
        found.append(Pace(length, chains, drawn.evaluations, drawn.seconds))
    return found
