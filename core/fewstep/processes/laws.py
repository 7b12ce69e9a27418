"""The rows of the process table: alpha(t), sigma(t) and their derivatives, in float64.

x_t = alpha(t) x0 + sigma(t) eps. Each row also says how its networks are used to being told the time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from jaxtyping import Float64
from torch import Tensor

Time: TypeAlias = Float64[Tensor, "*time"]
"""Times of any shape; what comes back has the same shape (checked under pytest)."""


class Law(Protocol):
    """One row: coefficients as functions of a float64 time of any shape."""

    def alpha(self, t: Time) -> Time:
        """Signal coefficient."""
        ...

    def sigma(self, t: Time) -> Time:
        """Noise coefficient."""
        ...

    def alpha_slope(self, t: Time) -> Time:
        """D alpha / dt."""
        ...

    def sigma_slope(self, t: Time) -> Time:
        """D sigma / dt."""
        ...

    def network_time(self, t: Time) -> Time:
        """The time input that networks of this process expect."""
        ...


@dataclass(frozen=True)
class VariancePreserving:
    """Song et al. 2021 eq. 33: alpha = exp(-t^2 (b1 - b0) / 4 - t b0 / 2), sigma^2 = 1 - alpha^2, t in (0, 1]."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def _log_alpha(self, t: Time) -> Time:
        return -0.25 * t**2 * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min

    def _log_alpha_slope(self, t: Time) -> Time:
        return -0.5 * t * (self.beta_max - self.beta_min) - 0.5 * self.beta_min

    def alpha(self, t: Time) -> Time:
        """exp(log alpha)."""
        return self._log_alpha(t).exp()

    def sigma(self, t: Time) -> Time:
        """sqrt(1 - alpha^2) through expm1, exact near t = 0."""
        return (-torch.expm1(2 * self._log_alpha(t))).sqrt()

    def alpha_slope(self, t: Time) -> Time:
        """Alpha (log alpha)'."""
        return self.alpha(t) * self._log_alpha_slope(t)

    def sigma_slope(self, t: Time) -> Time:
        """-alpha alpha' / sigma."""
        return -self.alpha(t) * self.alpha_slope(t) / self.sigma(t)

    def network_time(self, t: Time) -> Time:
        """1000 t."""
        return 1000 * t


@dataclass(frozen=True)
class VarianceExploding:
    """Karras et al. 2022: alpha = 1, sigma = t."""

    def alpha(self, t: Time) -> Time:
        """1."""
        return torch.ones_like(t)

    def sigma(self, t: Time) -> Time:
        """T."""
        return t

    def alpha_slope(self, t: Time) -> Time:
        """0."""
        return torch.zeros_like(t)

    def sigma_slope(self, t: Time) -> Time:
        """1."""
        return torch.ones_like(t)

    def network_time(self, t: Time) -> Time:
        """ln(sigma) / 4 (Karras et al. 2022, table 1)."""
        return t.log() / 4


@dataclass(frozen=True)
class RectifiedFlow:
    """Liu et al. 2023, Lipman et al. 2023: alpha = 1 - t, sigma = t."""

    def alpha(self, t: Time) -> Time:
        """1 - t."""
        return 1 - t

    def sigma(self, t: Time) -> Time:
        """T."""
        return t

    def alpha_slope(self, t: Time) -> Time:
        """-1."""
        return -torch.ones_like(t)

    def sigma_slope(self, t: Time) -> Time:
        """1."""
        return torch.ones_like(t)

    def network_time(self, t: Time) -> Time:
        """1000 t."""
        return 1000 * t


@dataclass(frozen=True)
class Trigonometric:
    """Lu & Song 2025 (TrigFlow): x = cos(t) x0 + sin(t) sigma_data eps, t in [0, pi/2]."""

    sigma_data: float = 0.5

    def alpha(self, t: Time) -> Time:
        """Cos t, exactly 0 at pi/2 rounded."""
        return torch.cos(t)

    def sigma(self, t: Time) -> Time:
        """sigma_data sin t."""
        return self.sigma_data * torch.sin(t)

    def alpha_slope(self, t: Time) -> Time:
        """-sin t."""
        return -torch.sin(t)

    def sigma_slope(self, t: Time) -> Time:
        """sigma_data cos t."""
        return self.sigma_data * torch.cos(t)

    def network_time(self, t: Time) -> Time:
        """T."""
        return t


HALF_PI = math.pi / 2
