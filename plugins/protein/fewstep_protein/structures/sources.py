"""Sources of chains: windows of real segments, and data-free requests for lengths.

Coordinates are nanometers, centered over real residues, zero in the padding. Masks are (B, N, 1), True = real.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fewstep.errors import FewstepError
from fewstep.protocol import Batch, Centered, Cond, Key
from fewstep_protein.structures.segments import Structure

SHORTEST_CHAIN = 6
"""Residues below which neither a dihedral distribution nor a gyration radius says anything."""
FIRST_PORTION = 4
"""Chains of a campaign's first portion; the last one is drawn whole, so small campaigns have small ones."""


@dataclass(frozen=True)
class Cutting:
    """Which window of which segment a number in [0, 1) stands for: all windows of one length are equally likely."""

    segments: Sequence[Structure]

    @cached_property
    def _residues(self) -> np.ndarray:
        return np.array([len(s.coordinates) for s in self.segments])

    @property
    def longest(self) -> int:
        """Residues of the longest segment; 0 without segments."""
        return int(self._residues.max(initial=0))

    def at(self, length: int, mark: float) -> tuple[Structure, int]:
        """A segment, and the first residue of its window of ``length`` residues."""
        room = np.maximum(self._residues - length + 1, 0).cumsum()
        place = int(mark * room[-1])
        found = int(np.searchsorted(room, place, side="right"))
        return self.segments[found], place - int(room[found - 1]) if found else place


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
        labels: whether a batch tells the segments' CATH labels, ``cond.data["cath"]`` (B, 3) int64.

    Raises:
        ValueError: sizes that no chain can have.
        FewstepError: segments that are all too short.
    """

    segments: Sequence[Structure]
    size: int
    shortest: int
    longest: int
    spread: int = 8
    labels: bool = False

    def __post_init__(self) -> None:
        """Refuse impossible sizes before training."""
        check_lengths(self.shortest, self.longest)
        if self.size < 1:
            raise ValueError(f"a batch needs at least one chain, got {self.size}")
        if self.cutting.longest < self.longest:
            raise FewstepError(
                f"no real chain has {self.longest} residues; the longest here has {self.cutting.longest}",
                "windows that fit into the chains",
                "a smaller `longest`, or longer chains in data.path",
            )

    @cached_property
    def cutting(self) -> Cutting:
        """Where windows lie."""
        return Cutting(self.segments)

    def batch(self, index: int, key: Key) -> Batch:
        """Chains x (B, N, 3), with their mask."""
        here = key.at("windows", index)
        lengths, width = draw_lengths(key.share(self.size), self.shortest, self.longest, self.spread, here)
        cut = draw_windows(self.cutting, lengths, here)
        pieces = [
            segment.coordinates[start : start + int(n)]
            for (segment, start), n in zip(cut, lengths, strict=True)
        ]
        found = pad(pieces, width)
        return labelled(found, [segment for segment, _ in cut]) if self.labels else found


@dataclass(frozen=True)
class Lengths:
    """Data-free requests: chains of random length, no coordinates. What a student is distilled on.

    Args:
        size: chains per batch, over all ranks.
        shortest: residues of the shortest chain.
        longest: residues of the longest chain.
        spread: how much lengths of one batch may differ.
        labelled: segments whose CATH labels are asked for, in ``cond.data["cath"]`` (B, 3) int64: each with a length
            that has windows in it, in the proportions of ``Windows``. Without them no label is asked for.
    """

    size: int
    shortest: int
    longest: int
    spread: int = 8
    labelled: Sequence[Structure] = ()

    def __post_init__(self) -> None:
        """Refuse impossible sizes before training."""
        check_lengths(self.shortest, self.longest)
        if self.size < 1:
            raise ValueError(f"a batch needs at least one chain, got {self.size}")
        if self.labelled and self._cutting.longest < self.longest:
            raise ValueError(f"no labelled chain has {self.longest} residues")

    @cached_property
    def _cutting(self) -> Cutting:
        return Cutting(self.labelled)

    def batch(self, index: int, key: Key) -> Batch:
        """Shapes and masks of chains to be made."""
        count, here = key.share(self.size), key.at("lengths", index)
        lengths, width = draw_lengths(count, self.shortest, self.longest, self.spread, here)
        found = blank(lengths, width)
        if not self.labelled:
            return found
        return labelled(found, [segment for segment, _ in draw_windows(self._cutting, lengths, here)])


def draw_windows(cutting: Cutting, lengths: Tensor, key: Key) -> list[tuple[Structure, int]]:
    """One random window per length: its segment and first residue."""
    mark = key.at("window").uniform((len(lengths),))
    return [cutting.at(int(n), float(u)) for n, u in zip(lengths, mark, strict=True)]


def labelled(batch: Batch, segments: Sequence[Structure]) -> Batch:
    """The batch with its segments' labels as condition."""
    labels = torch.tensor([segment.labels for segment in segments])
    return replace(batch, cond=replace(batch.cond, data={"cath": labels}))


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


def growing(first: int, turn: int, most: int) -> int:
    """Size of the portion of a campaign that begins at chain ``first``: about 4, 4, 8, 16, ... up to ``most``.

    Args:
        first: where the portion before it ends.
        turn: all sizes are multiples of it.
        most: size of all later portions, if a turn is not larger.
    """
    smallest = math.ceil(FIRST_PORTION / turn) * turn
    return max(smallest, min(first, most // turn * turn))


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
