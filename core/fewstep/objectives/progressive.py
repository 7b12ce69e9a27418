"""Progressive distillation: a student of N steps learns to do two steps of its teacher in one.

L = E[ w(t) d( D_student(z_t, t), x~ ) ] where the teacher takes two DDIM half steps z_t -> z_t' -> z_t'', and x~ is the
clean state whose one step from z_t lands on z_t'' (Salimans & Ho 2022 algorithm 2):

x~ = (z_t'' - k z_t) / (alpha'' - k alpha), k = sigma'' / sigma.

The optimum of many rounds is the *product* of the first teacher's steps, not the exact flow: its error stays.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fewstep.objectives.distances import Distance, l2
from fewstep.objectives.guidance import Scale, drawn_scale, told_scale
from fewstep.objectives.weights import Weight, truncated_snr
from fewstep.processes.predictions import safe
from fewstep.protocol import (
    Batch,
    Denoiser,
    Estimate,
    Flow,
    Loss,
    Phase,
    Process,
    Role,
    Roles,
    Step,
    Student,
    Tree,
    rows,
    spread,
    tensors,
    tree_map,
    with_index,
)


def halved(process: Process, times: Sequence[float]) -> tuple[float, ...]:
    """Start times of the teacher: the student's, and halfway between them in the spacing of the process' own grid."""
    natural = process.grid(2 * len(times))[:-1]
    if torch.allclose(natural[::2], torch.tensor(times, dtype=torch.float64), rtol=1e-9):
        return tuple(natural.tolist())
    power = 1 / float(getattr(process, "rho", 1.0))
    pairs = itertools.pairwise((*times, process.t_min))
    return tuple(u for t, s in pairs for u in (t, ((t**power + s**power) / 2) ** (1 / power)))


def landing(process: Any, xt: Tree, xs: Tree, t: Tensor, s: Tensor) -> Tree:
    """The clean state whose DDIM step from ``xt`` at t lands on ``xs`` at s: the inverse of ``jump``.

    A jump is affine in state and estimate, so its coefficients are read off two jumps; every flow has them. Where almost no
    signal is left its gain is almost zero, so all is computed in float64, the gain is kept from zero, and the caller should
    have ``xs`` in float64 too.
    """
    here = _double(xt)
    zero, one = tree_map(torch.zeros_like, here), tree_map(torch.ones_like, here)
    kept = process.jump(here, Estimate(zero), t, s)
    gain = process.jump(zero, Estimate(one), t, s)
    found = tree_map(lambda there, k, g: (there - k) / safe(g), _double(xs), kept, gain)
    return _as(found, xt)


@dataclass(frozen=True)
class Progressive:
    """One round. Roles: teacher (frozen; of twice as many steps), student.

    The last step ends clean, as a few-step student's does: x~ is there the teacher's own last estimate (sigma'' = 0).
    A teacher that is a student itself, from an earlier round, is told the index of its step.

    Args:
        times: decreasing start times of the student's N steps; None = the student's own ``times``.
        states: z_t from noised data, or from "noise": the teacher's own steps from pure noise, without data.
        weight: w(t) in x0 units.
        distance: of the two estimates.
        guidance: scale g given to the teacher, and to a student that takes one; a law draws it per sample, and then
            the student must take it (Meng et al. 2023 stage two).
        teacher: role name.
        student: role name.
    """

    times: tuple[float, ...] | None = None
    states: Literal["data", "noise"] = "data"
    weight: Weight = truncated_snr
    distance: Distance = l2
    guidance: Scale = None
    teacher: str = "teacher"
    student: str = "student"

    @property
    def roles(self) -> Mapping[str, Role]:
        """Teacher and student, both on a process with an ODE; a student of several steps walks as it was taught."""
        guided = frozenset({"guidance"})
        asked = guided if self.guidance is not None else frozenset()
        learnt = guided if callable(self.guidance) else frozenset()
        walks = {"rule": "ddim"} if len(self.times or ()) > 1 else {}
        return {
            self.teacher: Role(kind=Denoiser, trainable=False, accepts=asked, process=Flow),
            self.student: Role(kind=Denoiser, init=self.teacher, accepts=learnt, process=Flow, having=walks),
        }

    @property
    def reads(self) -> frozenset[str]:
        """Clean states, unless states are made from noise."""
        return frozenset({"x"} if self.states == "data" else ())

    def phases(self, index: int) -> Sequence[Phase]:
        """One update."""
        return (Phase("student", (self.student,)),)

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss:
        """Weighted distance to where two steps of the teacher land."""
        student = roles[self.student]
        process = student.process.on(batch.mask)
        device = tensors(batch.like)[0].device
        times = self._times(student)
        grid = torch.tensor((*halved(process, times), process.t_min), dtype=torch.float64, device=device)
        index = step.key.at("step").integers((rows(batch.like),), len(times)).to(device)
        scale = drawn_scale(self.guidance, batch.like, step, step.key.at("guidance"))
        half = _Half(roles[self.teacher], process, batch, grid, scale)
        t, end = grid[2 * index], grid[2 * index + 2]
        with torch.no_grad():
            zt = self._state(half, index, step)
            there = half(half(zt, 2 * index), 2 * index + 1)
            aim = _where(index == len(times) - 1, _as(there, zt), landing(process, zt, there, t, end))
        own = student(zt, t, with_index(batch.cond, index), **told_scale(student, scale))
        gap = self.distance(process.geometry, own, Estimate(aim), zt)
        total = (self.weight(process, t).to(gap.dtype) * gap).mean()
        return Loss(total, {"loss": total.detach()})

    def cautions(self, roles: Roles, batch: Batch, step: Step) -> Iterator[str]:
        """Noise predictions where no signal is left; students that do not walk as they were taught."""
        student = roles[self.student]
        if len(self._times(student)) > 1 and getattr(student, "rule", "ddim") != "ddim":
            yield (
                f"the student walks by {student.rule!r}; its estimates say where one DDIM step must aim, and mean "
                "nothing else; give it rule='ddim'"
            )
        if student.prediction == "eps" and self._times(student)[0] == student.process.t_max:
            yield (
                "the student predicts noise and starts where almost no signal is left: its clean estimate there is "
                "its error, divided by nearly zero; let its network predict x0 or v (Salimans & Ho 2022 sec. 4)"
            )

    def _times(self, student: Any) -> tuple[float, ...]:
        times = getattr(student, "times", None) if self.times is None else self.times
        if times is None:
            raise ValueError(
                f"{type(student).__name__} has no step times to halve; give them: Progressive(times=...)"
            )
        return tuple(times)

    def _state(self, half: _Half, index: Tensor, step: Step) -> Tree:
        """z_t at the start of each sample's step."""
        process, batch, grid = half.process, half.batch, half.grid
        noise = process.noise(batch, step.key.at("noise"))
        if self.states == "data":
            return process.corrupt(batch.x, noise, grid[2 * index])
        z = _double(process.corrupt(None, noise, grid[0].expand(len(index))))
        for j in range(len(grid) - 3):
            z = _where(2 * index > j, half(z, torch.full_like(index, j)), z)
        return _as(z, noise)


@dataclass(frozen=True)
class _Half:
    """One DDIM step of the teacher, from places (B,) of its grid to the next, in float64; the last one ends clean."""

    teacher: Any
    process: Any
    batch: Batch
    grid: Tensor
    scale: Tensor | None

    def __call__(self, z: Tree, place: Tensor) -> Tree:
        t, s = self.grid[place], self.grid[place + 1]
        cond = self.batch.cond
        if isinstance(self.teacher, Student):
            cond = with_index(cond, place)
        asked = {} if self.scale is None else {"guidance": self.scale}
        clean = _double(self.teacher(_as(z, self.batch.like), t, cond, **asked).x0)
        there = self.process.jump(_double(z), Estimate(clean), t, s)
        return _where(place == len(self.grid) - 2, clean, there)


def _double(x: Tree) -> Tree:
    return tree_map(lambda leaf: leaf.double(), x)


def _as(x: Tree, like: Tree) -> Tree:
    return tree_map(lambda leaf, other: leaf.to(other.dtype), x, like)


def _where(rows_of: Tensor, yes: Tree, no: Tree) -> Tree:
    return tree_map(lambda a, b: torch.where(spread(rows_of, a), a, b), yes, no)
