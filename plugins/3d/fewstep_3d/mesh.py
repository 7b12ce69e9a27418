"""The real object: a mesh from disk, colored by its normals, rendered with pytorch3d as ground truth.

Images are (B, 3, H, W) in [-1, 1] on white, the range that priors work in.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import torch
import trimesh
from pytorch3d.ops import interpolate_face_attributes
from pytorch3d.renderer import MeshRasterizer, RasterizationSettings
from pytorch3d.structures import Meshes
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewstep.errors import FewstepError
from fewstep_3d.cameras import Orbit

BUNNY = Path(__file__).parent / "shapes" / "bunny.ply"
VIEWS_AT_ONCE = 8


def load_mesh(path: Path) -> Meshes:
    """A mesh centered at the origin and scaled into the ball of radius 0.9.

    Raises:
        FewstepError: the file is missing, unreadable, or holds no triangle.
    """
    if not path.is_file():
        raise FewstepError(
            f"no mesh at {path}", "a .ply, .obj, .glb or .off file", "correct the recipe's field `mesh`"
        )
    try:
        read = trimesh.load(path, force="mesh", process=False)
    except Exception as error:
        raise FewstepError(
            f"{path} cannot be read as a mesh: {error}", "a .ply, .obj, .glb or .off file", "export it again"
        ) from error
    if len(read.faces) == 0:
        raise FewstepError(
            f"{path} holds no triangle",
            "a surface; a point cloud cannot be rendered as one",
            "give another file",
        )
    vertices = torch.as_tensor(read.vertices, dtype=torch.float32)
    vertices = vertices - (vertices.amax(0) + vertices.amin(0)) / 2
    vertices = 0.9 * vertices / vertices.norm(dim=1).max()
    return Meshes([vertices], [torch.as_tensor(read.faces, dtype=torch.int64)])


def render_mesh(mesh: Meshes, angles: Tensor, size: int, orbit: Orbit) -> Tensor:
    """(B, 3, size, size) images of a mesh whose color is (1 + normal) / 2."""
    chunks = angles.split(VIEWS_AT_ONCE)
    return torch.cat([_render(mesh, chunk, size, orbit) for chunk in chunks])


def true_views(path: Path, angles: Tensor, size: int, orbit: Orbit, folder: Path) -> Tensor:
    """``render_mesh`` of the mesh at ``path``, kept in ``folder`` under a hash of everything that it depends on."""
    name = hashlib.sha256(
        path.read_bytes() + angles.numpy().tobytes() + repr((size, orbit)).encode()
    ).hexdigest()
    file = folder / f"views-{name[:16]}.safetensors"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        save_file({"images": render_mesh(_loaded(path), angles, size, orbit)}, partial)
        partial.rename(file)
    return load_file(file)["images"]


@cache
def _loaded(path: Path) -> Meshes:
    return load_mesh(path)


def _render(mesh: Meshes, angles: Tensor, size: int, orbit: Orbit) -> Tensor:
    # Twice the size, then averaged: one sample per pixel would make the silhouette a staircase.
    settings = RasterizationSettings(image_size=2 * size, faces_per_pixel=1)
    batch = mesh.extend(len(angles))
    fragments = MeshRasterizer(orbit.cameras(angles), settings)(batch)
    normals = batch.verts_normals_packed()[batch.faces_packed()]
    color = interpolate_face_attributes(fragments.pix_to_face, fragments.bary_coords, (1 + normals) / 2)[
        ..., 0, :
    ]
    hit = (fragments.pix_to_face[..., :1] >= 0).to(color.dtype)
    image = (color * hit + (1 - hit)).permute(0, 3, 1, 2)
    return (2 * torch.nn.functional.avg_pool2d(image, 2) - 1).contiguous()
