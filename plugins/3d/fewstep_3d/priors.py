"""Camera-conditioned priors over images: one exact, one learned. Both are networks of a Denoiser with prediction "v".

Shape legend: B batch, H image height = width.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.processes import Gaussian
from fewstep.protocol import Cond, Denoiser, Estimate, spread


class ExactPrior(nn.Module):
    """N(true view, deviation^2) for every view of a table: E[x0 | x_t] in closed form, returned as x0.

    Args:
        process: whose alpha and sigma the estimate needs.
        views: (n, 3, H, H) the table, looked up by ``cond.data["view"]``.
        deviation: standard deviation of the prior around each view.
    """

    def __init__(self, process: Gaussian, views: Tensor, deviation: float = 0.1) -> None:
        """Keep the table as a buffer: it is data, not a parameter."""
        super().__init__()
        self.process, self.deviation = process, deviation
        self.register_buffer("views", views)

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        """The estimate; ``time`` is the network time 1000 t, ``x`` the state itself (unit variance already)."""
        t = time.double() / 1000
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        gain = alpha * self.deviation**2 / ((alpha * self.deviation) ** 2 + sigma**2)
        mean = self.views[cond.data["view"]]
        return mean + spread(gain.to(x.dtype), x) * (x - spread(alpha.to(x.dtype), x) * mean)


class PriorNetwork(nn.Module):
    """A small U-Net that denoises images of one object given the camera. Predicts v.

    Args:
        width: channels at full resolution; doubled at half.
    """

    def __init__(self, width: int = 32) -> None:
        """Two resolutions; time and camera enter every block as a scale and a shift."""
        super().__init__()
        self.embed = nn.Sequential(
            nn.Linear(16 + 18, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width), nn.SiLU()
        )
        self.first = nn.Conv2d(3 + 2, width, 3, padding=1)
        self.down = _Block(width, width, 4 * width)
        self.inner = nn.ModuleList(
            [
                _Block(width, 2 * width, 4 * width),
                _Block(2 * width, 2 * width, 4 * width),
                _Block(2 * width, width, 4 * width),
            ]
        )
        self.up = _Block(2 * width, width, 4 * width)
        self.last = nn.Conv2d(width, 3, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        """V (B, 3, H, H) from the state, the network time (B,) = 1000 t, and ``cond.data["angles"]`` in degrees."""
        told = self.embed(torch.cat([_waves(time / 1000, 8), camera_features(cond.data["angles"])], 1))
        fine = self.down(self.first(torch.cat([x, _coordinates(x)], 1)), told)
        coarse = F.avg_pool2d(fine, 2)
        for block in self.inner:
            coarse = block(coarse, told)
        return self.last(F.silu(self.up(torch.cat([fine, F.interpolate(coarse, scale_factor=2)], 1), told)))


class MisledPrior(Denoiser):
    """The control: a prior that is told another camera of the batch than the one that made the image."""

    def __init__(self, base: Denoiser) -> None:
        """Share network, process and prediction with ``base``."""
        super().__init__(base.net, base.process, base.prediction)

    def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
        """The estimate for the neighbor's camera."""
        told = None if cond is None else {name: value.roll(1, 0) for name, value in cond.data.items()}
        return super().forward(xt, t, replace(cond or Cond(), data=told), **asked)


class _Block(nn.Module):
    """Normalize, modulate, convolve twice, add."""

    def __init__(self, channels: int, out: int, told: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.modulate = nn.Linear(told, 2 * channels)
        self.one, self.two = nn.Conv2d(channels, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        scale, shift = self.modulate(told)[..., None, None].chunk(2, 1)
        inner = self.one(F.silu(self.norm(x) * (1 + scale) + shift))
        return self.skip(x) + self.two(F.silu(inner))


def camera_features(angles: Tensor) -> Tensor:
    """(B, 18): sines and cosines of 1 to 4 times azimuth and elevation, and the elevation at two scales."""
    radians = torch.deg2rad(angles)
    azimuth, elevation = radians[:, :1], radians[:, 1:]
    order = torch.arange(1, 5, device=angles.device)
    parts = [
        torch.sin(order * azimuth),
        torch.cos(order * azimuth),
        torch.sin(order * elevation),
        torch.cos(order * elevation),
    ]
    return torch.cat([*parts, elevation, 2 * elevation], 1).to(angles.dtype)


def _waves(t: Tensor, count: int) -> Tensor:
    """(B, 2 count) sines and cosines of t in [0, 1] at octaves."""
    phase = t[:, None] * torch.pi * 2.0 ** torch.arange(count, device=t.device)
    return torch.cat([torch.sin(phase), torch.cos(phase)], 1).to(t.dtype)


def _coordinates(x: Tensor) -> Tensor:
    """(B, 2, H, H) pixel positions in [-1, 1]: the object always stands in the middle."""
    axis = torch.linspace(-1, 1, x.shape[-1], dtype=x.dtype, device=x.device)
    return torch.stack(torch.meshgrid(axis, axis, indexing="ij")).expand(len(x), 2, -1, -1)
