"""How a teacher moves a state from t to s, and where training states come from.

``(process, believe, x_t, t, s, draw) -> x_s``, each row at times of its own; ``draw(i)`` is the i-th fresh noise.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fewstep.protocol import Estimate, Tree, spread, tree_map

Believe: TypeAlias = Callable[[Tree, Tensor], Estimate]
Draw: TypeAlias = Callable[[int], Tree]
PairSolver: TypeAlias = Callable[[Any, Believe, Tree, Tensor, Tensor, Draw], Tree]
States: TypeAlias = Callable[[Any, Believe, Tree, Tensor, Draw], Tree]
"""``(process, believe, noise, t, draw) -> x_t``, from the teacher alone."""


def silent(number: int) -> Tree:
    """For solvers that draw nothing."""
    raise ValueError("this solver draws noise; give it draw=..., a function from a number to noise")


def ddim(process: Any, believe: Believe, xt: Tree, t: Tensor, s: Tensor, draw: Draw = silent) -> Tree:
    """One DDIM step: keep the predicted noise."""
    return process.jump(xt, believe(xt, t), t, s)


def euler(process: Any, believe: Believe, xt: Tree, t: Tensor, s: Tensor, draw: Draw = silent) -> Tree:
    """One Euler step along the velocity."""
    return _moved(xt, process.velocity(xt, believe(xt, t), t), s - t)


def heun(process: Any, believe: Believe, xt: Tree, t: Tensor, s: Tensor, draw: Draw = silent) -> Tree:
    """One Heun step: the mean of the slopes at both ends (Karras et al. 2022 algorithm 1)."""
    slope = process.velocity(xt, believe(xt, t), t)
    ahead = _moved(xt, slope, s - t)
    slope_ahead = process.velocity(ahead, believe(ahead, s), s)
    return _moved(xt, tree_map(lambda a, b: (a + b) / 2, slope, slope_ahead), s - t)


@dataclass(frozen=True)
class Sde:
    """Steps of the reverse SDE whose noise has strength eta (Liu et al. 2024 SCott).

    Args:
        eta: 0 is DDIM, 1 the ancestral sampler.
        substeps: how many, evenly in time; on a chain to the nearest whole time.
    """

    eta: float = 0.2
    substeps: int = 1

    def __call__(
        self, process: Any, believe: Believe, xt: Tree, t: Tensor, s: Tensor, draw: Draw = silent
    ) -> Tree:
        """One call of the teacher for each."""
        times = [torch.lerp(t, s, i / self.substeps) for i in range(self.substeps + 1)]
        if getattr(process, "whole", False):
            times = [time.round() for time in times]
        for i, (here, there) in enumerate(itertools.pairwise(times)):
            xt = process.stochastic_jump(xt, believe(xt, here), here, there, draw(i), self.eta)
        return xt


@dataclass(frozen=True)
class Along:
    """Another solver, time by time along the process' grid; each row goes its own way from t to s.

    Args:
        solver: makes each step.
        steps: intervals of the grid.
    """

    solver: PairSolver
    steps: int

    def __call__(
        self, process: Any, believe: Believe, xt: Tree, t: Tensor, s: Tensor, draw: Draw = silent
    ) -> Tree:
        """As many steps as the row with the longest way needs; rows that have arrived stand still."""
        rising = process.grid(self.steps).flip(0).to(t.device)
        for i in range(self._longest(rising, t, s)):
            below = rising[(torch.searchsorted(rising, t) - 1).clamp(min=0)]
            there = torch.maximum(below, s)
            numbered: Draw = lambda number, i=i: draw(i + number * self.steps)  # type: ignore[misc]  # noqa: E731
            xt, t = self.solver(process, believe, xt, t, there, numbered), there
        return xt

    @staticmethod
    def _longest(rising: Tensor, t: Tensor, s: Tensor) -> int:
        """Steps of the row that has the longest way; asked once, since a device is waited for."""
        between = (rising > s.unsqueeze(1)) & (rising < t.unsqueeze(1))
        return int((between.sum(1) + (t > s)).max())


@dataclass(frozen=True)
class FromTeacher:
    """States on the teacher's own trajectories from pure noise: no data is read (Xie et al. 2024 MLCM).

    Args:
        steps: intervals of its grid from the noisiest time to the cleanest.
        solver: makes each step.
    """

    steps: int = 16
    solver: PairSolver = ddim

    def __call__(self, process: Any, believe: Believe, noise: Tree, t: Tensor, draw: Draw) -> Tree:
        """The state at t."""
        top = torch.full_like(t, process.t_max)
        begin = process.corrupt(None, noise, top)
        return Along(self.solver, self.steps)(process, believe, begin, top, t, draw)


def _moved(x: Tree, slope: Tree, dt: Tensor) -> Tree:
    return tree_map(lambda a, v: a + spread(dt.to(a.dtype), a) * v, x, slope)
