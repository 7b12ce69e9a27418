"""How samples are drawn: plain generator functions of one signature.

``(model, x, times, cond, *, key) -> Iterator[State]``: x stands at times[0]; every yielded state is one step further,
with the estimate that led there; the last state is the sample. times is a decreasing (K + 1,) float64 tensor.
Network calls: K for ``ancestral`` and for ``renoise`` over K times; K + 1 for ``ddim`` and ``euler``, 2 K + 1 for
``heun``, since these end with a clean estimate at the last time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fewstep.protocol import Batch, Cond, Key, State, Tree, rows, tensors, tree_map

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
