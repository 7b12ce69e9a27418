"""Consistency in continuous time: the two points of a pair move together until only a tangent is left.

The student in TrigFlow coordinates is D = cos(a) y - sin(a) sigma_data F. Where it sends a whole trajectory to one
point, the tangent cos(a) dD/da vanishes; the loss moves F along it (Lu & Song 2025 eq. 8 and sec. 4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from fewstep.objectives.continuous import Place, answering, rounded, trigonometric, unfinished
from fewstep.objectives.corruption import draw_times
from fewstep.objectives.rollout import ask_teacher, same_randomness
from fewstep.objectives.tangent import Derivative, forward
from fewstep.objectives.weights import Weight, scaled
from fewstep.processes import Gaussian, TimeLaw
from fewstep.protocol import (
    Batch,
    Denoiser,
    Estimate,
    Loss,
    Phase,
    Process,
    Ramp,
    Role,
    Roles,
    Step,
    at_step,
    spread,
)

Pull: TypeAlias = Callable[[Tensor, Tensor, float], Tensor]
"""``(cos a, sin a, r) -> (B,)``: how strongly F is pulled to the flow's velocity at warm-up r."""


def scm_pull(cos: Tensor, sin: Tensor, ramp: float) -> Tensor:
    """cos^2 at every r (Lu & Song 2025 sec. 4.1)."""
    return cos.square()


def rcm_pull(cos: Tensor, sin: Tensor, ramp: float) -> Tensor:
    """Cos sqrt(1 - r^2 sin^2): flow matching with weight cos at r = 0, sCM at r = 1 (Zheng et al. 2025 rCM)."""
    return cos * (1 - (ramp * sin).square()).sqrt()


def inverse_sigma(process: Process, t: Tensor) -> Tensor:
    """Weight alpha / sigma: the prior weight 1 / (sigma_data tan a) (Lu & Song 2025 sec. 4.2)."""
    gaussian: Any = process
    found: Tensor = gaussian.alpha(t) / gaussian.sigma(t)
    return found


class LogVariance(nn.Module):
    """l(a) as a cosine series on [0, pi / 2]: how large the loss is expected to be at each noise level.

    Args:
        terms: of the series.
    """

    def __init__(self, terms: int = 16) -> None:
        """Begin at l = 0."""
        super().__init__()
        self.coefficients = nn.Parameter(torch.zeros(terms))

    def forward(self, angle: Tensor) -> Tensor:
        """(B,) -> (B,)."""
        order = 2 * torch.arange(len(self.coefficients), device=angle.device)
        waves = torch.cos(angle.unsqueeze(1) * order).to(self.coefficients.dtype)
        return waves @ self.coefficients


