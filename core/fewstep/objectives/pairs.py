"""Pairs: what the teacher's ODE makes of a noise, the student must make of the same noise.

L = E[ d( G(noise, c), target ) ], target = the teacher's solution from that very noise (Luhman & Luhman 2021 eq. 6; the
regression term of Yin et al. 2024 DMD eq. 9). A student of K steps sees the state of the teacher's path at each of its
step times, and answers with the path's end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fewstep.objectives.distances import Distance, l2
from fewstep.objectives.guidance import Scale, drawn_scale, told_scale
from fewstep.objectives.perceptual import perceived
from fewstep.objectives.rollout import believed, encoded, penalty
from fewstep.protocol import (
    Batch,
    Cond,
    Denoiser,
    Estimate,
    Flow,
    Loss,
    Phase,
    Ramp,
    Role,
    Roles,
    Sample,
    State,
    Step,
    Student,
    Tree,
    rows,
    tensors,
    tree_map,
    with_index,
)

Solve: TypeAlias = Callable[..., Iterator[State]]
"""``(model, x, times, cond, *, key) -> states``, as the deterministic solvers of ``fewstep.samplers``."""

NO_DECODER = "this recipe has no decoder to look through: leave objective.perceptual empty"


@dataclass(frozen=True)
class ODE:
    """How a teacher's ODE is solved from pure noise.

    Args:
        solver: ``heun``, ``euler``, ``ddim`` of :mod:`fewstep.samplers`.
        steps: intervals of the process' own grid; the student's times are added to it.
        guidance: the teacher's scale g, for teachers that take one; a law draws it for each pair, and a student that takes
            it is told.
    """

    solver: Solve
    steps: int = 18
    guidance: Scale = None

    def grid(self, process: Any, times: Sequence[float] = ()) -> Tensor:
        """Decreasing times from t_max to t_min that pass through ``times`` exactly."""
        own = [u for u in process.grid(self.steps).tolist() if all(abs(u - t) > 1e-9 * t for t in times)]
        return torch.tensor(sorted({*own, *times}, reverse=True), dtype=torch.float64)

    def __call__(
        self,
        teacher: Any,
        noise: Tree,
        cond: Cond,
        times: Sequence[float] = (),
        scale: Tensor | None = None,
    ) -> tuple[Tree, tuple[Tree, ...]]:
        """Where the noise ends, and what a student of these times is shown on the way.

        The first of its states is the noise as the student itself scales it, at times[0]. ``scale`` (B,) is what a law of
        the guidance drew.

        Raises:
            ValueError: the guidance is a law, and nobody said what it drew.
        """
        process = teacher.process.on(cond.mask)
        device, count = tensors(noise)[0].device, rows(noise)

        def begun(t: float) -> Tree:
            return process.corrupt(None, noise, torch.full((count,), t, dtype=torch.float64, device=device))

        grid = self.grid(process, times)
        end, shown = begun(float(grid[0])), {t: begun(t) for t in times[:1]}
        if scale is None and self.guidance is not None:
            if callable(self.guidance):
                raise ValueError(f"the guidance is the law {self.guidance}; say what it drew, as scale=")
            scale = torch.full((count,), self.guidance, dtype=torch.float64, device=device)
        model = teacher if scale is None else AtScale(teacher, scale)
        states = self.solver(model, end, grid, replace(cond, index=None), key=None)
        for at, state in zip([*grid.tolist()[1:], 0.0], states, strict=True):
            end = state.x
            if at in times[1:]:
                shown[at] = end
        return end, tuple(shown[t] for t in times)


@dataclass(frozen=True)
class AtScale:
    """A teacher at one guidance scale for each row (B,), as solvers call it."""

    teacher: Any
    scale: Tensor

    @property
    def process(self) -> Any:
        """The teacher's."""
        return self.teacher.process

    def __call__(self, xt: Tree, t: Tensor, cond: Cond) -> Estimate:
        """The teacher's estimate at those scales."""
        return self.teacher(xt, t, cond, guidance=self.scale.to(t))


