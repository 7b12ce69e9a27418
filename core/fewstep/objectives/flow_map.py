"""Consistency: two neighboring points of one trajectory must be sent to the same place.

L = E[ w d( f_student(x_t, t), sg f_target(x_s, s) ) ], t > s neighbors on a grid. x_s comes from the teacher's ODE
(consistency distillation, Song et al. 2023 algorithm 2) or, without a teacher, from the same noise (consistency
training, algorithm 3). With a destination r both sides are flow maps, compared where they land: trajectory
consistency (Kim et al. 2024 CTM; Ren et al. 2024 TSCD). The seams are fields: pairs, solver, distance, destination.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from fewstep.objectives.corruption import draw_times
from fewstep.objectives.distances import Distance, l2
from fewstep.objectives.rollout import same_randomness
from fewstep.objectives.weights import PairWeight, pair_one
from fewstep.processes import TimeLaw
from fewstep.protocol import (
    Batch,
    Denoiser,
    Estimate,
    Flow,
    Key,
    Loss,
    Phase,
    Process,
    Ramp,
    Role,
    Roles,
    Step,
    Tree,
    at_step,
    rows,
    spread,
    tensors,
    tree_map,
)

PairLaw: TypeAlias = Callable[[Process, int, Step, Key], tuple[Tensor, Tensor]]
"""``(process, rows, step, key) -> (t, s)``, float64 (B,), t > s."""

Believe: TypeAlias = Callable[[Tree, Tensor], Estimate]
PairSolver: TypeAlias = Callable[[Any, Believe, Tree, Tensor, Tensor], Tree]
"""``(process, believe, x_t, t, s) -> x_s``: one step of the teacher."""

Destination: TypeAlias = Callable[[Process, Tensor, Tensor, Step, Key], Tensor]
"""``(process, t, s, step, key) -> r <= s``: where both flow maps land."""


def ddim(process: Any, believe: Believe, xt: Tree, t: Tensor, s: Tensor) -> Tree:
    """One DDIM step: keep the predicted noise."""
    return process.jump(xt, believe(xt, t), t, s)


def euler(process: Any, believe: Believe, xt: Tree, t: Tensor, s: Tensor) -> Tree:
    """One Euler step along the velocity."""
    return _moved(xt, process.velocity(xt, believe(xt, t), t), s - t)


def heun(process: Any, believe: Believe, xt: Tree, t: Tensor, s: Tensor) -> Tree:
    """One Heun step: the mean of the slopes at both ends (Karras et al. 2022 algorithm 1)."""
    slope = process.velocity(xt, believe(xt, t), t)
    ahead = _moved(xt, slope, s - t)
    slope_ahead = process.velocity(ahead, believe(ahead, s), s)
    return _moved(xt, tree_map(lambda a, b: (a + b) / 2, slope, slope_ahead), s - t)


@dataclass(frozen=True)
class GridPairs:
    """Neighbors on the process' own grid, uniformly.

    Args:
        steps: intervals of the grid; a ramp lets it grow (Song & Dhariwal 2024 sec. 3.4).
        skip: how many intervals a pair spans (Luo et al. 2023 LCM sec. 4.3).
    """

    steps: Ramp | int = 18
    skip: int = 1

    def __call__(self, process: Process, count: int, step: Step, key: Key) -> tuple[Tensor, Tensor]:
        """(B,) t and s; the last pair ends at the cleanest time."""
        grid = process.grid(round(at_step(self.steps, step)))
        first = key.integers((count,), len(grid) - 1)
        return grid[first], grid[(first + self.skip).clamp(max=len(grid) - 1)]


@dataclass(frozen=True)
class RatioPairs:
    """t from a law and s = ratio t, not below the cleanest time (Geng et al. 2024 ECT sec. 3.2).

    Args:
        times: law of t.
        ratio: s / t; a ramp lets it approach 1.
    """

    times: TimeLaw
    ratio: Ramp | float = 0.5

    def __call__(self, process: Process, count: int, step: Step, key: Key) -> tuple[Tensor, Tensor]:
        """(B,) t and s."""
        t = self.times((count,), step, key)
        return t, (t * at_step(self.ratio, step)).clamp(min=process.t_min)


@dataclass(frozen=True)
class SegmentEnd:
    """The end of the segment that s lies in (Ren et al. 2024 TSCD; Zheng et al. 2024 TCD).

    Args:
        edges: decreasing times between the segments, ends included; an edge belongs to the segment below it.
    """

    edges: tuple[float, ...]

    def __call__(self, process: Process, t: Tensor, s: Tensor, step: Step, key: Key) -> Tensor:
        """(B,) the largest edge below t that does not exceed s."""
        rising = torch.tensor(sorted(self.edges), dtype=t.dtype, device=t.device)
        below = torch.searchsorted(rising, torch.minimum(s, t).contiguous(), right=True) - 1
        return rising[below.clamp(min=0)]


@dataclass(frozen=True)
class Consistency:
    """Roles: teacher (frozen), student, target (the student's running average, stepped before each cycle).

    Args:
        pairs: law of neighboring times.
        solver: one step of the teacher: ``euler``, ``heun``, ``ddim``.
        distance: of the two estimates.
        weight: of a pair.
        guidance: the teacher's guidance scale g, per sample from a law or one number; students that accept
            ``guidance`` are told (Meng et al. 2023; Luo et al. 2023 LCM).
        destination: where flow maps land; None = clean estimates are compared.
        teacher: role name; None = consistency training on data alone.
        student: role name.
        target: role name; None = the student itself without gradient (Song & Dhariwal 2024 sec. 3.2).
    """

    pairs: PairLaw = GridPairs()
    solver: PairSolver = heun
    distance: Distance = l2
    weight: PairWeight = pair_one
    guidance: TimeLaw | float | None = None
    destination: Destination | None = None
    teacher: str | None = "teacher"
    student: str = "student"
    target: str | None = "target"

    def __post_init__(self) -> None:
        """Guidance belongs to a teacher."""
        if self.teacher is None and self.guidance is not None:
            raise ValueError("consistency training has no teacher to guide; leave guidance out")

    @property
    def roles(self) -> Mapping[str, Role]:
        """Student, and those that are named."""
        roles = {self.student: Role(kind=Denoiser, init=self.teacher)}
        if self.teacher is not None:
            roles[self.teacher] = Role(kind=nn.Module, trainable=False)
        if self.target is not None:
            roles[self.target] = Role(kind=nn.Module, init=self.student, trainable=False)
        return roles

    @property
    def reads(self) -> frozenset[str]:
        """Clean states."""
        return frozenset({"x"})

    def phases(self, index: int) -> Sequence[Phase]:
        """One update."""
        return (Phase("student", (self.student,)),)

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss:
        """Weighted distance of the two ends of a pair."""
        student = roles[self.student]
        target = roles[self.target] if self.target is not None else student
        process = student.process.on(batch.mask)
        t, s = self._times(process, batch, step)
        scale = self._scale(batch, step, t)
        noise = process.noise(batch, step.key.at("noise"))
        xt = process.corrupt(batch.x, noise, t)
        to = None if self.destination is None else self.destination(process, t, s, step, step.key.at("to"))
        told = _told(student, scale, to)
        with torch.no_grad(), same_randomness(step.key.at("dropout")):
            xs = self._neighbor(process, roles, batch, xt, noise, t, s, scale)
            aim = _landed(process, xs, _bounded(process, xs, s, target(xs, s, batch.cond, **told)), s, to)
        with same_randomness(step.key.at("dropout")):
            own = _landed(process, xt, student(xt, t, batch.cond, **told), t, to)
        gap = self.distance(process.geometry, own, aim, xt)
        total = (self.weight(process, t, s).to(gap.dtype) * gap).mean()
        return Loss(total, {"loss": total.detach()})

    def _times(self, process: Process, batch: Batch, step: Step) -> tuple[Tensor, Tensor]:
        device = tensors(batch.x)[0].device
        t, s = self.pairs(process, rows(batch.x), step, step.key.at("time"))
        return t.to(device), s.to(device)

    def _scale(self, batch: Batch, step: Step, t: Tensor) -> Tensor | None:
        if self.guidance is None:
            return None
        if callable(self.guidance):
            return draw_times(self.guidance, batch.x, step, step.key.at("guidance"))
        return torch.full_like(t, self.guidance)

    def _neighbor(
        self,
        process: Any,
        roles: Roles,
        batch: Batch,
        xt: Tree,
        noise: Tree,
        t: Tensor,
        s: Tensor,
        scale: Tensor | None,
    ) -> Tree:
        """x_s: the teacher's step from x_t, or the same noise at s."""
        if self.teacher is None:
            return process.corrupt(batch.x, noise, s)
        teacher = roles[self.teacher]
        asked = {} if scale is None else {"guidance": scale}
        return self.solver(process, lambda x, at: teacher(x, at, batch.cond, **asked), xt, t, s)


def _told(student: Any, scale: Tensor | None, to: Tensor | None) -> dict[str, Tensor]:
    """What a student's network is told beside state, time and condition."""
    told = {} if scale is None or "guidance" not in student.accepts else {"guidance": scale}
    return told if to is None else {**told, "to": to}


def _bounded(process: Any, xs: Tree, s: Tensor, est: Estimate) -> Estimate:
    """At the cleanest time the estimate is the state itself, whatever the network says (Song et al. 2023 eq. 4)."""
    edge = s <= process.t_min
    if not isinstance(process, Flow) or not bool(edge.any()):
        return est
    clean = process.x0(xs, xs, s, "boundary")
    return Estimate(tree_map(lambda own, net: torch.where(spread(edge, net), own, net), clean, est.x0))


def _landed(process: Any, x: Tree, est: Estimate, t: Tensor, to: Tensor | None) -> Estimate:
    """The clean estimate, or the state that the flow map reaches at ``to``."""
    return est if to is None else Estimate(process.jump(x, est, t, to))


def _moved(x: Tree, slope: Tree, dt: Tensor) -> Tree:
    return tree_map(lambda a, v: a + spread(dt.to(a.dtype), a) * v, x, slope)
