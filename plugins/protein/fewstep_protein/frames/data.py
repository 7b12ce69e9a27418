"""Sources of frames: windows of real backbones, and data-free requests for lengths.

A state is a mapping with place (B, N, 3) in nanometers, centered over real residues and zero in the padding, and turn
(B, N, 3, 3), the identity in the padding. Masks are mappings with (B, N, 1) and (B, N, 1, 1), True = real.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from fewstep.errors import FewstepError
from fewstep.processes import SO3, GeodesicFlow
from fewstep.protocol import Batch, Centered, Cond, Key
from fewstep_protein.frames.rigid import frames_of
from fewstep_protein.structures.segments import Structure, split
from fewstep_protein.structures.sources import (
    Cutting,
    check_lengths,
    draw_lengths,
    draw_windows,
    length_mask,
)


@dataclass(frozen=True)
class FrameWindows:
    """Random windows of real backbones, each turned at random.

    Args:
        segments: where windows are cut from; all with a backbone.
        size: chains per batch, over all ranks.
        shortest: residues of the shortest window.
        longest: residues of the longest window.
        spread: how much lengths of one batch may differ.
    """

    segments: Sequence[Structure]
    size: int
    shortest: int
    longest: int
    spread: int = 8

    def __post_init__(self) -> None:
        """Refuse impossible sizes before training."""
        check_lengths(self.shortest, self.longest)
        if self._cutting.longest < self.longest:
            raise ValueError(
                f"no real backbone has {self.longest} residues; the longest here has {self._cutting.longest}"
            )

    @cached_property
    def _cutting(self) -> Cutting:
        return Cutting(self.segments)

    def batch(self, index: int, key: Key) -> Batch:
        """Frames with their masks."""
        here = key.at("frames", index)
        lengths, width = draw_lengths(key.share(self.size), self.shortest, self.longest, self.spread, here)
        cut = draw_windows(self._cutting, lengths, here)
        atoms = torch.zeros(len(lengths), width, 3, 3)
        for row, ((segment, start), n) in enumerate(zip(cut, lengths.tolist(), strict=True)):
            atoms[row, :n] = _backbone(segment)[start : start + n]
        found = blank_frames(lengths, width)
        whole = GeodesicFlow().noise(Batch(torch.zeros(len(lengths), 1, 3, 3)), here.at("turn"))
        x = projected(found.mask, *frames_of(atoms @ whole.mT))
        return replace(found, like=x, x=x)


@dataclass(frozen=True)
class FrameLengths:
    """Data-free requests: chains of random length. What a student is distilled on."""

    size: int
    shortest: int
    longest: int
    spread: int = 8

    def __post_init__(self) -> None:
        """Refuse impossible sizes before training."""
        check_lengths(self.shortest, self.longest)

    def batch(self, index: int, key: Key) -> Batch:
        """Shapes and masks of chains to be made."""
        count, here = key.share(self.size), key.at("lengths", index)
        return blank_frames(*draw_lengths(count, self.shortest, self.longest, self.spread, here))


def with_backbones(held_out: bool) -> tuple[Structure, ...]:
    """Training or held-out segments of which N and C are known.

    Raises:
        FewstepError: there are none.
    """
    found = tuple(s for s in split(held_out) if s.backbone is not None)
    if not found:
        side = "held-out" if held_out else "training"
        raise FewstepError(f"no {side} segment has its N and C atoms", "backbones", "harvest whole backbones")
    return found


def blank_frames(lengths: Tensor, width: int | None = None) -> Batch:
    """A request for chains of these lengths, padded to the longest or to ``width``."""
    width = int(lengths.max()) if width is None else width
    real = length_mask(lengths, width)
    like = {
        "place": torch.zeros(len(lengths), width, 3),
        "turn": torch.eye(3).expand(len(lengths), width, 3, 3).clone(),
    }
    return Batch(like=like, cond=Cond(mask={"place": real, "turn": real[..., None]}))


def projected(mask: Any, place: Tensor, turn: Tensor) -> dict[str, Tensor]:
    """The state of these frames: centered, padding blanked."""
    return {
        "place": Centered(mask=mask["place"]).project(place),
        "turn": SO3(mask=mask["turn"]).project(
            torch.where(mask["turn"], turn, torch.eye(3, dtype=turn.dtype))
        ),
    }


def traces(batch: Batch) -> Batch:
    """The batch as one of CA traces, for what measures and shows those."""
    mask = None if batch.mask is None else batch.mask["place"]
    clean = None if batch.x is None else batch.x["place"]
    return replace(batch, like=batch.like["place"], x=clean, cond=replace(batch.cond, mask=mask))


def _backbone(segment: Structure) -> Tensor:
    found: Tensor = segment.backbone  # type: ignore[assignment]
    return found
