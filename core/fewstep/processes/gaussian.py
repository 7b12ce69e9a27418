"""Gaussian corruption: one class over the table of laws and the geometries.

Time arithmetic is float64 and is cast to the state's dtype at the end. Shape legend: B batch, ... event.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from fewstep.processes.laws import (
    HALF_PI,
    Cosine,
    Law,
    RectifiedFlow,
    Trigonometric,
    VarianceExploding,
    VariancePreserving,
    noise_ratio,
    shifted,
)
from fewstep.processes.predictions import MEANINGS, TINY, positive, safe
from fewstep.protocol import Batch, Estimate, Euclidean, Key, Tree, spread


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
        shift: moves the natural grid toward noise: sigma / alpha is ``shift`` times larger (Esser et al. 2024 eq. 23).
        whole: the times of the natural grid are whole numbers: the network of a chain saw no other.
        noise_scale: factor of all noise that is drawn; below 1 samples are colder than the data. Never in training.

    Raises:
        ValueError: if the grid is shifted, but signal is left at t_max: there is nowhere to go.
    """

    law: Law
    t_min: float
    t_max: float
    sigma_data: float = 1.0
    rho: float = 1.0
    geometry: Euclidean = field(default_factory=Euclidean)
    shift: float = 1.0
    whole: bool = False
    noise_scale: float = 1.0

    def __post_init__(self) -> None:
        """A shifted grid keeps its noisy end only where no signal is left."""
        if self.shift == 1.0:
            return
        left = float(self.law.alpha(torch.tensor(self.t_max, dtype=torch.float64)))
        if self.shift <= 0 or left > TINY:
            raise ValueError(
                f"cannot shift the grid by {self.shift}: shifts are positive and need a process without signal at "
                f"its end, where this one has alpha = {left:.3g}; use flow(), trig() or cosine()"
            )

    @cached_property
    def preserves_variance(self) -> bool:
        """Whether alpha^2 + sigma^2 = 1; looked up once, so that no network call waits for the answer."""
        t = torch.linspace(self.t_min, self.t_max, 5, dtype=torch.float64)
        return bool(
            torch.allclose(self.alpha(t).square() + self.sigma(t).square(), torch.ones_like(t), atol=1e-9)
        )

    def on(self, mask: Tree) -> Self:
        """This process with a batch's mask bound; the same process if it is bound already."""
        geometry = self.geometry if mask is None else self.geometry.on(mask)
        return self if geometry is self.geometry else self._with(geometry=geometry)

    def scaled(self, noise_scale: float) -> Self:
        """This process with all its noise times ``noise_scale``."""
        return self._with(noise_scale=noise_scale)

    def _with(self, **changes: Any) -> Self:
        other = replace(self, **changes)
        vars(other)["preserves_variance"] = self.preserves_variance  # looked up once, not once a batch
        return other

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
        if self.whole and steps > self.t_max - self.t_min:
            raise ValueError(f"a chain with {self.t_max - self.t_min:.0f} steps has no grid of {steps}")
        share = torch.arange(steps + 1, dtype=torch.float64) / steps
        high, low = self.t_max ** (1 / self.rho), self.t_min ** (1 / self.rho)
        times = (high + share * (low - high)) ** self.rho
        if self.shift != 1.0:
            times = shifted(self.law, times, self.shift).clamp(self.t_min, self.t_max)
        times[0], times[-1] = self.t_max, self.t_min
        return times.round() if self.whole else times

    def ratios(self) -> tuple[float, float]:
        """Sigma / alpha at t_min and t_max, at most a million: where laws of the ratio end."""
        ends = torch.tensor([self.t_min, self.t_max], dtype=torch.float64)
        low, high = noise_ratio(self.law, ends).clamp(max=1 / TINY).tolist()
        return low, high

    def noise(self, batch: Batch, key: Key) -> Tensor:
        """Standard normal times ``noise_scale``, projected and masked."""
        noise = self.geometry.on(batch.mask).project(key.normal(batch.like))
        return noise if self.noise_scale == 1.0 else self.noise_scale * noise

    def corrupt(self, x: Tensor | None, noise: Tensor, t: Tensor, *, since: Tensor | None = None) -> Tensor:
        """Alpha x + sigma noise; from time ``since``, the Markov transition; with x = None, sigma noise."""
        if x is None:
            return _times(self.sigma(t), noise)
        if since is None:
            return _times(self.alpha(t), x) + _times(self.sigma(t), noise)
        ratio = self.alpha(t) / positive(self.alpha(since))
        spread_left = (self.sigma(t).square() - (ratio * self.sigma(since)).square()).clamp(min=0).sqrt()
        return _times(ratio, x) + _times(spread_left, noise)

    def x0(self, raw: Tensor, xt: Tensor, t: Tensor, prediction: str) -> Tensor:
        """The projected clean estimate a(t) x_t + b(t) raw."""
        a, b = self.prediction(prediction, t)
        return self.geometry.project(_times(a, xt) + _times(b, raw))

    def raw(self, x0: Tensor, xt: Tensor, t: Tensor, prediction: str) -> Tensor:
        """The network output that would mean ``x0``: the inverse of :meth:`x0`."""
        a, b = self.prediction(prediction, t)
        return _times(1 / safe(b), x0 - _times(a, xt))

    def prediction(self, name: str, t: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients (a, b) of x0 = a x_t + b raw, float64, for every native prediction.

        Raises:
            ValueError: for an unknown name, or one that this process cannot have.
        """
        if name not in MEANINGS:
            raise ValueError(
                f"unknown prediction {name!r} for a Gaussian process; one of {', '.join(MEANINGS)}"
            )
        return MEANINGS[name](self, t.double())

    def translate(self, raw: Tensor, xt: Tensor, t: Tensor, source: str, target: str) -> Tensor:
        """What a network that predicts ``source`` would say in terms of ``target``.

        Raises:
            ValueError: at a singular end, where ``source`` does not say it.
        """
        (a, b), (c, d) = self.prediction(source, t), self.prediction(target, t)
        gone = "eps" in (source, target) and bool((self.alpha(t).abs() < TINY).any())
        if source != target and (gone or bool((d.abs() < TINY).any())):
            raise ValueError(
                f"{target!r} does not follow from {source!r} at a time where alpha or sigma vanishes; "
                f"stay inside the process' range, here {float(t.min()):.4g} to {float(t.max()):.4g}"
            )
        return _times((a - c) / safe(d), xt) + _times(b / safe(d), raw)

    def posterior(self, xt: Tensor, est: Estimate, t: Tensor, s: Tensor, noise: Tensor) -> Tensor:
        """q(x_s | x_t, x0), the ancestral step (Ho et al. 2020 eq. 6-7 for any alpha, sigma)."""
        ratio = self.alpha(t) / positive(self.alpha(s))
        var_t, var_s = self.sigma(t).square(), self.sigma(s).square()
        fresh = (var_t - ratio.square() * var_s).clamp(min=0)
        from_xt, from_x0 = ratio * var_s / positive(var_t), self.alpha(s) * fresh / positive(var_t)
        width = (fresh * var_s / positive(var_t)).sqrt()
        return _times(from_xt, xt) + _times(from_x0, est.x0) + _times(width, noise)

    def eps(self, xt: Tensor, est: Estimate, t: Tensor) -> Tensor:
        """The predicted noise (x_t - alpha x0) / sigma."""
        return _times(positive(self.sigma(t)).reciprocal(), xt - _times(self.alpha(t), est.x0))

    def velocity(self, xt: Tensor, est: Estimate, t: Tensor) -> Tensor:
        """dx/dt = alpha' x0 + sigma' eps."""
        slope_x0, slope_eps = self.law.alpha_slope(t.double()), self.law.sigma_slope(t.double())
        return _times(slope_x0, est.x0) + _times(slope_eps, self.eps(xt, est, t))

    def jump(self, xt: Tensor, est: Estimate, t: Tensor, s: Tensor) -> Tensor:
        """alpha_s x0 + sigma_s eps (Song et al. 2021 DDIM eq. 12 with eta = 0)."""
        kept = self.sigma(s) / positive(self.sigma(t))
        return _times(self.alpha(s) - kept * self.alpha(t), est.x0) + _times(kept, xt)

    def stochastic_jump(
        self, xt: Tensor, est: Estimate, t: Tensor, s: Tensor, noise: Tensor, eta: float
    ) -> Tensor:
        """The jump with part of the predicted noise replaced: alpha_s x0 + sigma_s (k eps + sqrt(1 - k^2) noise).

        k = (ratio_s / ratio_t)^(eta^2), ratio = sigma / alpha, solves dx = [f x - (1 + eta^2) / 2 g^2 score] dt + eta g dw
        exactly while x0 stands still. eta = 0 is :meth:`jump`, eta = 1 is :meth:`posterior`.
        """
        closer = self.sigma(s) * self.alpha(t) / positive(self.sigma(t) * self.alpha(s))
        kept = closer.clamp(0, 1) ** eta**2
        eps = _times(kept, self.eps(xt, est, t)) + _times((1 - kept.square()).sqrt(), noise)
        return _times(self.alpha(s), est.x0) + _times(self.sigma(s), eps)

    def quieter(self, s: Tensor, share: float) -> Tensor:
        """The time below s whose sigma / alpha is ``share`` times that of s."""
        return shifted(self.law, s.double(), share)

    def network_input(self, xt: Tensor, t: Tensor) -> Tensor:
        """x_t scaled to unit variance: 1 / sqrt(alpha^2 sigma_data^2 + sigma^2)."""
        scale = ((self.alpha(t) * self.sigma_data).square() + self.sigma(t).square()).rsqrt()
        return _times(scale, xt)

    def network_time(self, t: Tensor) -> Tensor:
        """As the law's networks expect it."""
        return self.law.network_time(t.double())


def _times(coefficient: Tensor, x: Tensor) -> Tensor:
    """A float64 per-sample coefficient times a state, in the state's dtype."""
    return spread(coefficient.to(x.dtype), x) * x


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


def flow(
    *, t_min: float = 1e-3, sigma_data: float = 1.0, shift: float = 1.0, geometry: Euclidean | None = None
) -> Gaussian:
    """Rectified flow: straight lines from data (0) to noise (1)."""
    return Gaussian(RectifiedFlow(), t_min, 1.0, sigma_data, 1.0, geometry or Euclidean(), shift)


def trig(
    *, t_min: float = 1e-3, sigma_data: float = 0.5, shift: float = 1.0, geometry: Euclidean | None = None
) -> Gaussian:
    """TrigFlow: t in [t_min, pi/2], noise of standard deviation sigma_data."""
    law = Trigonometric(sigma_data)
    return Gaussian(law, t_min, HALF_PI, sigma_data, 1.0, geometry or Euclidean(), shift)


def cosine(*, t_min: float = 1e-3, shift: float = 1.0, geometry: Euclidean | None = None) -> Gaussian:
    """Cosine schedule of progressive distillation, t in [t_min, 1]."""
    return Gaussian(Cosine(), t_min, 1.0, geometry=geometry or Euclidean(), shift=shift)
