"""The import contracts hold, and would not if somebody broke them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.packaging

BREACHES = {
    "The core knows no plugin and no library of a modality": (
        "core/fewstep/samplers/breach.py",
        "import librosa",
    ),
    "Plugins do not know each other": ("plugins/audio/fewstep_audio/breach.py", "import fewstep_text.plugin"),
    "Families of the audio plugin do not know each other": (
        "plugins/audio/fewstep_audio/comosvc/breach.py",
        "import fewstep_audio.comospeech.config",
    ),
    "Layers of the core": ("core/fewstep/protocol/breach.py", "import fewstep.engine"),
    "Finding plugins needs nothing but the standard library, pluggy and packaging": (
        "core/fewstep/plugins/breach.py",
        "import torch",
    ),
}
"""Contract -> (a file, a line in it that breaks the contract)."""


@pytest.fixture
def copy(tmp_path, root) -> Path:
    """The packages and the contracts, somewhere else."""
    for folder in ("core", "plugins"):
        shutil.copytree(root / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "pyproject.toml", tmp_path)
    return tmp_path


def _verdicts(place: Path) -> dict[str, str]:
    """Contract -> KEPT or BROKEN, for the packages in ``place``."""
    homes = [place / "core", *(place / "plugins").iterdir()]
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=place,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, homes)), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    ends = [line.strip().rpartition(" ") for line in done.stdout.splitlines()]
    return {contract: verdict for contract, _, verdict in ends if contract in BREACHES}


def test_the_contracts_hold(copy):
    assert _verdicts(copy) == dict.fromkeys(BREACHES, "KEPT")


def test_each_contract_notices_its_breach(copy):
    for file, line in BREACHES.values():
        (copy / file).write_text(f'"""A breach."""\n\n{line}\n')
    assert _verdicts(copy) == dict.fromkeys(BREACHES, "BROKEN")
