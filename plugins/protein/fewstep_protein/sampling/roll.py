"""Start times of a few-step roll over flow time (0 = data, 1 = noise), shared by the chain recipes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from fewstep.protocol import Batch, Process, Roles, Sampler, State, Step
from fewstep.samplers import Solver, renoise, solver_sampler, student_sampler

FINE = 400
"""Steps of Proteina's sampler, on whose grid t = 10^(-2 s / 400) its distilled students start."""
FIRST = 30
"""The step of that grid, t = 0.708, at which students of several steps begin."""
SINGLE = 0.63
"""Where the student of one step begins."""


def roll_times(steps: int, finest: float = 0.01) -> tuple[float, ...]:
    """Start times of a student: steps of Proteina's grid, even in the logarithm of the noise (Xie et al. 2025).

    Args:
        steps: network calls K; a single step starts at SINGLE.
        finest: start time of the last step; 0.01 as published.

    Raises:
        ValueError: no step, more than the grid has, or a finest time that is not below the first.
    """
    last = round(-FINE / 2 * math.log10(finest)) if 0 < finest < 1 else 0
    if not 1 <= steps <= last - FIRST:
        first = 10 ** (-2 * FIRST / FINE)
        raise ValueError(
            f"a roll needs at least one step, a finest time in (0, {first:.3f}) and at most one step of the grid "
            f"for each of its own; got {steps} steps down to {finest}"
        )
    if steps == 1:
        return (SINGLE,)
    places = torch.linspace(FIRST, last, steps).round()
    return tuple((10 ** (-2 * places.double() / FINE)).tolist())


def as_grid(times: tuple[float, ...]) -> Callable[[Process, int], Tensor]:
    """These times as the ``grid`` of a sampler."""

    def grid(process: Process, steps: int) -> Tensor:
        return torch.tensor(times, dtype=torch.float64)

    return grid


def roll_sampler(role: str = "student", finest: float = 0.01, steps: int | None = None) -> Sampler:
    """A student's roll; with another number of steps than its own, over the grid of such a student.

    Args:
        role: shelf name of a ``FewStep``.
        finest: as in :func:`roll_times`.
        steps: network calls; None = its own.

    Raises:
        ValueError: the grid has no such student.
    """
    own = student_sampler(role)
    if steps is None:
        return replace(own, with_steps=lambda count: roll_sampler(role, finest, count))
    times = roll_times(steps, finest)

    def draw(roles: Roles, batch: Batch, step: Step) -> Iterator[State]:
        student = copy.copy(roles[role])
        student.times = times
        yield from own.fn({**roles, role: student}, batch, step)

    return Sampler(draw, (role,), lambda count: roll_sampler(role, finest, count))


def undistilled(role: str, steps: int, finest: float = 0.01, solver: Solver = renoise) -> Sampler:
    """The control of a student: a teacher made to roll over the student's times."""
    made = solver_sampler(role, solver, steps, as_grid(roll_times(steps, finest)))
    return replace(made, with_steps=lambda count: undistilled(role, count, finest, solver))