@dataclass(frozen=True)
class Pairs:
    """Roles: student, and the teacher where pairs are made online (else it only lends its first weights).

    Args:
        online: solve the teacher's ODE inside the loss; None = the batch holds "extra.noise", "extra.target", for
            students of several steps "extra.path": one state for each of the student's times, and "extra.guidance" where
            scales were drawn.
        distance: of the student's answer and the target.
        penalties: weights of ``Sample.penalties``.
        perceptual: weights of what a frozen decoder sees in answer and target, by group of its activations; empty = none
            is needed.
        teacher: role name.
        student: role name.
        decoder: role name; called as ``decoder(x, cond)``, gives group -> activations.
    """

    online: ODE | None = None
    distance: Distance = l2
    penalties: Mapping[str, Ramp | float] = field(default_factory=dict)
    perceptual: Mapping[str, float] = field(default_factory=dict)
    teacher: str = "teacher"
    student: str = "student"
    decoder: str = "decoder"

    @property
    def roles(self) -> Mapping[str, Role]:
        """Teacher and student, and the decoder that looks."""
        solved = self.online is not None
        guided = frozenset({"guidance"} if self.online and self.online.guidance is not None else ())
        return {
            self.teacher: Role(
                kind=Denoiser,
                trainable=False,
                optional=not solved,
                accepts=guided,
                process=Flow if solved else None,
            ),
            self.student: Role(
                kind=Student,
                init=self.teacher,
                accepts=guided if self.online and callable(self.online.guidance) else frozenset(),
            ),
            **({self.decoder: Role(trainable=False, advice=NO_DECODER)} if self.perceptual else {}),
        }

    @property
    def reads(self) -> frozenset[str]:
        """Recorded pairs, unless they are made online."""
        return frozenset({"extra.noise", "extra.target"} if self.online is None else ())

    def phases(self, index: int) -> Sequence[Phase]:
        """One update."""
        return (Phase("student", (self.student,)),)

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss:
        """Distance of the student's answer to the end of the teacher's path."""
        student = roles[self.student]
        judge = roles.get(self.teacher, student)
        own = tuple(getattr(student, "times", ()))
        times = own if len(own) > 1 else ()
        batch = self._scaled(batch, step)
        noise, target, path = self._pair(judge, batch, step, times)
        if times:
            sample = _stepped(student, times, path, batch, step)
        else:
            sample = student.generate(batch, replace(step, key=step.key.at("sample")), noise=noise)
        sample = encoded(sample, judge)
        geometry = judge.process.on(sample.mask).geometry
        gap = self.distance(geometry, believed(sample), Estimate(target), target).mean()
        extra, logs = penalty(sample, self.penalties, step)
        if self.perceptual:
            seen, told = perceived(roles[self.decoder], sample.x, target, batch.cond, self.perceptual)
            extra, logs = extra + seen, {**logs, **told}
        return Loss(gap + extra, {"loss": gap.detach(), **logs})

    def _scaled(self, batch: Batch, step: Step) -> Batch:
        """The batch with a scale drawn for each row, where pairs are made online under a law."""
        if self.online is None or not callable(self.online.guidance):
            return batch
        scale = drawn_scale(self.online.guidance, batch.like, step, step.key.at("guidance"))
        return replace(batch, extra={**batch.extra, "guidance": scale})

    def _pair(
        self, teacher: Any, batch: Batch, step: Step, times: tuple[float, ...]
    ) -> tuple[Tree, Tree, tuple[Tree, ...]]:
        """Noise, target and path: from the batch, or solved now."""
        if self.online is not None:
            noise = teacher.process.on(batch.mask).noise(batch, step.key.at("noise"))
            with torch.no_grad():
                drawn = batch.extra.get("guidance") if callable(self.online.guidance) else None
                return noise, *self.online(teacher, noise, batch.cond, times, drawn)
        path = tuple(batch.extra.get("path", ()))
        if times and len(path) != len(times):
            raise ValueError(
                f"the student takes {len(times)} steps, at {times}, but the pairs hold {len(path)} states of "
                "their path; make pairs with the student's times"
            )
        return batch.extra["noise"], batch.extra["target"], path


def _stepped(
    student: Any, times: tuple[float, ...], path: tuple[Tree, ...], batch: Batch, step: Step
) -> Sample:
    """The student's answer from one place of the path, drawn for each row."""
    device, count = tensors(batch.like)[0].device, rows(batch.like)
    index = step.key.at("step").integers((count,), len(times)).to(device)
    each = torch.arange(count, device=device)
    xt = tree_map(lambda *states: torch.stack(states)[index, each], *path)
    told = told_scale(student, batch.extra.get("guidance"))
    est = student.ask(xt, index, batch.cond, **told)
    return Sample(est.x0, with_index(batch.cond, index), est)