@dataclass(frozen=True)
class SCM:
    """Continuous-time consistency on any Gaussian process. Roles: student, and where they are named the other two.

    g = -pull (sigma_data F - dy/da) - r (cos sin y + cos sin sigma_data dF/da), divided by its norm + c; the loss is
    w norm(F - sg(F) - g)^2. Norms follow the geometry: means over elements are sCM's, sums are rCM's.

    Args:
        times: law of the times.
        weight: w(t) on F.
        ramp: r, how much of the unstable part of the tangent counts; it warms up.
        pull: how F is drawn to the flow meanwhile: ``scm_pull`` or ``rcm_pull``.
        constant: c of the normalization.
        derivative: how dF/da is taken: ``forward``, ``Difference()``, ``SemiContinuous()``.
        guidance: the teacher's guidance scale g, for teachers that take one.
        log_variance: role of a head l(a), :class:`LogVariance` by default: the loss becomes exp(-l) L + l.
        teacher: role name; None = consistency training, dy/da of data and noise.
        student: role name.

    Raises:
        ValueError: if guidance comes without a teacher.
    """

    times: TimeLaw
    weight: Weight = inverse_sigma
    ramp: Ramp | float = 1.0
    pull: Pull = scm_pull
    constant: float = 0.1
    derivative: Derivative = forward
    guidance: Ramp | float | None = None
    log_variance: str | None = None
    teacher: str | None = "teacher"
    student: str = "student"

    def __post_init__(self) -> None:
        """Guidance belongs to a teacher."""
        if self.teacher is None and self.guidance is not None:
            raise ValueError("consistency training has no teacher to guide; leave guidance out")

    @property
    def roles(self) -> Mapping[str, Role]:
        """The student, and those that are named."""
        roles = {self.student: Role(kind=Denoiser, init=self.teacher, process=Gaussian)}
        if self.teacher is not None:
            asked = frozenset(() if self.guidance is None else {"guidance"})
            roles[self.teacher] = Role(kind=Denoiser, trainable=False, accepts=asked, process=Gaussian)
        if self.log_variance is not None:
            roles[self.log_variance] = Role(default=_head)
        return roles

    @property
    def reads(self) -> frozenset[str]:
        """Clean states."""
        return frozenset({"x"})

    def phases(self, index: int) -> Sequence[Phase]:
        """One update."""
        head = () if self.log_variance is None else (self.log_variance,)
        return (Phase("student", (self.student, *head)),)

    def cautions(self, roles: Roles, batch: Batch, step: Step) -> Iterator[str]:
        """Networks whose velocity is rounded away, or whose derivative is; a warm-up without an end."""
        yield from rounded(roles[self.student])
        yield from unfinished(self.ramp, step)

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss:
        """Two passes of the student, one with a graph and one for the tangent; one of the teacher."""
        student = roles[self.student]
        process = student.process.on(batch.mask)
        t = draw_times(self.times, batch.x, step, step.key.at("time"))
        noise = process.noise(batch, step.key.at("noise"))
        here = Place(process, trigonometric, process.corrupt(batch.x, noise, t), t, batch.cond)
        with same_randomness(step.key.at("dropout")):
            own = here.ask(student)
        with torch.no_grad():
            flow = here.known(batch.x, noise) if self.teacher is None else self._taught(roles, here, step)
            with same_randomness(step.key.at("dropout")):
                g = self.tangent(here, student, own.detach(), flow, step)
            norm = process.geometry.inner(g, g).sqrt()
            finite = norm.isfinite()
            g = torch.where(spread(finite, g), scaled(g, 1 / (norm + self.constant)), torch.zeros_like(g))
        moved = torch.where(spread(finite, own), own - own.detach(), torch.zeros_like(own))
        gap = process.geometry.distance(Estimate(moved / process.sigma_data), Estimate(g))
        total = (self._weighted(roles, here, gap) * finite).mean()
        logs = {"tangent": torch.where(finite, norm, 0.0).mean(), "nonfinite": (~finite).double().mean()}
        return Loss(total, {"loss": total.detach(), **logs})

    def tangent(self, here: Place, student: Any, own: Tensor, flow: Tensor, step: Step) -> Tensor:
        """G before its normalization.

        Args:
            here: trigonometric.
            student: whose tangent it is.
            own: sigma_data F.
            flow: dy/da.
            step: for the warm-up.
        """

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            return replace(here, xt=x, t=t).ask(student)

        chart, ramp = here.chart, at_step(self.ramp, step)
        cos, sin = chart.x0[0], -chart.x0[1]
        pulled = scaled(flow - own, self.pull(cos, sin, ramp))
        if ramp == 0.0:
            return pulled
        dx, dt = here.direction(flow)
        turned = self.derivative(velocity, (here.xt, here.t), (scaled(dx, cos * sin), dt * cos * sin))
        return pulled - ramp * (scaled(here.xt, cos * sin / chart.scale) + turned)

    def _taught(self, roles: Roles, here: Place, step: Step) -> Tensor:
        """dy/da of the teacher."""
        teacher = answering(roles[str(self.teacher)], here.process)
        return here.slope(teacher, ask_teacher(teacher, here.xt, here.t, here.cond, self.guidance, step))

    def _weighted(self, roles: Roles, here: Place, gap: Tensor) -> Tensor:
        loss = self.weight(here.process, here.t).to(gap.dtype) * gap
        if self.log_variance is None:
            return loss
        expected: Tensor = roles[self.log_variance](here.chart.clock)
        return torch.exp(-expected) * loss + expected


def _head(roles: Roles, batch: Batch) -> LogVariance:
    """The head of a recipe that brings none."""
    return LogVariance()
