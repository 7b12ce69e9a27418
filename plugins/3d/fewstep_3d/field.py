"""The student: a scene. A grid of density and color, rendered by emission and absorption.

Shape legend: V views, H image height = width, N grid side. Images (V, 3, H, H) in [-1, 1] on white.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from pytorch3d.ops.marching_cubes import marching_cubes
from pytorch3d.renderer import (
    EmissionAbsorptionRaymarcher,
    ImplicitRenderer,
    NDCMultinomialRaysampler,
    RayBundle,
    ray_bundle_to_ray_points,
)
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.protocol import Batch, Cond, Sample, Step, Tree
from fewstep_3d.cameras import Orbit


class RadianceGrid(nn.Module):
    """A student that is a scene: its samples are renders for the cameras that the batch asks for.

    Samples carry the penalty "total_variation"; the objective owns its weight.

    Args:
        side: N, cells per axis of the cube [-1, 1]^3.
        size: H, pixels per image side.
        orbit: where cameras stand.
        points: samples per ray.
    """

    def __init__(self, side: int = 32, size: int = 32, orbit: Orbit | None = None, points: int = 48) -> None:
        """An almost empty ball: the density is a soft blob so that rays meet something to push on."""
        super().__init__()
        self.side, self.size, self.orbit, self.points = side, size, orbit or Orbit(), points
        self.density = nn.Parameter(_blob(side))
        self.color = nn.Parameter(torch.zeros(3, side, side, side))

    def generate(
        self, batch: Batch, step: Step, *, noise: Tree | None = None, steps: int | None = None
    ) -> Sample:
        """Renders of the batch's cameras with their graph. There is no randomness in a scene."""
        images = self.render(batch.cond.data["angles"])
        return Sample(images, batch.cond, penalties={"total_variation": self.roughness().expand(len(images))})

    def sample(
        self, batch: Batch, step: Step, *, noise: Tree | None = None, steps: int | None = None
    ) -> Sample:
        """The same renders: a finished scene has nothing left to draw."""
        return replace(self.generate(batch, step), penalties={})

    def render(self, angles: Tensor, size: int | None = None) -> Tensor:
        """(V, 3, H, H) for angles (V, 2); ``size`` other than the trained one is legal."""
        side = size or self.size
        sampler = NDCMultinomialRaysampler(
            image_width=side,
            image_height=side,
            n_pts_per_ray=self.points,
            min_depth=self.orbit.distance - 1.0,
            max_depth=self.orbit.distance + 1.0,
        )
        renderer = ImplicitRenderer(sampler, EmissionAbsorptionRaymarcher())
        (drawn, _) = renderer(cameras=self.orbit.cameras(angles), volumetric_function=self._along_rays)
        color, opacity = drawn[..., :3], drawn[..., 3:]
        return 2 * (color + 1 - opacity).permute(0, 3, 1, 2) - 1

    @torch.no_grad()
    def render_in_parts(self, angles: Tensor, size: int | None = None) -> Tensor:
        """``render`` without a graph, a few views at a time: memory stays flat for long turntables."""
        return torch.cat([self.render(part, size) for part in angles.split(6)])

    def roughness(self) -> Tensor:
        """Scalar: mean absolute step between neighboring cells, of density and color."""
        grid = self.values()
        steps = [grid.diff(dim=axis).abs().mean() for axis in (1, 2, 3)]
        return torch.stack(steps).mean()

    def values(self) -> Tensor:
        """(4, N, N, N): density >= 0 per unit length, then color in [0, 1]; axes (channel, z, y, x)."""
        return torch.cat([F.softplus(self.density), torch.sigmoid(self.color)])

    def _along_rays(self, ray_bundle: RayBundle, cameras: object, **_: object) -> tuple[Tensor, Tensor]:
        """Opacity of every ray segment and color, by trilinear interpolation."""
        points = ray_bundle_to_ray_points(ray_bundle)
        shape = points.shape[:-1]
        found = F.grid_sample(
            self.values().unsqueeze(0),
            points.reshape(1, -1, 1, 1, 3),
            align_corners=True,
            padding_mode="zeros",
        )
        found = found.reshape(4, *shape)
        length = 2.0 / self.points
        return 1 - torch.exp(-found[:1].movedim(0, -1) * length), found[1:].movedim(0, -1)


def surface(grid: Tensor, level: float = 8.0) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices (n, 3) in [-1, 1]^3, faces (m, 3) and vertex colors (n, 3) in [0, 1] of a scene (4, N, N, N).

    Args:
        grid: density and color as :meth:`RadianceGrid.values` gives them.
        level: density of the surface; lowered to half of the largest density if nothing is that dense.
    """
    density = F.pad(grid[0].detach(), (1, 1, 1, 1, 1, 1))
    reached = min(level, 0.5 * float(density.max()))
    found, faces = marching_cubes(density.unsqueeze(0), reached, return_local_coords=False)
    cells = grid.shape[-1] - 1
    vertices = 2 * (found[0] - 1) / cells - 1
    color = F.grid_sample(
        grid[1:].detach().unsqueeze(0), vertices.reshape(1, -1, 1, 1, 3), align_corners=True
    )
    return vertices, faces[0], color.reshape(3, -1).T


def with_scene(images: Tensor, scene: RadianceGrid) -> Tree:
    """The finished sample of a scene: its renders, and the scene itself beside every one of them (a view, no copy)."""
    grid = scene.values().detach()
    return {"image": images, "scene": grid.expand(len(images), *grid.shape)}


def camera_cond(angles: Tensor, view: Tensor | None = None) -> Cond:
    """A camera as the networks see it: angles in degrees, and the number of the view in a table (-1 = none)."""
    number = torch.full((len(angles),), -1) if view is None else view
    return Cond(data={"angles": angles, "view": number})


def _blob(side: int) -> Tensor:
    """Density before softplus: 4 (0.6 - |p|), a ball that fades."""
    axis = torch.linspace(-1, 1, side)
    distance = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0)
    return 4 * (0.6 - distance).unsqueeze(0)
