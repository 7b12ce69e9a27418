"""Native files: a mesh with vertex colors (GLB, PLY), a turntable (MP4), and the renders (PNG)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import torch
import trimesh
from PIL import Image
from torch import Tensor
from trimesh.visual import ColorVisuals

from fewstep.protocol import Batch, Tree
from fewstep_3d.cameras import Orbit, ring
from fewstep_3d.field import RadianceGrid, surface


def write_scene(x: Tree, batch: Batch, folder: Path, orbit: Orbit) -> Sequence[Path]:
    """Every render as PNG; with a scene also scene.glb, scene.ply and turntable.mp4."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [_png(image, folder / f"view-{i:02d}.png") for i, image in enumerate(x["image"])]
    if "scene" in x:
        grid = x["scene"][0]
        mesh = as_mesh(grid)
        for name in ("scene.glb", "scene.ply"):
            mesh.export(folder / name)
            written.append(folder / name)
        written.append(turntable(grid, folder / "turntable.mp4", orbit))
    return written


def as_mesh(grid: Tensor) -> trimesh.Trimesh:
    """The surface of a scene (4, N, N, N) with its colors, +Y up."""
    vertices, faces, color = surface(grid)
    rgba = torch.cat([color, torch.ones(len(color), 1)], 1).mul(255).round().byte()
    mesh = trimesh.Trimesh(vertices.numpy(), faces.numpy(), process=False)
    mesh.visual = ColorVisuals(mesh, vertex_colors=rgba.numpy())
    return mesh


def turntable(grid: Tensor, path: Path, orbit: Orbit, frames: int = 48, size: int = 128) -> Path:
    """One turn at 24 frames per second, H.264 in MP4."""
    images = scene_of(grid, orbit).render_in_parts(ring(frames, elevation=15.0), size)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(24))
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for picture in images:
            frame = av.VideoFrame.from_ndarray(as_bytes(picture), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def scene_of(grid: Tensor, orbit: Orbit) -> RadianceGrid:
    """A student that renders this grid (4, N, N, N): the inverse of ``RadianceGrid.values``."""
    scene = RadianceGrid(side=grid.shape[-1], orbit=orbit)
    with torch.no_grad():
        density = grid[:1].clamp(min=1e-6)
        scene.density.copy_(density + torch.log(-torch.expm1(-density)))
        scene.color.copy_(torch.logit(grid[1:], eps=1e-6))
    return scene


def as_bytes(image: Tensor) -> np.ndarray:
    """(H, W, 3) uint8 of an image (3, H, W) in [-1, 1]."""
    array: np.ndarray = (
        image.detach().clamp(-1, 1).add(1).mul(127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    )
    return np.ascontiguousarray(array)


def png_bytes(image: Tensor, scale: int = 1) -> bytes:
    """A PNG of an image (3, H, W), every pixel ``scale`` times as large."""
    picture = Image.fromarray(as_bytes(image))
    buffer = BytesIO()
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(
        buffer, "PNG"
    )
    return buffer.getvalue()


def _png(image: Tensor, path: Path) -> Path:
    path.write_bytes(png_bytes(image))
    return path
