"""Every recipe of this repository proves itself at its smoke settings: the student meets its bound, the control misses."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewstep.plugins.loader import registry

OURS = (
    "3d/sds",
    "audio/comospeech",
    "audio/comosvc",
    "audio/ditto2",
    "audio/pipeline",
    "audio/prodiff",
    "audio/style-diffusion",
    "protein/frames",
    "protein/frames-oracle",
    "protein/rouse",
    "protein/sequence-didi",
    "protein/sid-backbone",
    "text/didi",
    "text/markov",
    "video/self-forcing",
)

pytestmark = [pytest.mark.recipe, pytest.mark.timeout(600)]


def test_the_list_is_complete() -> None:
    found = [recipe.name for recipe in registry().recipes if recipe.plugin.distribution == "fewstep"]
    assert sorted(found) == sorted(OURS)


@pytest.mark.parametrize("name", OURS)
def test_the_student_meets_its_gates_and_the_controls_miss_them(name: str, tmp_path: Path) -> None:
    from fewstep.runs import run

    recipe = registry().recipe(name)
    if not recipe.readiness.ready:
        pytest.skip(recipe.readiness.install or recipe.readiness.problem)
    done = run(name, profile="smoke", out=tmp_path, quiet=True)
    assert done.evaluation is not None
    assert done.evaluation.gates, "the smoke profile has no gate"
    assert done.evaluation.passed, [gate for gate in done.evaluation.gates if not gate.passed]
    assert (done.folder / "report.html").stat().st_size > 10_000
