"""Cameras on an orbit: where a view stands, as data, and as pytorch3d wants it.

Angles are degrees. Azimuth turns about +Y (0 looks from +Z), elevation rises toward +Y. All cameras look at the origin.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pytorch3d.renderer import FoVPerspectiveCameras, look_at_view_transform
from torch import Tensor

from fewstep.protocol import Key


@dataclass(frozen=True)
class Orbit:
    """The sphere that cameras stand on.

    Args:
        distance: from the origin, in scene units (the object fits the unit ball).
        field_of_view: vertical, degrees.
    """

    distance: float = 2.5
    field_of_view: float = 50.0

    def cameras(self, angles: Tensor) -> FoVPerspectiveCameras:
        """pytorch3d cameras for angles (B, 2) = (azimuth, elevation)."""
        rotation, translation = look_at_view_transform(self.distance, angles[:, 1], angles[:, 0])
        return FoVPerspectiveCameras(R=rotation, T=translation, fov=self.field_of_view, device=angles.device)


def ring(count: int, elevation: float, start: float = 0.0) -> Tensor:
    """(count, 2) angles at one elevation, evenly around.

    Raises:
        ValueError: for fewer than one camera.
    """
    if count < 1:
        raise ValueError(f"a ring needs at least one camera, got {count}")
    azimuth = start + 360.0 * torch.arange(count) / count
    return torch.stack([azimuth, torch.full_like(azimuth, elevation)], 1)


def training_angles() -> Tensor:
    """(24, 2): every 15 degrees of azimuth, elevations 0, 20, 40 in turn."""
    azimuth = 15.0 * torch.arange(24)
    return torch.stack([azimuth, 20.0 * (torch.arange(24) % 3)], 1)


def held_out_angles() -> Tensor:
    """(6, 2) views that no training camera sees: azimuth 60 k + 7, elevation 10."""
    return ring(6, elevation=10.0, start=7.0)


def random_angles(count: int, key: Key) -> Tensor:
    """(count, 2) azimuth uniform, elevation uniform in [-5, 45]: this rank's rows."""
    u = key.uniform((count, 2), dtype=torch.float32)
    return torch.stack([360.0 * u[:, 0], 50.0 * u[:, 1] - 5.0], 1)
