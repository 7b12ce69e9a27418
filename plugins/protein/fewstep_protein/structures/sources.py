"""Sources of chains: windows of real segments, and data-free requests for lengths.

Coordinates are nanometers, centered over real residues, zero in the padding. Masks are (B, N, 1), True = real.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.errors import FewstepError
from fewstep.protocol import Batch, Centered, Cond, Key
from fewstep_protein.structures.segments import Structure

SHORTEST_CHAIN = 6
"""Residues below which neither a dihedral distribution nor a gyration radius says anything."""


@dataclass(frozen=True)
class Windows:
    """Random windows of real chains, padded to the longest window that this batch may hold.

    The lengths of one batch lie within ``spread`` of one another, so that little padding is computed.

    Args:
        segments: where windows are cut from.
        size: chains per batch, over all ranks.
        shortest: residues of the shortest window.
        longest: residues of the longest window.
        spread: how much lengths of one batch may differ.

    Raises:
        ValueError: sizes that no chain can have, or segments that are all too short.
    """

    segments: Sequence[Structure]
    size: int
    shortest: int
    longest: int
    spread: int = 8

    def __post_init__(self) -> None:
        """Refuse impossible sizes before training."""
        check_lengths(self.shortest, self.longest)
        if self.size < 1:
            raise ValueError(f"a batch needs at least one chain, got {self.size}")
        if not any(len(s.coordinates) >= self.longest for s in self.segments):
            known = max((len(s.coordinates) for s in self.segments), default=0)
            raise ValueError(f"no real chain has {self.longest} residues; the longest here has {known}")

    def batch(self, index: int, key: Key) -> Batch:
        """Chains x (B, N, 3), with their mask."""
        here = key.at("windows", index)
        lengths, width = draw_lengths(key.share(self.size), self.shortest, self.longest, self.spread, here)
        return pad(self._cut(lengths, here), width)

    def _cut(self, lengths: Tensor, key: Key) -> list[Tensor]:
        """One window per length; every possible window of that length is equally likely."""
        mark = key.at("window").uniform((len(lengths),))
        return [self._window(int(n), float(u)) for n, u in zip(lengths, mark, strict=True)]

    def _window(self, length: int, mark: float) -> Tensor:
        room = [max(0, len(s.coordinates) - length + 1) for s in self.segments]
        place = int(mark * sum(room))
        for segment, count in zip(self.segments, room, strict=True):
            if place < count:
                return segment.coordinates[place : place + length]
            place -= count
        raise AssertionError("a mark in [0, 1) lies in some segment")


@dataclass(frozen=True)
class Lengths:
    """Data-free requests: chains of random length, no coordinates. What a student is distilled on."""

    size: int
    shortest: int
    longest: int
    spread: int = 8

    def __post_init__(self) -> None:
        """Refuse impossible sizes before training."""
        check_lengths(self.shortest, self.longest)
        if self.size < 1:
            raise ValueError(f"a batch needs at least one chain, got {self.size}")

    def batch(self, index: int, key: Key) -> Batch:
        """Shapes and masks of chains to be made."""
        count, here = key.share(self.size), key.at("lengths", index)
        return blank(*draw_lengths(count, self.shortest, self.longest, self.spread, here))


def draw_lengths(size: int, shortest: int, longest: int, spread: int, key: Key) -> tuple[Tensor, int]:
    """(size,) lengths, each within ``spread`` of a largest one, and that largest one: the padded width.

    The width is drawn, not found among the rows, so that it is the same on every rank.
    """
    low = min(shortest + spread, longest)
    top = low + key.at("longest").integer(longest - low + 1)
    below = key.at("length").integers((size,), top - max(shortest, top - spread) + 1)
    return top - below, top


def pad(chains: Sequence[Tensor], width: int) -> Batch:
    """Chains (n, 3) of different length as one centered, masked batch (B, width, 3)."""
    x = torch.stack([torch.nn.functional.pad(c, (0, 0, 0, width - len(c))) for c in chains])
    mask = length_mask(torch.tensor([len(c) for c in chains]), width)
    return Batch(like=x, x=Centered(mask=mask).project(x), cond=Cond(mask=mask))


def blank(lengths: Tensor, width: int | None = None) -> Batch:
    """A request for chains of these lengths, padded to the longest or to ``width``."""
    width = int(lengths.max()) if width is None else width
    return Batch(like=torch.zeros(len(lengths), width, 3), cond=Cond(mask=length_mask(lengths, width)))


def in_turn(lengths: Sequence[int], number: int) -> Tensor:
    """(number,) the given lengths, one after the other and again.

    Raises:
        FewstepError: no chain is asked for.
    """
    if number < 1:
        raise FewstepError(f"{number} chains were asked for", "at least one", "--num 1")
    return torch.tensor([lengths[i % len(lengths)] for i in range(number)])


def length_mask(lengths: Tensor, width: int) -> Tensor:
    """(B, width, 1), True for the first ``lengths`` residues."""
    return (torch.arange(width)[None] < lengths[:, None])[..., None]


def check_lengths(shortest: int, longest: int) -> None:
    """Lengths must be possible.

    Raises:
        ValueError: they are not.
    """
    if not SHORTEST_CHAIN <= shortest <= longest:
        raise ValueError(
            f"chain lengths must satisfy {SHORTEST_CHAIN} <= shortest <= longest, got {shortest} to {longest}"
        )
