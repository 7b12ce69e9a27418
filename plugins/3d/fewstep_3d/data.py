"""Where views and cameras come from: pure functions of a counter, so that resume needs no state."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.protocol import Batch, Key
from fewstep_3d.cameras import random_angles
from fewstep_3d.field import camera_cond


@dataclass(frozen=True)
class ViewSource:
    """True views and their cameras: what a prior learns from.

    Args:
        images: (n, 3, H, H) in [-1, 1].
        angles: (n, 2) degrees.
        size: images per batch, over all ranks.
    """

    images: Tensor
    angles: Tensor
    size: int

    def batch(self, index: int, key: Key) -> Batch:
        """This rank's rows of the ``index``-th batch, drawn with replacement."""
        rows = key.at("views", index).integers((key.share(self.size),), len(self.images))
        x = self.images[rows]
        return Batch(like=x, x=x, cond=camera_cond(self.angles[rows]))


@dataclass(frozen=True)
class CameraSource:
    """Cameras to look from, without images: what a scene is distilled with.

    Args:
        size: cameras per batch, over all ranks.
        side: H of the renders.
        table: (n, 2) cameras to choose from, numbered as the exact prior's table; None = anywhere on the orbit.
    """

    size: int
    side: int
    table: Tensor | None = None

    def batch(self, index: int, key: Key) -> Batch:
        """This rank's cameras of the ``index``-th batch."""
        count, here = key.share(self.size), key.at("cameras", index)
        if self.table is None:
            cond = camera_cond(random_angles(count, here))
        else:
            view = here.integers((count,), len(self.table))
            cond = camera_cond(self.table[view], view)
        return Batch(like=torch.zeros(1).expand(count, 3, self.side, self.side), cond=cond)
