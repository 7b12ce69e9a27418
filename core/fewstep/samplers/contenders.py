"""Contenders: samplers that a product compares, made from roles on the shelf."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from fewstep.protocol import Batch, Process, Roles, Sampler, State, Step, rows, tensors
from fewstep.samplers.solvers import Solver


def solver_sampler(
    role: str, solver: Solver, steps: int, grid: Callable[[Process, int], Tensor] | None = None
) -> Sampler:
    """A denoiser integrated by a solver from pure noise.

    Args:
        role: shelf name of the denoiser.
        solver: one of :mod:`fewstep.samplers`.
        steps: intervals of the time grid.
        grid: (process, steps) -> decreasing times; the process' natural grid by default.
    """

    def draw(roles: Roles, batch: Batch, step: Step) -> Iterator[State]:
        model = roles[role]
        process = model.process.on(batch.mask)
        times = process.grid(steps) if grid is None else grid(process, steps)
        noise = process.noise(batch, step.key.at("noise"))
        device = tensors(noise)[0].device
        start = process.corrupt(None, noise, times[0].to(device).expand(rows(noise)))
        yield from solver(model, start, times, batch.cond, key=step.key.at("solver"))

    return Sampler(draw, (role,), lambda count: solver_sampler(role, solver, count, grid))


def one_call_sampler(role: str) -> Sampler:
    """The clean estimate at the noisiest time: the undistilled teacher forced to one step, the usual control."""

    def draw(roles: Roles, batch: Batch, step: Step) -> Iterator[State]:
        model = roles[role]
        process = model.process.on(batch.mask)
        noise = process.noise(batch, step.key.at("noise"))
        t = torch.full((rows(noise),), process.t_max, dtype=torch.float64, device=tensors(noise)[0].device)
        est = model(process.corrupt(None, noise, t), t, batch.cond)
        yield State(est.x0, torch.zeros_like(t), est)

    return Sampler(draw, (role,))


def student_sampler(role: str = "student", steps: int | None = None) -> Sampler:
    """A student's own roll: the visited states, then the sample. Shares its initial noise with ``solver_sampler``."""

    def draw(roles: Roles, batch: Batch, step: Step) -> Iterator[State]:
        sample = roles[role].sample(batch, step, steps=steps)
        yield from sample.path
        device = tensors(sample.x)[0].device
        yield State(sample.x, torch.zeros(rows(sample.x), dtype=torch.float64, device=device), sample.est)

    return Sampler(draw, (role,), lambda count: student_sampler(role, count))
