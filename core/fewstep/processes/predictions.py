"""What networks predict: coefficients (a, b) of x0 = a x_t + b raw, float64, as small functions of process and time.

a and b follow from raw = p x0 + q eps and x_t = alpha x0 + sigma eps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from fewstep.processes.laws import noise_ratio

if TYPE_CHECKING:
    from fewstep.processes.gaussian import Gaussian

Meaning: TypeAlias = Callable[["Gaussian", Tensor], tuple[Tensor, Tensor]]
"""``(process, t) -> (a, b)``."""

TINY = 1e-6
"""Denominators are kept this far from zero, with their sign."""

LCM_SCALE, LCM_DATA = 10.0, 0.5
"""Luo et al. 2023 (LCM): one step of the chain is 10 units of time, and the standard deviation of latents is 0.5."""


def safe(value: Tensor) -> Tensor:
    """The value, or the nearest number that one can divide by."""
    return torch.where(value < 0, value.clamp(max=-TINY), value.clamp(min=TINY))


def positive(value: Tensor) -> Tensor:
    """A coefficient that is never negative, kept away from zero: a third of the price of :func:`safe`."""
    return value.clamp(min=TINY)


def clean(process: Gaussian, t: Tensor) -> tuple[Tensor, Tensor]:
    """The estimate itself."""
    return torch.zeros_like(t), torch.ones_like(t)


def noise(process: Gaussian, t: Tensor) -> tuple[Tensor, Tensor]:
    """The noise eps (Ho et al. 2020)."""
    alpha = positive(process.alpha(t))
    return alpha.reciprocal(), -process.sigma(t) / alpha


def v(process: Gaussian, t: Tensor) -> tuple[Tensor, Tensor]:
    """Velocity v = alpha eps - sigma x0 (Salimans & Ho 2022).

    Raises:
        ValueError: where alpha^2 + sigma^2 is not 1.
    """
    if not process.preserves_variance:
        raise ValueError(
            "prediction 'v' needs alpha^2 + sigma^2 = 1; use it with a variance-preserving process"
        )
    return process.alpha(t), -process.sigma(t)


def slope(process: Gaussian, t: Tensor) -> tuple[Tensor, Tensor]:
    """dx/dt = alpha' x0 + sigma' eps; the determinant of both is positive, since noise grows."""
    alpha, sigma, rise = process.alpha(t), process.sigma(t), process.law.sigma_slope(t)
    wronskian = positive(alpha * rise - process.law.alpha_slope(t) * sigma)
    return rise / wronskian, -sigma / wronskian


def trig(process: Gaussian, t: Tensor) -> tuple[Tensor, Tensor]:
    """F with dx/dt = sigma_data F (Lu & Song 2025)."""
    a, b = slope(process, t)
    return a, process.sigma_data * b


def edm(process: Gaussian, t: Tensor) -> tuple[Tensor, Tensor]:
    """Karras et al. 2022 table 1, in the coordinates x_t / alpha."""
    alpha, sigma, data = process.alpha(t), process.sigma(t), process.sigma_data
    total = sigma.square() + (data * alpha).square()
    return data**2 * alpha / total, sigma * data / total.sqrt()


def boundary(process: Gaussian, t: Tensor) -> tuple[Tensor, Tensor]:
    """The consistency form of "edm": x0 = x_t / alpha at t_min (Song et al. 2023 eq. 5)."""
    alpha, sigma, data = process.alpha(t), process.sigma(t), process.sigma_data
    floor = torch.tensor(process.t_min, dtype=torch.float64)
    inner = sigma - noise_ratio(process.law, floor) * alpha
    total = inner.square() + (data * alpha).square()
    return data**2 * alpha / total, inner * data / (sigma.square() + (data * alpha).square()).sqrt()


def lcm(process: Gaussian, t: Tensor) -> tuple[Tensor, Tensor]:
    """Noise of a chain's network between c_skip x_t and c_out x0 (Luo et al. 2023 appendix C), identity at n = 0.

    c_out lacks the factor sigma_data of Song et al. 2023, here as in the published code: the network's estimate
    is in units of the data already, and must pass unscaled where c_skip vanishes.

    Raises:
        ValueError: where network time is not the index of a chain.
    """
    index = process.network_time(t)
    if not process.whole:
        raise ValueError("prediction 'lcm' counts the steps of a chain; use it with ddpm()")
    time = LCM_SCALE * index
    total = time.square() + LCM_DATA**2
    c_skip, c_out = LCM_DATA**2 / total, time / total.sqrt()
    a, b = noise(process, t)
    return c_skip + c_out * a, c_out * b


MEANINGS: Mapping[str, Meaning] = {
    "x0": clean,
    "eps": noise,
    "v": v,
    "flow": slope,
    "trig": trig,
    "edm": edm,
    "boundary": boundary,
    "lcm": lcm,
}
"""Native predictions by name."""
