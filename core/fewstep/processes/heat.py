"""Brownian motion of rotations: corruption by the heat kernel of SO(3), undone along its probability flow.

The angle a from the start has the density f(a; v) sin(a / 2)^2 2 / pi at variance v (per axis, in radians), f the heat
kernel: the isotropic Gaussian of rotations (Nikolayev & Savyolova 1997; Leach et al. 2022 eq. 4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.processes.rotations import exp, hat, log, nearest
from fewstep.processes.so3 import GeodesicFlow
from fewstep.protocol import Estimate, spread

STEPS = 96
"""Runge-Kutta steps from angle to angle: 2e-6 over the whole range."""


def outward(angle: Tensor, variance: Tensor) -> Tensor:
    """da/dv = -(d/da ln f) / 2: how fast the probability flow of the heat equation carries an angle outward.

    Poisson's sum over turns 2 pi k replaces the series over l, which needs many terms where v is small:
    f sin(a / 2) is proportional to sum_k (-1)^k (a - 2 pi k) exp(-(a - 2 pi k)^2 / (2 v)).
    """
    a, k = angle.clamp(min=1e-6).unsqueeze(-1), torch.arange(-6, 7, dtype=angle.dtype, device=angle.device)
    v = variance.unsqueeze(-1)
    weight = (1 - 2 * (k.abs() % 2)) * torch.exp(-2 * math.pi * k * (math.pi * k - a) / v)
    turned = a - 2 * math.pi * k
    value, slope = (weight * turned).sum(-1), (weight * (1 - turned.square() / v)).sum(-1)
    return -(slope / value - 0.5 / torch.tan(a.squeeze(-1) / 2)) / 2


def carried_angle(angle: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Where the flow carries an angle from one variance to another.

    Runge-Kutta in ln v for a / sqrt(v), which stands still where rotations are nearly flat.
    """
    step = (end / start).log() / STEPS

    def slope(scaled: Tensor, shift: float) -> Tensor:
        variance = start * torch.exp(step * shift)
        width = variance.sqrt()
        return width * outward(scaled * width, variance) - scaled / 2

    scaled = angle / start.sqrt()
    for i in range(STEPS):
        first = slope(scaled, i)
        second = slope(scaled + step / 2 * first, i + 0.5)
        third = slope(scaled + step / 2 * second, i + 0.5)
        scaled = scaled + step / 6 * (first + 2 * second + 2 * third + slope(scaled + step * third, i + 1))
    return scaled * end.sqrt()


@dataclass(frozen=True)
class HeatFlow(GeodesicFlow):
    """x_t = x0 exp(a_t n): Brownian motion on rotations, sigma(t) = sigma_min^(1 - t) sigma_max^t.

    Axis n and angle come from the noise, a rotation that is uniform seen from anywhere: it stands at t = 1, and the
    probability flow around x0 carries its angle down. At every t the law is the heat kernel's, up to the 3 exp(-sigma_max^2)
    by which the noisiest is not uniform. Velocities and jumps are those of paths from *one* rotation x0; a spread-out
    belief about it is better served by the geodesic flow, where they are linear in its tangent.

    Args:
        sigma_min: standard deviation per axis at t = 0, radians.
        sigma_max: at t = 1.
    """

    sigma_min: float = 0.02
    sigma_max: float = 4.0

    def variance(self, t: Tensor) -> Tensor:
        """sigma^2 per axis, float64."""
        return self.sigma_min**2 * (self.sigma_max / self.sigma_min) ** (2 * t.double())

    def corrupt(self, x: Tensor | None, noise: Tensor, t: Tensor, *, since: Tensor | None = None) -> Tensor:
        """The path from x to the noise; from time ``since``, Brownian motion goes on; with x = None the noise."""
        if x is None:
            return noise
        target = (
            self.variance(t) if since is None else (self.variance(t) - self.variance(since)).clamp(min=1e-12)
        )
        return _moved(noise, x, self.variance(torch.ones_like(t)), target)

    def x0(self, raw: Tensor, xt: Tensor, t: Tensor, prediction: str) -> Tensor:
        """The clean rotation: "x0" or "boundary" any matrix (..., 3, 3), or "tangent" (..., 3) from x_t to x0.

        Raises:
            ValueError: for another prediction.
        """
        if prediction == "flow":
            raise ValueError("a heat flow's velocity does not say its x0; predict x0 or tangent")
        return super().x0(raw, xt, t, prediction)

    def velocity(self, xt: Tensor, est: Estimate, t: Tensor) -> Tensor:
        """(..., 3, 3) dx/dt along the probability flow around x0."""
        x = nearest(xt)
        angle, axis = _away(x, est.x0)
        variance = spread(self.variance(t), angle)
        rate = 2 * math.log(self.sigma_max / self.sigma_min) * variance * outward(angle, variance)
        return x @ hat((rate.unsqueeze(-1) * axis).to(x.dtype))

    def jump(self, xt: Tensor, est: Estimate, t: Tensor, s: Tensor) -> Tensor:
        """Along the probability flow around x0, which keeps the noise."""
        return _moved(nearest(xt), est.x0, self.variance(t), self.variance(s))


def _away(x: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
    """Angle (...) and axis (..., 3) of x seen from x0, float64."""
    way = log(x0.mT @ x).double()
    square = way.square().sum(-1)
    angle = torch.where(square > 0, square, torch.ones_like(square)).sqrt() * (square > 0)
    return angle, way / angle.clamp(min=1e-12).unsqueeze(-1)


def _moved(x: Tensor, x0: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """The rotation x at variance ``start``, carried to variance ``end`` around x0."""
    angle, axis = _away(x, x0)
    after = carried_angle(angle, spread(start, angle), spread(end, angle))
    return x0 @ exp((after.unsqueeze(-1) * axis).to(x.dtype))
