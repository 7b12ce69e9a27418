"""The rows of the process table: alpha(t), sigma(t) and their derivatives, in float64.

x_t = alpha(t) x0 + sigma(t) eps. Each row also says how its networks are used to being told the time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float64
from torch import Tensor

Time: TypeAlias = Float64[Tensor, "*time"]
"""Times of any shape; what comes back has the same shape (checked under pytest)."""


@runtime_checkable
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

    def time_of_ratio(self, ratio: Time) -> Time:
        """The time at which sigma / alpha is ``ratio``; infinity is where the signal is gone."""
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

    def time_of_ratio(self, ratio: Time) -> Time:
        """Root of t^2 (b1 - b0) / 2 + t b0 = ln(1 + ratio^2), in the form that is exact near 0."""
        total = torch.log1p(ratio.square())
        root = (self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * total).sqrt()
        return 2 * total / (self.beta_min + root)

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

    def time_of_ratio(self, ratio: Time) -> Time:
        """The ratio."""
        return ratio

    def network_time(self, t: Time) -> Time:
        """ln(sigma) / 4 (Karras et al. 2022, table 1)."""
        return t.log() / 4


@dataclass(frozen=True)
class RectifiedFlow:
    """Liu et al. 2023, Lipman et al. 2023: alpha = 1 - t, sigma = t."""

    def alpha(self, t: Time) -> Time:
        """1 - t."""
        return torch.sub(1.0, t)  # half the price of 1 - t

    def sigma(self, t: Time) -> Time:
        """T."""
        return t

    def alpha_slope(self, t: Time) -> Time:
        """-1."""
        return -torch.ones_like(t)

    def sigma_slope(self, t: Time) -> Time:
        """1."""
        return torch.ones_like(t)

    def time_of_ratio(self, ratio: Time) -> Time:
        """Ratio / (1 + ratio), 1 at infinity."""
        return 1 / (1 + 1 / ratio)

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

    def time_of_ratio(self, ratio: Time) -> Time:
        """Arc tangent of ratio / sigma_data."""
        return torch.atan(ratio / self.sigma_data)

    def network_time(self, t: Time) -> Time:
        """T."""
        return t


@dataclass(frozen=True)
class Cosine:
    """Salimans & Ho 2022 sec. 3 (progressive distillation): alpha = cos(pi t / 2), sigma = sin(pi t / 2), t in [0, 1]."""

    def alpha(self, t: Time) -> Time:
        """Cos(pi t / 2)."""
        return torch.cos(HALF_PI * t)

    def sigma(self, t: Time) -> Time:
        """Sin(pi t / 2)."""
        return torch.sin(HALF_PI * t)

    def alpha_slope(self, t: Time) -> Time:
        """-(pi / 2) sin(pi t / 2)."""
        return -HALF_PI * torch.sin(HALF_PI * t)

    def sigma_slope(self, t: Time) -> Time:
        """(pi / 2) cos(pi t / 2)."""
        return HALF_PI * torch.cos(HALF_PI * t)

    def time_of_ratio(self, ratio: Time) -> Time:
        """Arc tangent of the ratio over pi / 2."""
        return torch.atan(ratio) / HALF_PI

    def network_time(self, t: Time) -> Time:
        """ln(alpha^2 / sigma^2), kept in [-20, 20]."""
        # The ratio is kept positive for runtimes whose cosine of pi / 2 is a little less than zero.
        return (2 * torch.log((self.alpha(t) / self.sigma(t)).clamp(min=1e-9))).clamp(-20, 20)


def noise_ratio(law: Law, t: Time) -> Time:
    """Noise over signal, sigma over alpha."""
    return law.sigma(t) / law.alpha(t)


def shifted(law: Law, t: Time, shift: float) -> Time:
    """The times at which sigma / alpha is ``shift`` times larger.

    For rectified flow it is shift t / (1 + (shift - 1) t) (Esser et al. 2024 eq. 23).
    """
    return law.time_of_ratio(shift * noise_ratio(law, t))


HALF_PI = math.pi / 2
