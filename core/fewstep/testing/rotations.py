"""Exact denoisers of rotations that are known. Shape legend: B batch, K known rotations."""

from __future__ import annotations

import torch
from torch import Tensor

from fewstep.processes import GeodesicFlow
from fewstep.processes.rotations import exp, log
from fewstep.protocol import Cond, spread
from fewstep.testing.exact import Exact


class RotationTeacher(Exact):
    """Every rotation of a state (B, ..., 3, 3) is independently one of K known ones.

    A state of the geodesic flow from r_k has, against uniform rotations, the density
    sin(a / 2t)^2 / (t sin(a / 2)^2) at the angle a < pi t from r_k, so that
    x0 = exp_{x_t} sum_k w_k log_{x_t}(r_k) with w_k proportional to p_k times it.

    Args:
        process: a geodesic flow.
        points: (K, 3, 3) rotations.
        weights: (K,), summing to 1.
    """

    def __init__(self, process: GeodesicFlow, points: Tensor, weights: Tensor) -> None:
        """Keep the law."""
        super().__init__(process)
        self.register_buffer("points", points.double())
        self.register_buffer("weights", weights.double())

    points: Tensor
    weights: Tensor

    def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """Eq. above."""
        toward = log(xt.double().unsqueeze(-3).mT @ self.points)
        angle = toward.norm(dim=-1)
        log_weights = self.weights.log() + log_density(angle, spread(t.double(), angle))
        mean = (torch.softmax(log_weights, -1).unsqueeze(-1) * toward).sum(-2)
        return (xt.double() @ exp(mean)).to(xt.dtype)

    def draw(self, uniform: Tensor) -> Tensor:
        """(..., 3, 3) exact samples from (...) uniform numbers."""
        which = torch.searchsorted(self.weights.cumsum(0), uniform.double().contiguous())
        return self.points[which.clamp(max=len(self.weights) - 1)]


def log_density(angle: Tensor, t: Tensor) -> Tensor:
    """Of a state at this angle from its clean rotation; what rounding left outside of its support falls off steeply."""
    small = angle.clamp(min=1e-9)
    inside = small < torch.pi * t
    top = torch.where(inside, torch.sin(small / (2 * t)), torch.ones_like(small))
    value = 2 * (top.clamp(min=1e-300).log() - torch.sin(small / 2).log()) - t.log()
    return torch.where(inside, value, value - 1e3 * (1 + small / t))
