"""What ``fewstep new-plugin`` refuses before it writes anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewstep.errors import FewstepError
from fewstep.plugins.loader import registry
from fewstep.plugins.skeleton import write_plugin


@pytest.mark.parametrize("name", ["Bad-Name", "1x", "", "import", "../x", "\u00fc", "a" * 65])
def test_a_name_that_cannot_be_one_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FewstepError, match="cannot name a plugin"):
        write_plugin(name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_name_of_an_installed_plugin_is_refused(tmp_path: Path) -> None:
    taken = next(one.name for one in registry().plugins if one.name.isidentifier())
    with pytest.raises(FewstepError, match="is installed already"):
        write_plugin(taken, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_free_name_is_written(tmp_path: Path) -> None:
    files = write_plugin("quite_free", tmp_path / "new")
    assert (tmp_path / "new" / "pyproject.toml") in files
