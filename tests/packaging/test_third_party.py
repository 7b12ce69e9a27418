"""A plugin that nobody here owns: built, installed beside the core, run with two objectives, held against the kit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fewstep.plugins.skeleton import write_plugin

EXAMPLE = Path(__file__).parents[2] / "examples" / "third_party_plugin"
Command = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(300)]


def installed(project: Path, folder: Path) -> Command:
    """Install a project into a folder of its own; returns the program with that folder on its path."""
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    subprocess.run([*pip, "--target", str(folder / "site"), str(project)], check=True, timeout=120)
    environ = {**os.environ, "PYTHONPATH": str(folder / "site")}

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "fewstep", *words]
        return subprocess.run(program, cwd=folder, env=environ, capture_output=True, text=True, timeout=240)

    return command


@pytest.fixture(scope="module")
def tabular(tmp_path_factory: pytest.TempPathFactory) -> Command:
    return installed(EXAMPLE, tmp_path_factory.mktemp("tabular"))


def test_the_example_is_at_most_200_lines() -> None:
    assert sum(len(path.read_text().splitlines()) for path in EXAMPLE.rglob("*.py")) <= 200


def test_the_example_is_listed_beside_our_own(tabular: Command) -> None:
    rows = json.loads(tabular("plugins", "--json").stdout)["plugins"]
    assert {"audio", "video", "3d", "protein", "text", "tabular"} <= {row["name"] for row in rows}


@pytest.mark.parametrize("objective", ["consistency", "dmd"])
def test_the_example_proves_itself_with_two_objectives(tabular: Command, objective: str) -> None:
    done = tabular("prove", "tabular/wine", "--profile", "smoke", "-s", f"objective={objective}", "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_undertrained_student_of_the_example_is_not_proven(tabular: Command) -> None:
    done = tabular(
        "prove", "tabular/wine", "--profile", "smoke", "-s", "teacher_steps=1", "-s", "steps=1", "--quiet"
    )
    assert done.returncode == 1, done.stdout + done.stderr


def test_the_example_passes_the_kit(tabular: Command) -> None:
    done = tabular("check", "tabular", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(json.loads(done.stdout)) > 10


def test_a_new_plugin_works_from_its_first_minute(tmp_path: Path) -> None:
    write_plugin("circle", tmp_path / "project")
    circle = installed(tmp_path / "project", tmp_path)
    assert circle("check", "circle").returncode == 0
    done = circle("prove", "circle/ring", "--profile", "smoke", "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr
