"""Noise on frames: rectified flow of places beside the geodesic flow of rotations, on one clock."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from fewstep.processes import GeodesicFlow, Product, flow
from fewstep.protocol import Centered, Process

T_MIN = 0.01
"""Cleanest flow time: places are off by 0.1 angstrom, rotations by about one degree."""
SHARPEST = 0.03
"""Time below which a weight does not rise any more."""


@dataclass(frozen=True)
class FrameFlow(Product):
    """The product of both, which also says what weights of losses ask: noise and signal of its places.

    A rotation at time t is t times a uniform angle away, as a place is t times a standard normal step: both velocities
    are residuals over t, so one weight serves both (Yim et al. 2023, FrameFlow).
    """

    @property
    def sigma_data(self) -> float:
        """Of the places."""
        found: float = self._places.sigma_data
        return found

    def alpha(self, t: Tensor) -> Tensor:
        """Of the places."""
        found: Tensor = self._places.alpha(t)
        return found

    def sigma(self, t: Tensor) -> Tensor:
        """Of the places."""
        found: Tensor = self._places.sigma(t)
        return found

    @property
    def _places(self) -> Any:
        return self.leaves["place"]


def frame_flow(sigma_data: float, rho: float = 4.0) -> FrameFlow:
    """Places of this standard deviation per axis in nanometers; the natural grid is uniform in t^(1/rho)."""
    places = replace(flow(t_min=T_MIN, sigma_data=sigma_data, geometry=Centered()), rho=rho)
    return FrameFlow({"place": places, "turn": GeodesicFlow(t_min=T_MIN)})


def of_velocity(process: Process, t: Tensor) -> Tensor:
    """1 / t^2: an error of the clean frames seen as one of both velocities, held where it would let only t_min count."""
    return t.clamp(min=SHARPEST).square().reciprocal()
