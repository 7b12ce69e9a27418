"""One version, and a tested set that fits what is asked for."""

from __future__ import annotations

import re
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import fewstep

OUTSIDE = {"nerfstudio"}
"""Extras that the tested set leaves out: it pins some sixty packages of its own."""


@pytest.fixture(scope="module")
def pins(root) -> dict[str, str]:
    """Normalised name -> version of ``constraints.txt``."""
    lines = (root / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_the_installed_version_is_the_one_of_the_package():
    assert metadata.version("fewstep") == fewstep.__version__


def test_every_requirement_has_a_tested_version_that_fits(project, pins):
    extras = {
        name: lines
        for name, lines in project["project"]["optional-dependencies"].items()
        if name not in OUTSIDE
    }
    lines = [*project["project"]["dependencies"], *(line for lines in extras.values() for line in lines)]
    wanted = [Requirement(line) for line in lines]
    for requirement in wanted:
        if requirement.name != "fewstep":
            assert pins[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_the_tested_set_is_names_and_versions_and_nothing_else(root):
    lines = [line for line in (root / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines == sorted(lines, key=lambda line: line.split("=="))
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][\w.!+-]*", line) for line in lines)


def test_all_is_every_extra_that_installs_anywhere(project):
    assert project["project"]["optional-dependencies"]["all"] == [
        "fewstep[audio,singing,music,listening,pipelines,video,3d,protein,text,diffusers,serve,onnx]"
    ]


def test_each_plugin_has_an_extra_of_its_name(project):
    names = set(project["project"]["entry-points"]["fewstep.plugins"])
    assert names == {"audio", "video", "3d", "protein", "text"}
    assert names <= set(project["project"]["optional-dependencies"])
