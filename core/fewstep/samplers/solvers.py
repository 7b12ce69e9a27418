"""How samples are drawn: plain generator functions of one signature.

``(model, x, times, cond, *, key) -> Iterator[State]``: x stands at times[0]; every yielded state is one step further,
with the estimate that led there; the last state is the sample. times is a decreasing (K + 1,) float64 tensor.
Network calls: K for ``ancestral``, for ``renoise`` over K times, and for flow maps (``flow_map``, ``Gamma``), which end
where they land; K + 1 for ``ddim``, ``euler``, ``dpmpp_2m`` and ``Sde``, 2 K + 1 for ``heun``, since these end with a
clean estimate at the last time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fewstep.protocol import Batch, Cond, Estimate, Key, State, Tree, rows, spread, tensors, tree_map

Solver: TypeAlias = Callable[..., Iterator[State]]


def ddim(model: Any, x: Tree, times: Tensor, cond: Cond, *, key: Key | None = None) -> Iterator[State]:
    """Keep the predicted noise from time to time (Song et al. 2021); finish with the clean estimate."""
    process = model.process.on(cond.mask)
    for t, s in _pairs(x, times):
        est = model(x, t, cond)
        x = process.jump(x, est, t, s)
        yield State(x, s, est)
    yield _finish(model, x, times, cond)


def euler(model: Any, x: Tree, times: Tensor, cond: Cond, *, key: Key | None = None) -> Iterator[State]:
    """First order along the velocity; for alpha = 1 it is the same as DDIM."""
    process = model.process.on(cond.mask)
    for t, s in _pairs(x, times):
        est = model(x, t, cond)
        x = _move(x, process.velocity(x, est, t), s - t)
        yield State(x, s, est)
    yield _finish(model, x, times, cond)


def heun(model: Any, x: Tree, times: Tensor, cond: Cond, *, key: Key | None = None) -> Iterator[State]:
    """Second order (Karras et al. 2022 algorithm 1): average the slopes at both ends; finish with the clean estimate."""
    process = model.process.on(cond.mask)
    for t, s in _pairs(x, times):
        est = model(x, t, cond)
        slope = process.velocity(x, est, t)
        ahead = _move(x, slope, s - t)
        slope_ahead = process.velocity(ahead, model(ahead, s, cond), s)
        x = _move(x, tree_map(lambda a, b: (a + b) / 2, slope, slope_ahead), s - t)
        yield State(x, s, est)
    yield _finish(model, x, times, cond)


def dpmpp_2m(model: Any, x: Tree, times: Tensor, cond: Cond, *, key: Key | None = None) -> Iterator[State]:
    """Second order with one call a step: DDIM with the estimate extrapolated in log SNR (Lu et al. 2022 DPM-Solver++)."""
    process = model.process.on(cond.mask)
    before: tuple[Estimate, Tensor] | None = None
    for t, s in _pairs(x, times):
        est = model(x, t, cond)
        width = _quietness(process, s) - _quietness(process, t)
        ahead = est if before is None else _extrapolated(est, before[0], width / (2 * before[1]))
        x = process.jump(x, ahead, t, s)
        before = est, width
        yield State(x, s, est)
    yield _finish(model, x, times, cond)


@dataclass(frozen=True)
class Sde:
    """The reverse SDE with noise of strength eta: 0 is ``ddim``, 1 ``ancestral`` with a clean estimate at its end."""

    eta: float = 1.0

    def __call__(self, model: Any, x: Tree, times: Tensor, cond: Cond, *, key: Key) -> Iterator[State]:
        """Exact between two times while the estimate stands still."""
        process = model.process.on(cond.mask)
        for i, (t, s) in enumerate(_pairs(x, times)):
            est = model(x, t, cond)
            noise = process.noise(Batch(like=x, cond=cond), key.at("step", i))
            x = process.stochastic_jump(x, est, t, s, noise, self.eta)
            yield State(x, s, est)
        yield _finish(model, x, times, cond)


def ancestral(model: Any, x: Tree, times: Tensor, cond: Cond, *, key: Key) -> Iterator[State]:
    """Draw q(x_s | x_t, x0) from time to time; unmasking is this sampler. The last time may be 0."""
    process = model.process.on(cond.mask)
    for i, (t, s) in enumerate(_pairs(x, times)):
        est = model(x, t, cond)
        noise = process.noise(Batch(like=x, cond=cond), key.at("step", i))
        x = process.posterior(x, est, t, s, noise)
        yield State(x, s, est)


def renoise(model: Any, x: Tree, times: Tensor, cond: Cond, *, key: Key) -> Iterator[State]:
    """Clean estimate, fresh noise down to the next time, and again (Song et al. 2023 algorithm 1); ends clean.

    ``times`` are the K start times; K network calls.
    """
    process = model.process.on(cond.mask)
    for i, t in enumerate(times):
        now = _at(x, t)
        if i > 0:
            noise = process.noise(Batch(like=x, cond=cond), key.at("step", i))
            x = process.corrupt(x, noise, now)
        est = model(x, now, cond)
        x = est.x0
        yield State(x, _at(x, torch.zeros((), dtype=torch.float64)), est)


def flow_map(model: Any, x: Tree, times: Tensor, cond: Cond, *, key: Key | None = None) -> Iterator[State]:
    """Land where the network is told to (``to``), time by time; ends with the state of the last time made clean."""
    yield from _maps(model, x, times, cond, lambda _process, s, _number: (s, None))


@dataclass(frozen=True)
class Gamma:
    """Land below the next time and add fresh noise up to it (Kim et al. 2024 CTM sec. 3.4).

    The landing has sqrt(1 - gamma^2) of the next time's sigma / alpha: 0 is ``flow_map``, 1 lands as clean as networks
    are asked about before each step, as ``renoise`` does. Exact maps keep every marginal for every gamma.
    """

    gamma: float = 0.5

    def __call__(self, model: Any, x: Tree, times: Tensor, cond: Cond, *, key: Key) -> Iterator[State]:
        """The last step adds no noise."""

        def plan(process: Any, s: Tensor, i: int) -> tuple[Tensor, Tree]:
            if i == len(times) - 2:
                return s, None
            noise = process.noise(Batch(like=x, cond=cond), key.at("step", i))
            return landing(process, s, self.gamma), noise

        yield from _maps(model, x, times, cond, plan)


def landing(process: Any, s: Tensor, gamma: float) -> Tensor:
    """Where a map lands that will get fresh noise up to s."""
    quiet: Tensor = process.quieter(s, (1 - gamma**2) ** 0.5)
    return torch.maximum(quiet, torch.full_like(quiet, process.t_min))


def made_clean(process: Any, x: Tree, t: Tensor) -> Tree:
    """A state at the cleanest time in the units of clean states: x / alpha (Song et al. 2023 eq. 4)."""
    return process.x0(x, x, t, "boundary")


def _maps(model: Any, x: Tree, times: Tensor, cond: Cond, plan: Callable[..., Any]) -> Iterator[State]:
    """``plan(process, s, i)`` says where to land on the way to s, and which noise leads from there to s."""
    process = model.process.on(cond.mask)
    for i, (t, s) in enumerate(_pairs(x, times)):
        to, noise = plan(process, s, i)
        est = model(x, t, cond, to=to)
        x = process.jump(x, est, t, to)
        x = x if noise is None else process.corrupt(x, noise, s, since=to)
        yield State(x, s, est)
    end = _at(x, times[-1])
    yield State(made_clean(process, x, end), torch.zeros_like(end), est)


def _quietness(process: Any, t: Tensor) -> Tensor:
    """log(alpha / sigma): half the log SNR."""
    quietness: Tensor = process.alpha(t).log() - process.sigma(t).log()
    return quietness


def _extrapolated(now: Estimate, before: Estimate, share: Tensor) -> Estimate:
    def ahead(a: Tensor, b: Tensor) -> Tensor:
        return a + spread(share.to(a.dtype), a) * (a - b)

    return Estimate(tree_map(ahead, now.x0, before.x0))


def _finish(model: Any, x: Tree, times: Tensor, cond: Cond) -> State:
    """The clean estimate at the last time: a state at t_min still carries a little noise."""
    t = _at(x, times[-1])
    est = model(x, t, cond)
    return State(est.x0, torch.zeros_like(t), est)


def _pairs(x: Tree, times: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for t, s in itertools.pairwise(times):
        yield _at(x, t), _at(x, s)


def _at(x: Tree, t: Tensor) -> Tensor:
    """One time for every row, on the state's device."""
    return t.to(device=tensors(x)[0].device, dtype=torch.float64).expand(rows(x))


def _move(x: Tree, slope: Tree, dt: Tensor) -> Tree:
    def step(a: Tensor, v: Tensor) -> Tensor:
        return a + dt.to(a.dtype).reshape(dt.shape + (1,) * (a.ndim - dt.ndim)) * v

    return tree_map(step, x, slope)
