"""Time laws: plain callables (shape, step, key) -> float64 times. Fields of whoever uses them, never of a process."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import torch
from jaxtyping import Float64
from torch import Tensor

from fewstep.processes.laws import Law, RectifiedFlow, shifted
from fewstep.protocol import Key, Ramp, Step, at_step

TimeLaw: TypeAlias = Callable[[Sequence[int], Step, Key], Tensor]


@dataclass(frozen=True)
class Uniform:
    """Uniform on [low, high]; either end may be a ramp."""

    low: Ramp | float
    high: Ramp | float

    def __call__(self, shape: Sequence[int], step: Step, key: Key) -> Float64[Tensor, ...]:
        """Times of the given shape."""
        low, high = at_step(self.low, step), at_step(self.high, step)
        return low + (high - low) * key.uniform(shape)


@dataclass(frozen=True)
class LogNormal:
    """ln t normal with ``mean`` and ``std``, truncated to [low, high] by its inverse distribution function.

    Karras et al. 2022 table 1 takes (-1.2, 1.2). Clamping instead would put atoms at the ends.
    """

    mean: float
    std: float
    low: float
    high: float

    def __call__(self, shape: Sequence[int], step: Step, key: Key) -> Float64[Tensor, ...]:
        """Times of the given shape."""
        ends = torch.tensor([self.low, self.high], dtype=torch.float64)
        return torch.exp(_truncated(self.mean, self.std, ends.log(), key.uniform(shape)))


@dataclass(frozen=True)
class LogitNormal:
    """t = low + (high - low) sigmoid(n), n normal (Esser et al. 2024 sec. 3.1)."""

    mean: float
    std: float
    low: float = 0.0
    high: float = 1.0

    def __call__(self, shape: Sequence[int], step: Step, key: Key) -> Float64[Tensor, ...]:
        """Times of the given shape."""
        ends = torch.tensor([-math.inf, math.inf], dtype=torch.float64)
        share = torch.sigmoid(_truncated(self.mean, self.std, ends, key.uniform(shape)))
        return self.low + (self.high - self.low) * share


@dataclass(frozen=True)
class LogStudent:
    """ln t = mean + std T, T Student-t with ``freedom`` degrees, cut to [low, high] (Lee et al. 2025, TCM).

    Its tails are almost flat: middle times are stressed and none is forgotten. The distribution function is tabulated,
    which is exact to 1e-6.
    """

    mean: float
    std: float
    low: float
    high: float
    freedom: float = 0.01

    def __call__(self, shape: Sequence[int], step: Step, key: Key) -> Float64[Tensor, ...]:
        """Times of the given shape."""
        place, share = self._table
        uniform = key.uniform(shape)
        above = torch.searchsorted(share, uniform, right=True).clamp(1, len(share) - 1)
        low, high = share[above - 1], share[above]
        inside = (uniform - low) / (high - low)
        return torch.exp(place[above - 1] + inside * (place[above] - place[above - 1]))

    @cached_property
    def _table(self) -> tuple[Tensor, Tensor]:
        """Places of ln t, and the distribution function there."""
        place = torch.linspace(math.log(self.low), math.log(self.high), 40_001, dtype=torch.float64)
        squares = ((place - self.mean) / self.std).square() / self.freedom
        share = torch.cumulative_trapezoid(torch.exp(-(self.freedom + 1) / 2 * torch.log1p(squares)), place)
        return place, torch.cat([torch.zeros(1, dtype=torch.float64), share / share[-1]])


@dataclass(frozen=True)
class OfRatio:
    """Times at which sigma / alpha follows ``ratios``: a law for one process says the same on every other.

    For the trigonometric process a lognormal ratio is tan t = e^n / sigma_data (Lu & Song 2025 sec. 5); for
    rectified flow it is the logit-normal law.
    """

    ratios: TimeLaw
    law: Law

    def __call__(self, shape: Sequence[int], step: Step, key: Key) -> Float64[Tensor, ...]:
        """Times of the given shape."""
        return self.law.time_of_ratio(self.ratios(shape, step, key))


@dataclass(frozen=True)
class Shifted:
    """Times of ``times`` moved toward noise: sigma / alpha is ``shift`` times larger, but not beyond ``high``.

    For rectified flow t becomes shift t / (1 + (shift - 1) t) (Esser et al. 2024 eq. 23).
    """

    times: TimeLaw
    shift: float
    law: Law = field(default_factory=RectifiedFlow)
    low: float = 0.0
    high: float = math.inf

    def __call__(self, shape: Sequence[int], step: Step, key: Key) -> Float64[Tensor, ...]:
        """Times of the given shape."""
        return shifted(self.law, self.times(shape, step, key), self.shift).clamp(self.low, self.high)


@dataclass(frozen=True)
class Karras:
    """Uniform in t^(1/rho) between ``low`` and ``high``; u in [0, share] counted from the noisy end cuts the rest."""

    low: float
    high: float
    rho: float = 7.0
    begin: float = 0.0
    end: float = 1.0

    def __call__(self, shape: Sequence[int], step: Step, key: Key) -> Float64[Tensor, ...]:
        """Times of the given shape; ``begin`` = 0 is the noisy end."""
        u = self.begin + (self.end - self.begin) * key.uniform(shape)
        top, bottom = self.high ** (1 / self.rho), self.low ** (1 / self.rho)
        return (top + u * (bottom - top)) ** self.rho


@dataclass(frozen=True)
class Grid:
    """One of the listed times, uniformly."""

    times: tuple[float, ...]

    def __call__(self, shape: Sequence[int], step: Step, key: Key) -> Float64[Tensor, ...]:
        """Times of the given shape."""
        listed = torch.tensor(self.times, dtype=torch.float64)
        return listed[key.integers(shape, len(self.times))]


@dataclass(frozen=True)
class PerGroup:
    """One draw for each group of ``rows`` consecutive rows; 0 = the whole batch.

    For rewards that are compared within a group: at different noise levels they differ whatever the samples are, and
    what no sample is the cause of only adds to the gradient's variance.
    """

    times: TimeLaw
    rows: int = 0

    def __call__(self, shape: Sequence[int], step: Step, key: Key) -> Float64[Tensor, ...]:
        """Times of the given shape, equal inside each group."""
        size = self.rows or shape[0]
        groups = -(-shape[0] // size)
        return self.times((groups, *shape[1:]), step, key).repeat_interleave(size, 0)[: shape[0]]


@dataclass(frozen=True)
class Whole:
    """The nearest whole time: the network of a chain saw no other, and one with a table of times has no other."""

    times: TimeLaw

    def __call__(self, shape: Sequence[int], step: Step, key: Key) -> Float64[Tensor, ...]:
        """Times of the given shape."""
        return self.times(shape, step, key).round()


def _truncated(
    mean: float, std: float, ends: Float64[Tensor, 2], uniform: Float64[Tensor, "*shape"]
) -> Float64[Tensor, "*shape"]:
    """Normal numbers restricted to (ends[0], ends[1]) by inverting their distribution function."""
    low, high = torch.special.ndtr((ends - mean) / std)
    u = (low + (high - low) * uniform).clamp(1e-15, 1 - 1e-15)
    return mean + std * torch.special.ndtri(u)
