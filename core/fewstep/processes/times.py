"""Time laws: plain callables (shape, step, key) -> float64 times. Fields of whoever uses them, never of a process."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float64
from torch import Tensor

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


def _truncated(
    mean: float, std: float, ends: Float64[Tensor, 2], uniform: Float64[Tensor, "*shape"]
) -> Float64[Tensor, "*shape"]:
    """Normal numbers restricted to (ends[0], ends[1]) by inverting their distribution function."""
    low, high = torch.special.ndtr((ends - mean) / std)
    u = (low + (high - low) * uniform).clamp(1e-15, 1 - 1e-15)
    return mean + std * torch.special.ndtri(u)
