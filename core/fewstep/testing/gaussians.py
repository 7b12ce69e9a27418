"""Closed-form teachers of Gaussian data: independent elements, or any covariance.

Shape legend: B batch, L positions, d dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fewstep.processes import Gaussian
from fewstep.protocol import Cond, spread
from fewstep.testing.exact import Exact


class GaussianTeacher(Exact):
    """Data N(mean, diag(std^2)): D = mu + alpha s^2 / (alpha^2 s^2 + sigma^2) (x_t - alpha mu).

    Args:
        process: a Gaussian process.
        mean: number or tensor that broadcasts over an event.
        std: number or tensor that broadcasts over an event; 0 is allowed.
    """

    def __init__(self, process: Gaussian, mean: Tensor | float, std: Tensor | float) -> None:
        """Keep the law."""
        super().__init__(process)
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float64))
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float64))

    mean: Tensor
    std: Tensor

    def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """Eq. above, elementwise."""
        alpha, sigma = spread(self.process.alpha(t), xt), spread(self.process.sigma(t), xt)
        variance = self.std.square()
        gain = alpha * variance / (alpha.square() * variance + sigma.square())
        return (self.mean + gain * (xt - alpha * self.mean)).to(xt.dtype)

    def flow_map(self, xt: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Where the exact ODE leads: alpha_s mu + sqrt(V_s / V_t) (x_t - alpha_t mu)."""
        here, there = (spread(self.process.alpha(u), xt) for u in (t, s))
        ratio = (self.variance(s, xt) / self.variance(t, xt)).sqrt()
        return (there * self.mean + ratio * (xt - here * self.mean)).to(xt.dtype)

    def variance(self, t: Tensor, like: Tensor) -> Tensor:
        """V_t = alpha^2 s^2 + sigma^2, shaped to broadcast over ``like``."""
        alpha, sigma = spread(self.process.alpha(t), like), spread(self.process.sigma(t), like)
        return (alpha * self.std).square() + sigma.square()

    def step_factor(self, t: Tensor, s: Tensor) -> Tensor:
        """How one DDIM step scales x - alpha mu: (alpha_s alpha_t s^2 + sigma_s sigma_t) / V_t."""
        alpha_t, alpha_s, sigma_t, sigma_s = (
            self.process.alpha(t),
            self.process.alpha(s),
            self.process.sigma(t),
            self.process.sigma(s),
        )
        variance = self.std.square()
        return (alpha_s * alpha_t * variance + sigma_s * sigma_t) / (
            alpha_t.square() * variance + sigma_t.square()
        )


class CovarianceTeacher(Exact):
    """Data N(mean, C) over flat events (B, d), or over the first event dimension of (B, L, ...), others independent.

    Times may be (B,) or (B, L): frames at different noise. D = mu + C A (A C A + S^2)^-1 (x_t - A mu) with
    A = diag(alpha), S = diag(sigma).

    Args:
        process: a Gaussian process.
        covariance: (L, L), positive semidefinite.
        mean: broadcasts over an event.
    """

    def __init__(self, process: Gaussian, covariance: Tensor, mean: Tensor | float = 0.0) -> None:
        """Keep the law."""
        super().__init__(process)
        self.register_buffer("covariance", covariance.double())
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float64))
        values, vectors = torch.linalg.eigh(self.covariance)
        self.register_buffer("values", values.clamp(min=0))
        self.register_buffer("vectors", vectors)

    covariance: Tensor
    mean: Tensor
    values: Tensor
    vectors: Tensor

    def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """Eq. above; masked positions carry no evidence."""
        length = xt.shape[1]
        alpha, sigma = (_per_position(f(t), length) for f in (self.process.alpha, self.process.sigma))
        if cond.mask is not None:
            alpha = (
                alpha * cond.mask.expand(xt.shape).flatten(2).amax(-1) if xt.ndim > 2 else alpha * cond.mask
            )
        covariance = self.covariance[:length, :length]
        evidence = alpha.unsqueeze(-1) * covariance * alpha.unsqueeze(-2) + torch.diag_embed(sigma.square())
        residual = (xt - spread(alpha, xt) * self.mean).double().reshape(xt.shape[0], length, -1)
        pulled = torch.linalg.solve(evidence, residual)
        found = covariance @ (alpha.unsqueeze(-1) * pulled)
        return (self.mean + found.reshape(xt.shape)).to(xt.dtype)

    def flow_map(self, xt: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Where the exact ODE leads whole events without padding, one time (B,) each: every principal axis by itself."""
        (alpha, there), (sigma, later) = (
            [f(u)[:, None] for u in (t, s)] for f in (self.process.alpha, self.process.sigma)
        )
        now, then = ((a.square() * self.values + b.square()) for a, b in ((alpha, sigma), (there, later)))
        residual = (xt - spread(alpha, xt) * self.mean).double().reshape(len(xt), len(self.values), -1)
        moved = self.vectors @ ((then / now).sqrt().unsqueeze(-1) * (self.vectors.T @ residual))
        return (spread(there, xt) * self.mean + moved.reshape(xt.shape)).to(xt.dtype)


def ar1_covariance(length: int, correlation: float, std: float = 1.0) -> Tensor:
    """(L, L) covariance of a stationary first-order autoregressive clip: std^2 rho^|i - j|."""
    lag = torch.arange(length, dtype=torch.float64)
    return std**2 * correlation ** (lag.unsqueeze(0) - lag.unsqueeze(1)).abs()


def _per_position(value: Tensor, length: int) -> Tensor:
    """(B,) or (B, L) coefficients as (B, L)."""
    return value.unsqueeze(1).expand(-1, length) if value.ndim == 1 else value
