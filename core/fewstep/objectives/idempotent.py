"""Idempotence: a student that maps noise to data, and data to itself.

f(f(z)) = f(z) makes the data the set of fixed points of f (Shocher et al. 2024 IGN eq. 1). Here it goes with score
distillation instead of an adversarial term; the composition, its weights and how a denoiser takes data are our own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fewstep.objectives.discriminator import reference_of
from fewstep.objectives.rollout import rollout
from fewstep.objectives.score_methods import dmd
from fewstep.processes import Gaussian, TimeLaw, at_scale
from fewstep.protocol import (
    Batch,
    Estimate,
    Loss,
    Mix,
    Phase,
    Ramp,
    Role,
    Roles,
    Step,
    Stepwise,
    Tree,
    at_step,
    rows,
)


@dataclass(frozen=True)
class Idempotence:
    """lam_r |f(x) - x|^2 + lam_i |f(y) - y|^2 with y = f(z) a sample of the student.

    A few-step student takes a clean state as it takes noise: at one of its own start times, at the scale of that
    time's states (:func:`fewstep.processes.at_scale`), without noise.

    Args:
        idempotence: lam_i.
        reconstruction: lam_r.
        learns: "both" calls of f, or the "outer" one alone, y being data. The outer alone keeps whatever the student
            makes: a direction in which there is no data, but a little leaks (f = a there), is amplified by the
            gradient 2 a^2 (a - 1), while both shrink it by 2 a (1 - a) (1 - 2 a) as long as a < 1/2.
        noise: standard deviation of noise added to y before f sees it again; for students that will be called on
            their own samples with a little noise.
        at: which of the student's steps takes clean states: 0 = the first, one map for noise and data; -1 = the last.
        reference: batch field of x, "x" or "extra.<name>" (stored samples of the teacher).
        student: role name.

    Raises:
        ValueError: if both weights are 0.
    """

    idempotence: Ramp | float = 1.0
    reconstruction: Ramp | float = 1.0
    noise: float = 0.0
    at: int = 0
    reference: str = "x"
    learns: Literal["both", "outer"] = "both"
    student: str = "student"

    def __post_init__(self) -> None:
        """Refuse a term that asks for nothing."""
        if self.idempotence == 0.0 and self.reconstruction == 0.0:
            raise ValueError("idempotence and reconstruction are both 0: nothing is left; use dmd alone")

    @property
    def roles(self) -> Mapping[str, Role]:
        """The student alone."""
        return {self.student: Role(kind=Stepwise, process=Gaussian)}

    @property
    def reads(self) -> frozenset[str]:
        """Clean states, if they are reconstructed."""
        return frozenset({self.reference} if self.reconstruction != 0.0 else ())

    def phases(self, index: int) -> Sequence[Phase]:
        """One update."""
        return (Phase("student", (self.student,)),)

    def cautions(self, roles: Roles, batch: Batch, step: Step) -> Iterator[str]:
        """Where both terms are all but free."""
        student: Any = roles[self.student]
        process = student.process.on(batch.mask)
        noise = process.sigma_data * process.noise(batch, step.key.at("caution"))
        gap = float(relative(student, batch, again(student, batch, noise, self.at), noise).mean())
        if gap < 0.01:
            yield (
                f"the student returns even pure noise unchanged (relative change {gap:.2g}) at the step where it takes "
                "clean states, so being idempotent is free and teaches nothing; let it take them at a noisier step (at=0)"
            )

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Iterator[Loss]:
        """The two terms, one graph at a time."""
        student: Any = roles[self.student]
        if (weight := at_step(self.reconstruction, step)) != 0.0:
            x = reference_of(batch, self.reference)
            yield self._term("reconstruction", weight, student, batch, x, x)
        if (weight := at_step(self.idempotence, step)) != 0.0:
            graph = self.learns == "both"
            y = rollout(student, self.student, batch, step, shared=False, graph=graph).x
            noise = student.process.on(batch.mask).noise(batch, step.key.at("again"))
            yield self._term("idempotence", weight, student, batch, y + self.noise * noise, y)

    def _term(self, name: str, weight: float, student: Any, batch: Batch, shown: Tree, aim: Tree) -> Loss:
        geometry = student.process.on(batch.mask).geometry
        found = again(student, batch, shown, self.at)
        total = geometry.distance(Estimate(found), Estimate(aim)).mean()
        return Loss(weight * total, {name: total.detach()})


def again(student: Any, batch: Batch, x: Tensor, at: int = 0) -> Tensor:
    """f(x): what a few-step student makes of clean states, seen at one of its start times without noise."""
    which = torch.full((rows(x),), at % len(student.times), device=x.device)
    t = torch.full((rows(x),), float(student.times[at]), dtype=torch.float64, device=x.device)
    found: Tensor = student.ask(at_scale(student.process, x, t), which, batch.cond).x0
    return found


def idempotence_gap(student: Any, batch: Batch, step: Step, at: int = 0) -> Tensor:
    """(B,) |f(f(z)) - f(z)| / |f(z)|: 0 for an idempotent student; without a gradient."""
    with torch.no_grad():
        y = student.sample(batch, step).x
        return relative(student, batch, again(student, batch, y, at), y)


def relative(student: Any, batch: Batch, a: Tensor, b: Tensor) -> Tensor:
    """(B,) |a - b| / |b| over real elements."""
    geometry = student.process.on(batch.mask).geometry
    apart = geometry.distance(Estimate(a), Estimate(b))
    return (apart / geometry.inner(b, b).clamp(min=1e-24)).sqrt()


def sign(
    times: TimeLaw,
    *,
    matching: Ramp | float = 1.0,
    student: str = "student",
    again: Mapping[str, Any] | None = None,
    **distillation: Any,
) -> Mix:
    """Idempotent distillation without an adversary: lam_s score distillation(f(z)) + the terms of :class:`Idempotence`.

    Args:
        times: law of the times at which the student is judged.
        matching: lam_s.
        student: role name.
        again: settings of :class:`Idempotence`.
        **distillation: settings of :func:`fewstep.objectives.dmd`.
    """
    itself = Idempotence(**{**(again or {}), "student": student})
    return Mix({"again": (1.0, itself), "matching": (matching, dmd(times, student=student, **distillation))})
