"""Students, laws of pairs and solvers with closed forms, for the tests of flow maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from objective_toys import Listed
from torch import Tensor, nn

from fewstep.objectives import Pair
from fewstep.objectives.pairs_of_times import Lands
from fewstep.processes import Gaussian
from fewstep.protocol import Batch, Cond, Denoiser, Estimate, Key, Step, spread
from fewstep.testing.analytic import GaussianTeacher, MixtureTeacher

STD = 0.6


class Table(Denoiser):
    """x0 = gain(t) x_t with one number per grid time."""

    def __init__(self, process: Gaussian, grid: Tensor, gains: Tensor) -> None:
        super().__init__(nn.Identity(), process, "x0")
        self.grid = grid
        self.gains = nn.Parameter(gains.clone())

    def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
        place = (t[:, None] - self.grid).abs().argmin(1)
        return Estimate(spread(self.gains[place], xt) * xt)


class Mapped(Denoiser):
    """A flow map in closed form, and how far it is bent away from it.

    Args:
        teacher: an exact denoiser with ``flow_map``.
        bend: 0 = exact.
    """

    def __init__(self, teacher: Any, bend: float = 0.0) -> None:
        super().__init__(nn.Identity(), teacher.process, "x0")
        object.__setattr__(self, "teacher", teacher)
        self.bend = nn.Parameter(torch.tensor(bend, dtype=torch.float64))

    teacher: Any
    accepts = frozenset({"to"})  # type: ignore[assignment]

    def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
        to = asked.get("to")
        denoised = self.teacher(xt, t).x0
        if to is None:
            return Estimate((1 + self.bend) * denoised)
        landed = self.teacher.flow_map(xt, t, to)
        return Estimate(
            (1 + self.bend)
            * torch.where(spread(to < t, xt), leading(self.process, xt, t, to, landed), denoised)
        )


def leading(process: Gaussian, xt: Tensor, t: Tensor, to: Tensor, landed: Tensor) -> Tensor:
    """The clean estimate whose jump from (x_t, t) lands there."""
    kept = process.sigma(to) / process.sigma(t)
    share = process.alpha(to) - kept * process.alpha(t)
    share = torch.where(to < t, share, torch.ones_like(share))
    return (landed - spread(kept, xt) * xt) / spread(share, xt)


class Rearranged(MixtureTeacher):
    """A mixture on the line, whose flow map is the monotone rearrangement CDF_s^{-1}(CDF_t(x))."""

    def flow_map(self, xt: Tensor, t: Tensor, s: Tensor) -> Tensor:
        share = self.below(xt, t)
        low, high = torch.full_like(xt, -200.0), torch.full_like(xt, 200.0)
        for _ in range(70):
            middle = (low + high) / 2
            under = self.below(middle, s) < share
            low, high = torch.where(under, middle, low), torch.where(under, high, middle)
        return (low + high) / 2

    def below(self, x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self.process.alpha(t)[:, None], self.process.sigma(t)[:, None]
        width = ((alpha * self.stds).square() + sigma.square()).sqrt()
        return (self.weights * torch.special.ndtr((x - alpha * self.means[:, 0]) / width)).sum(
            1, keepdim=True
        )


def two_bumps(process: Gaussian) -> Rearranged:
    weights, means, stds = (
        torch.tensor(v, dtype=torch.float64) for v in ((0.3, 0.7), (-2.0, 1.5), (0.5, 0.4))
    )
    return Rearranged(process, weights, means[:, None], stds)


def exactly(teacher: Any) -> Any:
    """The solver that makes no error."""

    def along(process: Any, believe: Any, xt: Tensor, t: Tensor, s: Tensor, draw: Any = None) -> Tensor:
        return teacher.flow_map(xt, t, s)

    return along


@dataclass(frozen=True)
class Every:
    """Each neighboring pair of the grid for each of ``each`` rows: expectations over pairs become finite sums."""

    steps: int
    each: int = 1
    lands: ClassVar[Lands] = "clean"

    def __call__(self, process: Any, count: int, step: Step, key: Key) -> Pair:
        grid = process.grid(self.steps)
        place = torch.arange(self.steps).repeat_interleave(self.each)
        return Pair(grid[place], grid[place + 1])


def step_factors(process: Gaussian, grid: Tensor, solver: Any, std: float = STD) -> Tensor:
    """By how much the teacher's mean step scales a state, from each grid time to the next."""
    teacher = GaussianTeacher(process, 0.0, std)
    one = torch.ones(len(grid) - 1, 1, dtype=torch.float64)
    silence = lambda number: torch.zeros_like(one)  # noqa: E731
    return solver(process, lambda x, t: teacher(x, t), one, grid[:-1], grid[1:], silence).squeeze(1)  # type: ignore[no-any-return]


def solved_gains(process: Gaussian, grid: Tensor, solver: Any) -> Tensor:
    """The product of the teacher's step factors from each grid time to the cleanest."""
    tail = step_factors(process, grid, solver).flip(0).cumprod(0).flip(0) / process.alpha(grid[-1])
    return torch.cat([tail, 1 / process.alpha(grid[-1:])])


def run(objective: Any, roles: Any, x: Tensor, key: Key | None = None, step: Step | None = None) -> Any:
    phase = objective.phases(0)[0]
    return objective.loss(phase, roles, Batch(like=x, x=x), step or Step(0, 10, key or Listed(7)))


def value(loss: Any) -> float:
    return float(loss.total.detach())


def slope(objective: Any, roles: Any, parameter: Tensor, x: Tensor, **kind: Any) -> float:
    """The largest derivative of the loss."""
    (found,) = torch.autograd.grad(run(objective, roles, x, **kind).total, [parameter])
    return float(found.abs().max())


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return Key(seed).normal(torch.zeros(shape, dtype=torch.float64))
