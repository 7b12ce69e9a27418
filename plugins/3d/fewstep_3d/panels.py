"""The report's section: held-out views of all contenders, a turnable mesh, and the turntable film."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Mapping
from html import escape
from pathlib import Path

import numpy as np
from torch import Tensor

from fewstep.protocol import Drawn, Panel
from fewstep.runs.media import data_uri
from fewstep_3d.cameras import Orbit
from fewstep_3d.files import as_mesh, png_bytes, turntable

VIEWER = Path(__file__).with_name("viewer.js")


def scene_panel(orbit: Orbit) -> Panel:
    """Views side by side, then the student's mesh and turntable."""
    return Panel("Scene", lambda drawn: _views(drawn) + _scene(drawn, orbit))


def _views(drawn: Mapping[str, Drawn]) -> str:
    truth = next(iter(drawn.values())).batch.x
    rows = [] if truth is None else [("truth (the mesh)", truth["image"])]
    rows += [(name, item.x["image"]) for name, item in drawn.items()]
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(_cell(name, i, image) for i, image in enumerate(images))
        + "</tr>"
        for name, images in rows
    )
    return (
        f'<div class="scroll"><table><caption>Views that no training camera saw</caption>{body}</table></div>'
    )


def _cell(name: str, number: int, image: Tensor) -> str:
    source = data_uri("image/png", png_bytes(image, 3))
    return f'<td><img src="{source}" width="96" height="96" alt="{escape(name)}, held-out view {number + 1}"></td>'


def _scene(drawn: Mapping[str, Drawn], orbit: Orbit) -> str:
    grid = next((item.x["scene"][0] for item in drawn.values() if "scene" in item.x), None)
    if grid is None:
        return ""
    mesh = as_mesh(grid)
    arrays = {
        "vertices": mesh.vertices.astype(np.float32),
        "faces": mesh.faces.astype(np.uint32),
        "colors": np.ascontiguousarray(mesh.visual.vertex_colors[:, :3]),
    }
    packed = {name: base64.b64encode(array.tobytes()).decode() for name, array in arrays.items()}
    with tempfile.TemporaryDirectory() as folder:
        film = turntable(grid, Path(folder) / "turntable.mp4", orbit).read_bytes()
    return (
        "<h3>The student is this scene</h3>"
        '<canvas id="scene-mesh" tabindex="0" role="img" style="width:100%;height:24rem;touch-action:none" '
        f'aria-label="Mesh of the student with {len(mesh.faces)} triangles. '
        'Drag or use the arrow keys to turn, + and - to zoom."></canvas>'
        "<p>Drag or use the arrow keys to turn it, + and - to zoom.</p>"
        f"<script>{VIEWER.read_text()}fewstepMesh(document.getElementById('scene-mesh'), {json.dumps(packed)});</script>"
        f'<video controls loop muted playsinline width="256" src="{data_uri("video/mp4", film)}" '
        'aria-label="Turntable of the student"></video>'
    )
