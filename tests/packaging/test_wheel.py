"""What is in the wheel, and that it works where it is unpacked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile

import pytest

pytestmark = pytest.mark.packaging

PACKAGES = ("fewstep", "fewstep_audio", "fewstep_video", "fewstep_3d", "fewstep_protein", "fewstep_text")
HOMES = ("core", "plugins/audio", "plugins/video", "plugins/3d", "plugins/protein", "plugins/text")


@pytest.fixture(scope="module")
def names(wheel) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_holds_the_six_packages_and_nothing_else(names):
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


@pytest.mark.parametrize(("home", "package"), list(zip(HOMES, PACKAGES, strict=True)))
def test_every_file_of_a_package_that_git_knows_is_in_the_wheel(root, names, home, package):
    listed = subprocess.run(
        ["git", "ls-files", f"{home}/{package}"], cwd=root, capture_output=True, text=True, check=True
    )
    files = {line.removeprefix(f"{home}/") for line in listed.stdout.splitlines()}
    assert files
    assert files <= names


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_that_it_is_typed(names, package):
    assert f"{package}/py.typed" in names


def test_the_license_travels_with_the_wheel(names):
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_stays_small(wheel):
    assert wheel.stat().st_size < 5 * 2**20


def test_an_unpacked_wheel_lists_its_plugins(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    answer = subprocess.run(
        [sys.executable, "-m", "fewstep.cli", "plugins", "--json"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = json.loads(answer.stdout)["plugins"]
    ours = [row["name"] for row in rows if row["distribution"] == "fewstep"]
    assert ours == ["3d", "audio", "protein", "text", "video"]
