"""Any Gaussian process in coordinates where its flow is simple, at equal signal-to-noise ratio.

y = x_t / scale moves with a clock of its own, dy / dclock = u, and x0 and eps are linear in (y, u). The straight chart
is the rectified flow that the process is after a change of variables; the trigonometric one is TrigFlow. Coefficients
are float64 (B,) and smooth at both ends, where velocities in a process' own time need not be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fewstep.objectives.weights import scaled
from fewstep.processes import Gaussian
from fewstep.processes.convert import Converted
from fewstep.protocol import Batch, Cond, Estimate, Ramp, Step

FLOOR = 1e-9
"""How near to the clean end an estimate is still turned into a velocity."""


@dataclass(frozen=True)
class Chart:
    """One time per sample, in other coordinates.

    Args:
        scale: y = x_t / scale.
        clock: the time of the chart.
        pace: dclock / dt.
        x0: (p, q) of x0 = p y + q u; q < 0.
        eps: (p, q) of eps = p y + q u.
    """

    scale: Tensor
    clock: Tensor
    pace: Tensor
    x0: tuple[Tensor, Tensor]
    eps: tuple[Tensor, Tensor]


Charting: TypeAlias = Callable[[Gaussian, Tensor], Chart]


def straight(process: Gaussian, t: Tensor) -> Chart:
    """The chart y = (1 - s) x0 + s eps with the clock s = sigma / (alpha + sigma), and u = eps - x0."""
    alpha, sigma = process.alpha(t), process.sigma(t)
    scale = alpha + sigma
    clock, one = sigma / scale, torch.ones_like(scale)
    return Chart(scale, clock, _wronskian(process, t) / scale.square(), (one, -clock), (one, 1 - clock))


def trigonometric(process: Gaussian, t: Tensor) -> Chart:
    """The chart y = cos(a) x0 + sin(a) sigma_data eps with tan(a) = sigma / (alpha sigma_data) (Lu & Song 2025 sec. 3)."""
    unit = process.sigma_data
    alpha, noise = process.alpha(t), process.sigma(t) / unit
    scale = (alpha.square() + noise.square()).sqrt()
    cos, sin = alpha / scale, noise / scale
    pace = _wronskian(process, t) / unit / scale.square()
    return Chart(scale, torch.atan2(noise, alpha), pace, (cos, -sin), (sin / unit, cos / unit))


@dataclass(frozen=True)
class Place:
    """States at their times, with the chart there.

    Args:
        process: of the student, with the mask bound.
        charting: ``straight`` or ``trigonometric``.
        xt: states.
        t: (B,) times of the process.
        cond: what the networks see.
    """

    process: Gaussian
    charting: Charting
    xt: Tensor
    t: Tensor
    cond: Cond

    @property
    def chart(self) -> Chart:
        """The coordinates at t."""
        return self.charting(self.process, self.t)

    def ask(self, model: Any, **asked: Any) -> Tensor:
        """U of what a model says here."""
        return self.slope(model, model(self.xt, self.t, self.cond, **asked))

    def slope(self, model: Any, est: Estimate) -> Tensor:
        """U of a model's estimate.

        Made from the network's own output where there is one: predictions that are velocities themselves (edm, flow,
        v, trig) then lose no digit near the clean end, while x0 predictions lose what dividing by q costs.
        """
        if est.raw is None:
            own, other, out = torch.zeros_like(self.t), torch.ones_like(self.t), est.x0
        else:
            own, other = model.process.prediction(model.prediction, self.t)
            out = est.raw
        chart = self.chart
        p, q = chart.x0[0], chart.x0[1].clamp(max=-FLOOR)
        return self.process.geometry.project(
            scaled(self.xt, (own - p / chart.scale) / q) + scaled(out, other / q)
        )

    def take(self, which: Tensor) -> Place:
        """The rows ``which`` (int64 indices), with their conditions and masks."""
        part = Batch(self.xt, cond=self.cond, extra={"t": self.t}).take(which)
        process = self.process.on(part.mask)
        return replace(self, process=process, xt=part.like, t=part.extra["t"], cond=part.cond)

    def known(self, x0: Tensor, eps: Tensor) -> Tensor:
        """U of the pair of data and noise that made these states."""
        (a, b), (c, d) = self.chart.x0, self.chart.eps
        determinant = a * d - b * c
        found: Tensor = scaled(eps, a / determinant) - scaled(x0, c / determinant)
        return found

    def direction(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """(dx_t, dt) for one unit of the clock along the flow with velocity u."""
        chart, law, t = self.chart, self.process.law, self.t.double()
        of_y, of_u = (
            law.alpha_slope(t) * of_x0 + law.sigma_slope(t) * of_eps
            for of_x0, of_eps in zip(chart.x0, chart.eps, strict=True)
        )
        dx = scaled(self.xt, of_y / chart.scale / chart.pace) + scaled(u, of_u / chart.pace)
        return dx, 1 / chart.pace


def answering(teacher: Any, process: Gaussian) -> Any:
    """The teacher, asked about states of the student's process: from another process it answers at equal SNR."""
    same = getattr(teacher.process, "law", None) == process.law
    return teacher if same else Converted(teacher, process)


def rounded(student: Any) -> Iterator[str]:
    """Cautions about a student whose velocity or derivative drowns in rounding."""
    if student.prediction in ("x0", "eps"):
        yield (
            f"the student predicts {student.prediction!r}, whose velocity is a difference divided by a vanishing "
            "number at one end of the process: tangents are noise there; let it predict 'edm', 'flow', 'v' or 'trig'"
        )
    half = {p.dtype for p in student.parameters()} & {torch.float16, torch.bfloat16}
    if half:
        yield (
            f"the student's parameters are {', '.join(sorted(map(str, half)))}: a derivative along the path loses most of "
            "its digits; keep float32 parameters and let the engine use reduced precision for the other passes"
        )


@dataclass(frozen=True)
class WarmUp:
    """A ramp that rises from 0 to 1 in so many cycles."""

    cycles: int

    def __call__(self, step: Step) -> float:
        """The share now."""
        return 1.0 if step.index >= self.cycles else step.index / self.cycles


def unfinished(ramp: Ramp | float, step: Step) -> Iterator[str]:
    """A caution about a warm-up that is longer than its stage."""
    if isinstance(ramp, WarmUp) and ramp.cycles >= step.total:
        yield (
            f"the derivative warms up over {ramp.cycles} cycles and this stage has {step.total}: at its end it counts "
            f"{(step.total - 1) / ramp.cycles:.0%}, and what waits for the warm-up never begins; set warmup to a small part"
        )


@dataclass(frozen=True)
class After:
    """A ramp that is 0 for so many cycles, and then its value."""

    cycles: int
    value: float = 1.0

    def __call__(self, step: Step) -> float:
        """The value now."""
        return self.value if step.index >= self.cycles else 0.0


def _wronskian(process: Gaussian, t: Tensor) -> Tensor:
    t = t.double()
    return process.alpha(t) * process.law.sigma_slope(t) - process.law.alpha_slope(t) * process.sigma(t)
