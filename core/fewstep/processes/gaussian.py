"""Gaussian corruption: one class over the table of laws and the geometries.

Time arithmetic is float64 and is cast to the state's dtype at the end. Shape legend: B batch, ... event.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from fewstep.processes.laws import (
    HALF_PI,
    Law,
    RectifiedFlow,
    Trigonometric,
    VarianceExploding,
    VariancePreserving,
)
from fewstep.protocol import Batch, Estimate, Euclidean, Key, Tree, spread

TINY = 1e-6
"""Denominators are kept this far from zero, with their sign."""


@dataclass(frozen=True)
class Gaussian:
    """x_t = alpha(t) x0 + sigma(t) eps.

    Args:
        law: alpha, sigma and their slopes.
        t_min: cleanest time that networks are asked about.
        t_max: noisiest time.
        sigma_data: standard deviation of clean data, for preconditioning.
        rho: spacing of the natural grid: uniform in t^(1/rho). Karras et al. 2022 eq. 5 takes 7; 1 is uniform in t.
        geometry: what a state is.
    """

    law: Law
    t_min: float
    t_max: float
    sigma_data: float = 1.0
    rho: float = 1.0
    geometry: Euclidean = field(default_factory=Euclidean)

    def on(self, mask: Tree) -> Self:
        """This process with a batch's mask bound."""
        return self if mask is None else replace(self, geometry=self.geometry.on(mask))

    def alpha(self, t: Tensor) -> Tensor:
        """Signal coefficient, float64."""
        return self.law.alpha(t.double())

    def sigma(self, t: Tensor) -> Tensor:
        """Noise coefficient, float64."""
        return self.law.sigma(t.double())

    def grid(self, steps: int) -> Tensor:
        """(steps + 1,) decreasing float64 times from t_max to t_min (Karras et al. 2022 eq. 5)."""
        if steps < 1:
            raise ValueError(f"a time grid needs at least one step, got {steps}")
        share = torch.arange(steps + 1, dtype=torch.float64) / steps
        high, low = self.t_max ** (1 / self.rho), self.t_min ** (1 / self.rho)
        times = (high + share * (low - high)) ** self.rho
        times[0], times[-1] = self.t_max, self.t_min
        return times

    def noise(self, batch: Batch, key: Key) -> Tensor:
        """Standard normal, projected and masked."""
        return self.geometry.on(batch.mask).project(key.normal(batch.like))

    def corrupt(self, x: Tensor | None, noise: Tensor, t: Tensor, *, since: Tensor | None = None) -> Tensor:
        """Alpha x + sigma noise; from time ``since``, the Markov transition; with x = None, sigma noise."""
        if x is None:
            return _times(self.sigma(t), noise)
        if since is None:
            return _times(self.alpha(t), x) + _times(self.sigma(t), noise)
        ratio = self.alpha(t) / _safe(self.alpha(since))
        spread_left = (self.sigma(t).square() - (ratio * self.sigma(since)).square()).clamp(min=0).sqrt()
        return _times(ratio, x) + _times(spread_left, noise)

    def x0(self, raw: Tensor, xt: Tensor, t: Tensor, prediction: str) -> Tensor:
        """The projected clean estimate a(t) x_t + b(t) raw."""
        a, b = self.prediction(prediction, t)
        return self.geometry.project(_times(a, xt) + _times(b, raw))

    def raw(self, x0: Tensor, xt: Tensor, t: Tensor, prediction: str) -> Tensor:
        """The network output that would mean ``x0``: the inverse of :meth:`x0`."""
        a, b = self.prediction(prediction, t)
        return _times(1 / _safe(b), x0 - _times(a, xt))

    def prediction(self, name: str, t: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients (a, b) of x0 = a x_t + b raw, float64, for every native prediction.

        "edm" is Karras et al. 2022 table 1 in the coordinates x_t / alpha; "boundary" is its consistency form with
        x0 = x_t / alpha at t_min (Song et al. 2023 eq. 5); "trig" has dx/dt = sigma_data F (Lu & Song 2025).

        Raises:
            ValueError: for an unknown name, or "v" where alpha^2 + sigma^2 is not 1.
        """
        t = t.double()
        alpha, sigma, data = self.law.alpha(t), self.law.sigma(t), self.sigma_data
        if name == "x0":
            return torch.zeros_like(t), torch.ones_like(t)
        if name == "eps":
            return 1 / _safe(alpha), -sigma / _safe(alpha)
        if name == "v":
            self._require_unit(alpha, sigma)
            return alpha, -sigma
        if name in ("flow", "trig"):
            wronskian = _safe(alpha * self.law.sigma_slope(t) - self.law.alpha_slope(t) * sigma)
            unit = data if name == "trig" else 1.0
            return self.law.sigma_slope(t) / wronskian, -unit * sigma / wronskian
        if name == "edm":
            total = sigma.square() + (data * alpha).square()
            return data**2 * alpha / total, sigma * data / total.sqrt()
        if name == "boundary":
            inner = sigma - self._floor_ratio() * alpha
            total = inner.square() + (data * alpha).square()
            return data**2 * alpha / total, inner * data / (sigma.square() + (data * alpha).square()).sqrt()
        raise ValueError(
            f"unknown prediction {name!r} for a Gaussian process; one of x0, eps, v, flow, trig, edm, boundary"
        )

    def posterior(self, xt: Tensor, est: Estimate, t: Tensor, s: Tensor, noise: Tensor) -> Tensor:
        """q(x_s | x_t, x0), the ancestral step (Ho et al. 2020 eq. 6-7 for any alpha, sigma)."""
        ratio = self.alpha(t) / _safe(self.alpha(s))
        var_t, var_s = self.sigma(t).square(), self.sigma(s).square()
        fresh = (var_t - ratio.square() * var_s).clamp(min=0)
        from_xt, from_x0 = ratio * var_s / _safe(var_t), self.alpha(s) * fresh / _safe(var_t)
        width = (fresh * var_s / _safe(var_t)).sqrt()
        return _times(from_xt, xt) + _times(from_x0, est.x0) + _times(width, noise)

    def eps(self, xt: Tensor, est: Estimate, t: Tensor) -> Tensor:
        """The predicted noise (x_t - alpha x0) / sigma."""
        return _times(1 / _safe(self.sigma(t)), xt - _times(self.alpha(t), est.x0))

    def velocity(self, xt: Tensor, est: Estimate, t: Tensor) -> Tensor:
        """dx/dt = alpha' x0 + sigma' eps."""
        slope_x0, slope_eps = self.law.alpha_slope(t.double()), self.law.sigma_slope(t.double())
        return _times(slope_x0, est.x0) + _times(slope_eps, self.eps(xt, est, t))

    def jump(self, xt: Tensor, est: Estimate, t: Tensor, s: Tensor) -> Tensor:
        """alpha_s x0 + sigma_s eps (Song et al. 2021 DDIM eq. 12 with eta = 0)."""
        kept = self.sigma(s) / _safe(self.sigma(t))
        return _times(self.alpha(s) - kept * self.alpha(t), est.x0) + _times(kept, xt)

    def network_input(self, xt: Tensor, t: Tensor) -> Tensor:
        """x_t scaled to unit variance: 1 / sqrt(alpha^2 sigma_data^2 + sigma^2)."""
        scale = ((self.alpha(t) * self.sigma_data).square() + self.sigma(t).square()).rsqrt()
        return _times(scale, xt)

    def network_time(self, t: Tensor) -> Tensor:
        """As the law's networks expect it."""
        return self.law.network_time(t.double())

    def _floor_ratio(self) -> Tensor:
        """Sigma / alpha at t_min."""
        t = torch.tensor(self.t_min, dtype=torch.float64)
        return self.law.sigma(t) / self.law.alpha(t)

    def _require_unit(self, alpha: Tensor, sigma: Tensor) -> None:
        if not torch.allclose(alpha.square() + sigma.square(), torch.ones_like(alpha), atol=1e-9):
            raise ValueError(
                "prediction 'v' needs alpha^2 + sigma^2 = 1; use it with a variance-preserving process"
            )


def _times(coefficient: Tensor, x: Tensor) -> Tensor:
    """A float64 per-sample coefficient times a state, in the state's dtype."""
    return spread(coefficient.to(x.dtype), x) * x


def _safe(value: Tensor) -> Tensor:
    return torch.where(value < 0, value.clamp(max=-TINY), value.clamp(min=TINY))


def vp(
    *, beta_min: float = 0.1, beta_max: float = 20.0, t_min: float = 1e-3, geometry: Euclidean | None = None
) -> Gaussian:
    """Variance preserving SDE time, t in [t_min, 1]."""
    law = VariancePreserving(beta_min, beta_max)
    return Gaussian(law, t_min, 1.0, 1.0, 1.0, geometry or Euclidean())


def edm(
    *,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    sigma_data: float = 0.5,
    rho: float = 7.0,
    geometry: Euclidean | None = None,
) -> Gaussian:
    """EDM: alpha = 1, sigma = t in [sigma_min, sigma_max]."""
    return Gaussian(VarianceExploding(), sigma_min, sigma_max, sigma_data, rho, geometry or Euclidean())


def flow(*, t_min: float = 1e-3, sigma_data: float = 1.0, geometry: Euclidean | None = None) -> Gaussian:
    """Rectified flow: straight lines from data (0) to noise (1)."""
    return Gaussian(RectifiedFlow(), t_min, 1.0, sigma_data, 1.0, geometry or Euclidean())


def trig(*, t_min: float = 1e-3, sigma_data: float = 0.5, geometry: Euclidean | None = None) -> Gaussian:
    """TrigFlow: t in [t_min, pi/2], noise of standard deviation sigma_data."""
    return Gaussian(Trigonometric(sigma_data), t_min, HALF_PI, sigma_data, 1.0, geometry or Euclidean())
