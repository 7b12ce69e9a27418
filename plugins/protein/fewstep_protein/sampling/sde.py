"""The many-step sampler of Proteina: the flow with a pull towards likely places, and noise of a chosen temperature.

Geffner et al. 2025 (arXiv:2503.00710) section 3.4, in our flow time (0 = data, 1 = noise; theirs is 1 - t):

    x <- x + h (v + g s) + sqrt(2 g gamma h) noise,    g(t) = 1 / (1 - t + 0.01),

with v the velocity towards data and s the score. gamma 1 samples the law of the data, below it a colder one: noise of
variance gamma gives a Gaussian of variance gamma, as a few-step roll whose noise is scaled by sqrt(gamma) does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewstep.protocol import Batch, Cond, Key, Process, State, rows, spread


def log_grid(process: Process, steps: int, decades: float = 2.0) -> Tensor:
    """(steps + 1,) times from t_max to t_min, denser towards data: 10^(-2 u) of an even u, brought to the ends."""
    if steps < 1:
        raise ValueError(f"a time grid needs at least one step, got {steps}")
    fall = torch.logspace(0.0, -decades, steps + 1, dtype=torch.float64)
    share = (fall - fall[-1]) / (fall[0] - fall[-1])
    return process.t_min + (process.t_max - process.t_min) * share


@dataclass(frozen=True)
class FlowSde:
    """Proteina's sampler on rectified flow; K + 1 calls for K intervals, as the estimate at the last time ends it.

    Not for few steps: g is 100 where signal begins, and a first step longer than 1 / g overshoots.

    Args:
        gamma: variance of the noise; 1 keeps the law of the data, Proteina takes 0.35 to 0.45.
        quiet: below this time the flow is followed without noise.
    """

    gamma: float = 1.0
    quiet: float = 0.01

    def __call__(self, model: Any, x: Tensor, times: Tensor, cond: Cond, *, key: Key) -> Iterator[State]:
        """Euler-Maruyama from time to time; finishes with the clean estimate."""
        process = model.process.on(cond.mask)
        for i, (t, s) in enumerate(itertools.pairwise(times)):
            now = _at(x, t)
            est = model(x, now, cond)
            step = -process.velocity(x, est, now) * (t - s)
            if t > self.quiet:
                pull = (t - s) / (1 - t + 0.01)
                noise = process.noise(Batch(like=x, cond=cond), key.at("step", i))
                score = spread(-1 / process.sigma(now).to(x.dtype), x) * process.eps(x, est, now)
                step = step + pull * score + (2 * self.gamma * pull).sqrt() * noise
            x = x + step.to(x.dtype)
            yield State(x, _at(x, s), est)
        last = _at(x, times[-1])
        est = model(x, last, cond)
        yield State(est.x0, torch.zeros_like(last), est)


def _at(x: Tensor, t: Tensor) -> Tensor:
    return t.to(device=x.device, dtype=torch.float64).expand(rows(x))
