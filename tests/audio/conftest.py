"""A finished run of the smallest speaker, for tests of what one does with a run."""

from __future__ import annotations

import pytest

import fewstep
from fewstep.runs import Run

SMALLEST = {
    "speech": {"sentences": 4, "takes": 1, "held_out": 2},
    "network": {"channels": 16, "dilations": (1, 2)},
    "batch": 2,
    "crop": 16,
    "teacher_updates": 2,
    "teacher_steps": 2,
    "updates": 2,
}


@pytest.fixture(scope="session")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Trained for two updates: it says nothing that one understands, but it says it in the right way."""
    place = tmp_path_factory.mktemp("speaking")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        return fewstep.run("audio/comospeech", out=place / "runs", quiet=True, **SMALLEST)
