"""Small real distributions for the loader to find: a module and its metadata, as an installer leaves them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

GOOD = """
    from fewstep.plugins import RecipeSpec, hookimpl

    PROTOCOL = (0, 1)

    @hookimpl
    def fewstep_recipes():
        yield RecipeSpec(name="{name}/one", summary="One", config="json:JSONDecoder", build="json:loads")
"""
"""A plugin that does all it should; ``{name}`` is its name."""


def install(
    site: Path,
    distribution: str,
    source: str,
    *,
    name: str | None = None,
    requires: Sequence[str] = (),
    extras: Sequence[str] = (),
    version: str = "1.0",
) -> Path:
    """Write a module ``<distribution>_plugin`` with its ``.dist-info`` into ``site``; returns ``site``."""
    name = name or distribution
    module = f"{distribution.replace('-', '_')}_plugin"
    info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (site / f"{module}.py").write_text(dedent(source).replace("{name}", name))
    lines = ["Metadata-Version: 2.1", f"Name: {distribution}", f"Version: {version}"]
    lines += [f"Provides-Extra: {extra}" for extra in extras] + [
        f"Requires-Dist: {line}" for line in requires
    ]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    (info / "entry_points.txt").write_text(f"[fewstep.plugins]\n{name} = {module}\n")
    (info / "INSTALLER").write_text("by hand\n")
    (info / "RECORD").write_text(f"{module}.py,,\n")
    return site


@dataclass(frozen=True)
class Answer:
    """What a process left."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """Rows of ``plugins --json`` by distribution; those of fewstep itself by plugin name."""
        return {
            row["name"] if row["distribution"] == "fewstep" else row["distribution"]: row
            for row in self.data["plugins"]
        }


def ask(*arguments: str, sites: Sequence[Path] = (), **environ: str) -> Answer:
    """Run ``python ARGUMENTS`` in a fresh process that sees the distributions in ``sites``, in that order."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FEWSTEP_")}
    paths = {"PYTHONPATH": os.pathsep.join(map(str, sites)), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**kept, **paths, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def fewstep(*arguments: str, sites: Sequence[Path] = (), **environ: str) -> Answer:
    """Run the program in a fresh process."""
    return ask("-m", "fewstep.cli", *arguments, sites=sites, **environ)


@pytest.fixture(name="install", scope="session")
def _install() -> Callable[..., Path]:
    return install


@pytest.fixture(name="ask", scope="session")
def _ask() -> Callable[..., Answer]:
    return ask


@pytest.fixture(name="fewstep", scope="session")
def _fewstep() -> Callable[..., Answer]:
    return fewstep


@pytest.fixture(scope="session")
def good() -> str:
    return GOOD
