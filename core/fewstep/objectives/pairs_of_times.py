"""Which times a flow map is trained at: t, a neighbor s below it on the same trajectory, and where both must land.

``(process, rows, step, key) -> Pair``, float64 (B,). A law says in ``lands`` what kind of map it asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from fewstep.processes import TimeLaw
from fewstep.protocol import Key, Process, Ramp, Step, at_step

Lands: TypeAlias = Literal["clean", "edge", "anywhere"]
"""Where a map leads: to the clean state, to a time that follows from t, or to any time, which the network is told."""


class Pair(NamedTuple):
    """Two times on one trajectory.

    Args:
        t: where the student stands.
        s: where its target stands, to <= s < t.
        to: where both land; None = they are compared as clean estimates.
        trust: (B,) factor of the pair's weight, None = 1.
    """

    t: Tensor
    s: Tensor
    to: Tensor | None = None
    trust: Tensor | None = None


class PairLaw(Protocol):
    """A law of pairs."""

    @property
    def lands(self) -> Lands:
        """What kind of map it trains."""
        ...

    def __call__(self, process: Process, count: int, step: Step, key: Key) -> Pair:
        """``count`` pairs."""
        ...


@dataclass(frozen=True)
class Staircase:
    """A ramp that takes the listed values one after the other, each for an equal share of the run."""

    values: Sequence[float]

    def __call__(self, step: Step) -> float:
        """The value at this step."""
        stair = step.index * len(self.values) // max(1, step.total)
        return self.values[min(stair, len(self.values) - 1)]


@dataclass(frozen=True)
class GridPairs:
    """Neighbors on the process' own grid, uniformly.

    Args:
        steps: intervals of the grid; a ramp lets it grow (Song & Dhariwal 2024 sec. 3.4).
        skip: how many intervals a pair spans (Luo et al. 2023 LCM sec. 4.3).
    """

    steps: Ramp | float = 18
    skip: int = 1
    lands: ClassVar[Lands] = "clean"

    def __call__(self, process: Process, count: int, step: Step, key: Key) -> Pair:
        """The last pair ends at the cleanest time."""
        grid = process.grid(round(at_step(self.steps, step)))
        first = key.integers((count,), len(grid) - 1)
        return Pair(grid[first], grid[(first + self.skip).clamp(max=len(grid) - 1)])


@dataclass(frozen=True)
class RatioPairs:
    """t from a law, s = t - t (1 - ratio) (1 + boost sigmoid(-t)), not below the cleanest time (Geng et al. 2024 ECT).

    Args:
        times: law of t.
        ratio: s / t where t is large; a ramp lets it approach 1.
        boost: how much wider the gap becomes toward clean times; 0 makes s / t constant, the paper takes 8.
    """

    times: TimeLaw
    ratio: Ramp | float = 0.5
    boost: float = 0.0
    lands: ClassVar[Lands] = "clean"

    def __call__(self, process: Process, count: int, step: Step, key: Key) -> Pair:
        """The cleanest time has no neighbor below: there, and below it, both stand still, and the pair says nothing."""
        t = self.times((count,), step, key)
        gap = t * (1 - at_step(self.ratio, step)) * (1 + self.boost * torch.sigmoid(-t))
        s = torch.minimum(t, (t - gap).clamp(min=process.t_min))
        # A chain has whole times only; down, so that a pair stays a pair however narrow the gap.
        return Pair(t, s.floor() if getattr(process, "whole", False) else s)


@dataclass(frozen=True)
class SegmentPairs:
    """Neighbors on the grid that land at the end of their segment (Ren et al. 2024 Hyper-SD sec. 3.1).

    The grid is cut into segments of equally many intervals; a time at an edge belongs to the segment below it. The last
    segment ends at the clean state, so that one segment is plain consistency.

    Args:
        steps: intervals of the grid.
        segments: how many, at most ``steps``; a ramp lets them merge.
        skip: how many intervals a pair spans; it is cut at the segment's end.
        fade: share of its weight that a pair loses which lands a whole segment away.
    """

    steps: int = 16
    segments: Ramp | float = 1
    skip: int = 1
    fade: Ramp | float = 0.0
    lands: ClassVar[Lands] = "edge"

    def __call__(self, process: Process, count: int, step: Step, key: Key) -> Pair:
        """(B,) t, s and the edge below t."""
        grid = process.grid(self.steps)
        edges = segment_edges(self.steps, round(at_step(self.segments, step)))
        first = key.integers((count,), self.steps)
        which = torch.searchsorted(edges, first, right=True)
        begin, end = edges[which - 1], edges[which]
        second = torch.minimum(first + self.skip, end)
        share = (end - first).double() / (end - begin)
        clean = torch.cat([grid[:-1], torch.zeros(1, dtype=grid.dtype)])
        return Pair(grid[first], grid[second], clean[end], 1 - at_step(self.fade, step) * share)

    @property
    def left(self) -> int:
        """How many segments are left at the end of the run."""
        return round(at_step(self.segments, Step.inference(Key(0))))

    def starts(self, process: Process) -> tuple[float, ...]:
        """Where these begin: the times of a student that walks from edge to edge."""
        return tuple(process.grid(self.steps)[segment_edges(self.steps, self.left)[:-1]].tolist())


@dataclass(frozen=True)
class MapPairs:
    """Any t, any landing below it, and s between them, all on the grid (Kim et al. 2024 CTM algorithm 1).

    Args:
        steps: intervals of the grid.
        reach: s is at most so many intervals below t: what the teacher's solver must cross.
    """

    steps: int = 18
    reach: int = 17
    lands: ClassVar[Lands] = "anywhere"

    def __call__(self, process: Process, count: int, step: Step, key: Key) -> Pair:
        """Three uniform draws: t, then the landing below it, then s in [to, t)."""
        grid = process.grid(self.steps)
        first = key.at("first").integers((count,), self.steps)
        last = first + _up_to(self.steps - first, key.at("last"))
        middle = first + _up_to((last - first).clamp(max=self.reach), key.at("middle"))
        return Pair(grid[first], grid[middle], grid[last])


def segment_edges(steps: int, segments: int) -> Tensor:
    """(segments + 1,) indices of the grid's times between the segments, ends included.

    Raises:
        ValueError: if there are more segments than intervals.
    """
    if not 1 <= segments <= steps:
        raise ValueError(
            f"a grid of {steps} intervals cannot be cut into {segments} segments; take 1 to {steps}"
        )
    return (torch.arange(segments + 1) * steps + segments // 2) // segments


def _up_to(high: Tensor, key: Key) -> Tensor:
    """Integers in [1, high], uniformly, each with its own ``high``."""
    share = key.uniform(tuple(high.shape))
    return 1 + torch.minimum((share * high).long(), high - 1)
