"""Contenders: samplers that a product compares, made from roles on the shelf."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fewstep.errors import FewstepError
from fewstep.protocol import (
    Batch,
    Cond,
    Denoiser,
    Estimate,
    Process,
    Roles,
    Sampler,
    State,
    Step,
    rows,
    tensors,
)
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

    Like every contender here it multiplies all its noise by ``batch.extra["noise_scale"]``, a number, where it is given.
    """

    def draw(roles: Roles, batch: Batch, step: Step) -> Iterator[State]:
        model = _at_scale(roles[role], batch)
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
        model = _at_scale(roles[role], batch)
        process = model.process.on(batch.mask)
        noise = process.noise(batch, step.key.at("noise"))
        t = torch.full((rows(noise),), process.t_max, dtype=torch.float64, device=tensors(noise)[0].device)
        est = model(process.corrupt(None, noise, t), t, batch.cond)
        yield State(est.x0, torch.zeros_like(t), est)

    return Sampler(draw, (role,))


def student_sampler(role: str = "student", steps: int | None = None) -> Sampler:
    """A student's own roll: the visited states, then the sample. Shares its initial noise with ``solver_sampler``."""

    def draw(roles: Roles, batch: Batch, step: Step) -> Iterator[State]:
        sample = _at_scale(roles[role], batch).sample(batch, step, steps=steps)
        yield from sample.path
        device = tensors(sample.x)[0].device
        yield State(sample.x, torch.zeros(rows(sample.x), dtype=torch.float64, device=device), sample.est)

    return Sampler(draw, (role,), lambda count: student_sampler(role, count))


def at_noise_scale(sampler: Sampler, scale: float) -> Sampler:
    """The same contender with all its noise times ``scale``."""

    def draw(roles: Roles, batch: Batch, step: Step) -> Iterator[State]:
        yield from sampler.fn(roles, replace(batch, extra={**batch.extra, "noise_scale": scale}), step)

    fewer = sampler.with_steps
    return replace(
        sampler,
        fn=draw,
        with_steps=None if fewer is None else lambda count: at_noise_scale(fewer(count), scale),
    )


@dataclass(frozen=True)
class Sharpened:
    """A denoiser of tokens with its logits multiplied, for a solver: far above 1 it is greedy decoding.

    As a control it shows what repetitive samples look like to metrics that can be cheated.

    Args:
        model: the denoiser.
        sharpness: factor on the logits, an inverse temperature; 1 leaves them as they are.
    """

    model: Any
    sharpness: float

    @property
    def process(self) -> Any:
        """The denoiser's."""
        return self.model.process

    @property
    def net(self) -> Any:
        """The denoiser's, not sharpened."""
        return self.model.net

    def __call__(self, xt: Tensor, t: Tensor, cond: Cond) -> Estimate:
        """Its estimate, sharpened."""
        est: Estimate = self.model(xt, t, cond)
        return est if self.sharpness == 1.0 else Estimate(est.x0 * self.sharpness)


def _at_scale(model: Any, batch: Batch) -> Any:
    """The model over the process whose noise the batch asks for, bound to its mask once and not in every call.

    Raises:
        FewstepError: a process whose noise has no scale.
    """
    scale = float(batch.extra.get("noise_scale", 1.0))
    if scale == 1.0:
        return model.over(model.process.on(batch.mask)) if isinstance(model, Denoiser) else model
    scaled = getattr(model.process, "scaled", None)
    if scaled is None:
        raise FewstepError(
            f"a noise scale of {scale:g} was asked for, but noise of a {type(model.process).__name__} process has none",
            "a noise scale of 1",
            "leave the noise scale out",
        )
    return model.over(scaled(scale).on(batch.mask))
