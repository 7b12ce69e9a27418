"""What ``fewstep new-plugin`` refuses before it writes anything, and the network that it writes."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

from fewstep.errors import FewstepError
from fewstep.plugins.loader import registry
from fewstep.plugins.skeleton import write_plugin
from fewstep.protocol import Cond


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


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that a new plugin begins with."""
    write_plugin("quite_free", tmp_path / "new")
    monkeypatch.syspath_prepend(tmp_path / "new")
    return importlib.import_module("fewstep_quite_free.recipe")


def test_its_flow_map_starts_as_the_teacher_and_learns_where_to_land(recipe: ModuleType) -> None:
    plain, told = recipe.Network(), recipe.Network(lands=True)
    assert (plain.accepts, told.accepts) == (set(), {"to"})
    told.load_state_dict(plain.state_dict(), strict=False)
    x, time = torch.randn(4, 2), torch.linspace(-1, 1, 4)
    assert torch.equal(told(x, time, Cond(), to=time - 1), plain(x, time, Cond()))
    told(x, time, Cond(), to=time - 1).square().mean().backward()
    torch.optim.SGD(told.parameters(), lr=0.1).step()
    assert not torch.allclose(
        told(x, time, Cond(), to=time - 1), told(x, time, Cond(), to=time - 2), rtol=1e-3
    )
