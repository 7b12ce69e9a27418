"""Exact flow maps, and the places where the tests of continuous time look at them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from objective_toys import At, unit_process
from torch import Tensor, nn

from fewstep.objectives import SCM, MeanFlow
from fewstep.objectives.continuous import Place, trigonometric
from fewstep.processes import Gaussian, edm, flow, trig, vp
from fewstep.protocol import (
    Batch,
    Cond,
    Denoiser,
    Estimate,
    Key,
    Sample,
    Step,
    spread,
)
from fewstep.testing.analytic import CovarianceTeacher, GaussianTeacher, MixtureTeacher
from fewstep.testing.linear import LinearFake

MEAN, STD = 0.7, 0.6
STEP = Step(1, 10, Key(2))
PROCESSES = [edm(sigma_data=0.8), flow(), trig(), vp()]
COVARIANCE = torch.tensor([[1.0, 0.6, -0.2], [0.6, 0.8, 0.1], [-0.2, 0.1, 0.3]], dtype=torch.float64)


def diagonal(process: Gaussian) -> Any:
    mean = torch.tensor([0.7, -0.3, 2.0], dtype=torch.float64)
    return GaussianTeacher(process, mean, torch.tensor([0.6, 1.3, 0.2], dtype=torch.float64))


def rotated(process: Gaussian) -> Any:
    return CovarianceTeacher(process, COVARIANCE, torch.tensor([0.7, -0.3, 2.0], dtype=torch.float64))


class Landing(Denoiser):
    """A student that goes where ``flow_map`` leads: to the clean state unless it is told where."""

    accepts = frozenset({"to"})

    def __init__(self, process: Any, flow_map: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__(nn.Identity(), process, "x0")
        self.flow_map = flow_map

    def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
        process: Any = self.process
        to = torch.zeros_like(t) if asked.get("to") is None else asked["to"]
        kept = process.sigma(to) / process.sigma(t)
        move = self.flow_map(xt, t, to) - spread(kept, xt) * xt
        return Estimate(move / spread(process.alpha(to) - kept * process.alpha(t), xt))


class Learner(Denoiser):
    """The exact flow map of N(shift, gain^2), whose two numbers are learned."""

    accepts = frozenset({"to"})

    def __init__(self, process: Gaussian, gain: float, shift: float) -> None:
        super().__init__(nn.Identity(), process, "x0")
        self.gain = nn.Parameter(torch.tensor(gain, dtype=torch.float64))
        self.shift = nn.Parameter(torch.tensor(shift, dtype=torch.float64))

    def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
        process: Any = self.process
        to = torch.zeros_like(t) if asked.get("to") is None else asked["to"]
        (a, b), (c, d) = ((process.alpha(u), process.sigma(u)) for u in (t, to))
        now, then = ((p * self.gain).square() + q.square() for p, q in ((a, b), (c, d)))
        kept, stays = d / b, t == to
        reach = torch.where(stays, 1.0, c - kept * a)
        pull = torch.where(stays, a * self.gain.square() / now, ((then / now).sqrt() - kept) / reach)
        return Estimate(self.shift + spread(pull, xt) * (xt - spread(a, xt) * self.shift))

    def generate(self, batch: Batch, step: Step, **asked: Any) -> Sample:
        process: Any = self.process
        noise = process.noise(batch, step.key.at("noise"))
        t = torch.full((len(noise),), process.t_max, dtype=torch.float64)
        est = self(process.corrupt(None, noise, t), t)
        return Sample(est.x0, batch.cond, est)

    sample = generate


def place(process: Any, charting: Any = trigonometric, low: float = 0.05, high: float = 0.95) -> Place:
    """64 states of the diagonal law at times spread over the range of the process."""
    z, eps = (Key(3).at(i).normal(torch.zeros(64, 3, dtype=torch.float64)) for i in (0, 1))
    x = torch.tensor([0.7, -0.3, 2.0]) + z @ torch.linalg.cholesky(COVARIANCE).T
    ratio = torch.logspace(math.log10(low), math.log10(high / (1 - high)), 64, dtype=torch.float64)
    t = process.law.time_of_ratio(ratio)
    return Place(process, charting, process.corrupt(x, eps, t), t, Cond())


def tangent(objective: SCM, here: Place, student: Any, teacher: Any, step: Step = STEP) -> Tensor:
    with torch.no_grad():
        return objective.tangent(here, student, here.ask(student), here.ask(teacher), step)


def monotone(process: Gaussian, teacher: MixtureTeacher) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The flow map on the line: quantiles keep their rank, CDF_s(f(x)) = CDF_t(x)."""

    def rank(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = process.alpha(t)[:, None], process.sigma(t)[:, None]
        width = ((alpha * teacher.stds).square() + sigma.square()).sqrt()
        return (torch.special.ndtr((x - alpha * teacher.means.T) / width) * teacher.weights).sum(-1, True)

    def flow_map(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        low, high = torch.full_like(x, -40.0), torch.full_like(x, 40.0)
        for _ in range(60):
            middle = (low + high) / 2
            above = rank(middle, s) > rank(x, t)
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return (low + high) / 2

    return flow_map


def two_modes(process: Gaussian) -> MixtureTeacher:
    numbers = ([0.3, 0.7], [[-2.0], [1.5]], [0.5, 0.4])
    return MixtureTeacher(process, *(torch.tensor(part, dtype=torch.float64) for part in numbers))


def identity_gap(here: Place, student: Any, teacher: Any, r: Tensor, derivative: Any = None) -> float:
    """Largest |u - (v - (s_t - s_r) du/ds)|."""
    objective = MeanFlow(At(1.0)) if derivative is None else MeanFlow(At(1.0), derivative=derivative)
    with torch.no_grad():
        velocity = here.ask(teacher)
        target = objective.target(here, student, velocity, r, 1.0)
        return float((here.ask(student, to=r) - target).abs().max())


class Raw(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.calls = 0

    def forward(self, x: Tensor, time: Tensor, cond: Cond, to: Tensor | None = None) -> Tensor:
        self.calls += 1
        found: Tensor = self.layer(x) * torch.cos(time)[:, None]
        return found


def duel(gain: float, shift: float) -> tuple[dict[str, Any], Batch]:
    process = unit_process()
    student: Any = Learner(process, gain, shift)
    x = MEAN + STD * Key(23).normal(torch.zeros(64, 2, dtype=torch.float64))
    teacher = GaussianTeacher(process, MEAN, STD)
    return {"teacher": teacher, "student": student, "fake": LinearFake(process, student)}, Batch(x, x)
