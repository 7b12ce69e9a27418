"""Defaults, presets, files and the command line become one configuration; all errors are shown at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BeforeValidator, Field

from fewstep.config import RecipeConfig, Resolved, Settings, resolve, setting
from fewstep.config.fields import describe
from fewstep.errors import FewstepError


class Gentle(Settings):
    kind: Literal["gentle"] = "gentle"
    patience: float = setting(1.0, "how long it waits", unit="s", ge=0)


class Strict(Settings):
    kind: Literal["strict"] = "strict"
    force: float = setting(2.0, "how hard it pulls", gt=0, lt=10)


def _word(given: object) -> object:
    return {"kind": given} if isinstance(given, str) else given


class Config(RecipeConfig):
    width: int = setting(8, "channels of the network", unit="channels", ge=1)
    lr: float = setting(1e-3, "learning rate", gt=0)
    sizes: tuple[int, ...] = setting((1, 2), "sizes of the levels")
    objective: Annotated[Gentle | Strict, Field(discriminator="kind"), BeforeValidator(_word)] = Strict()


def resolved(*sets: str, file: Path | None = None, **preset: object) -> Resolved[Config]:
    return resolve(Config, preset=preset, profile="smoke", file=file, sets=sets)


def test_the_later_layer_wins_and_every_value_keeps_its_origin(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("# a comment\nwidth: 5\nobjective:\n  force: 3\n")
    found = resolved("objective.force=4", file=file, width=4, lr=0.5, sizes=[3])
    assert (found.config.width, found.config.lr, found.config.sizes) == (5, 0.5, (3,))
    assert found.config.objective == Strict(force=4)
    assert found.origins["width"] == "mine.yaml:2"
    assert found.origins["lr"] == "preset smoke"
    assert found.origins["objective.force"] == "-s"
    assert found.origins["seed"] == "default"


def test_all_wrong_values_are_told_at_once_with_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("widht: 3\nlr: abc\nobjective:\n  kind: strict\n  force: -1\n")
    with pytest.raises(FewstepError) as error:
        resolved("width=0", "teacher.kind=chekpoint", "sizes=[1, a]", "objective.forse=1", file=file)
    told = str(error.value)
    assert "7 settings are wrong" in told
    assert "widht (mine.yaml:1): no such field; did you mean 'width'?" in told
    assert "lr (mine.yaml:2): input should be a valid number" in told
    assert "objective.force (mine.yaml:5): input should be greater than 0, got -1" in told
    assert "width (-s): input should be greater than or equal to 1, got 0" in told
    assert "teacher.kind (-s): 'chekpoint' is none of" in told
    assert "did you mean 'checkpoint'?" in told
    assert "sizes.1 (-s)" in told
    assert "objective.forse (-s): no such field; did you mean 'force'?" in told


def test_none_as_it_is_shown_is_answered_with_how_it_is_written() -> None:
    with pytest.raises(FewstepError, match=r"lr \(-s\): .*got 'none'; to leave it unset write null"):
        resolved("lr=none")


@pytest.mark.parametrize("value", ["0", "-3"])
def test_a_size_of_zero_or_less_is_refused(value: str) -> None:
    with pytest.raises(FewstepError, match=r"width \(-s\): input should be greater than or equal to 1"):
        resolved(f"width={value}")


def test_choosing_another_kind_drops_the_fields_of_the_one_below() -> None:
    found = resolved("objective=gentle", "objective.patience=3", **{"objective.force": 5})
    assert found.config.objective == Gentle(patience=3)
    assert resolved("objective.patience=3", "objective.kind=gentle").config.objective == Gentle(patience=3)


def test_choosing_the_same_kind_again_keeps_its_fields() -> None:
    assert resolved("objective=strict", **{"objective.force": 5}).config.objective == Strict(force=5)


def test_an_unknown_objective_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(FewstepError, match=r"'gentel' is none of .*did you mean 'gentle'"):
        resolved("objective=gentel")


def test_scientific_numbers_without_a_dot_are_numbers() -> None:
    assert resolved("lr=1e-5").config.lr == 1e-5


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(FewstepError, match="finite"):
        resolved("lr=.inf")


@pytest.mark.parametrize("entry", ["width", "=3", "objective..force=2"])
def test_an_entry_that_is_no_assignment_is_refused(entry: str) -> None:
    with pytest.raises(FewstepError, match="not a setting"):
        resolved(entry)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("width: [1", "line 1"),
        ("- 1\n- 2\n", "not a mapping"),
        ("width: 1\nlr: 1\nwidth: 2\n", r"mine.yaml:3 writes 'width' again; it stands in line 1"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(FewstepError, match=told):
        resolved(file=file)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FewstepError, match="cannot read the settings file"):
        resolved(file=tmp_path / "absent.yaml")


def test_the_hash_follows_values_and_not_their_origins() -> None:
    assert resolved("width=4").hash == resolved(width=4).hash
    assert resolved("width=4").hash != resolved("width=5").hash


def test_every_field_is_described_with_type_default_unit_and_bounds() -> None:
    rows = {row.name: row for row in describe(Config)}
    assert (rows["width"].type, rows["width"].default, rows["width"].unit) == ("int", "8", "channels")
    assert rows["width"].bounds == "1 <= value"
    assert rows["objective"].type == "gentle | strict"
    assert rows["objective.force"].bounds == "0 < value < 10"
    assert rows["teacher.path"].type == "str | none"


def test_configuration_is_read_without_importing_torch() -> None:
    code = "import sys, fewstep.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
