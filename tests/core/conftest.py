"""The ring plugin, installed for a test as its own small distribution."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fewstep.plugins.loader import registry

RING = Path(__file__).parent / "ring"


@pytest.fixture(scope="session")
def ring_distribution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that, on the path, is an installed distribution."""
    place = tmp_path_factory.mktemp("site")
    info = place / "fewstep_ring-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fewstep-ring\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[fewstep.plugins]\nring = fewstep_ring.plugin\n")
    (place / "fewstep_ring").symlink_to(RING / "fewstep_ring")
    return place


@pytest.fixture(scope="module")
def ring(ring_distribution: Path) -> Iterator[dict[str, str]]:
    """The ring plugin alone, in this module's process; the value is the environment for another one."""
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(ring_distribution)
    patch.setenv("FEWSTEP_PLUGINS", "ring")
    patch.setenv("XDG_CACHE_HOME", str(ring_distribution / "cache"))
    registry.cache_clear()
    path = os.pathsep.join([str(ring_distribution), *filter(None, [os.environ.get("PYTHONPATH")])])
    yield {**os.environ, "PYTHONPATH": path}
    patch.undo()
    registry.cache_clear()
    for name in [name for name in sys.modules if name.startswith("fewstep_ring")]:
        del sys.modules[name]
