"""The program as people type it: results on standard output, errors without traceback, exit codes that mean something."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fewstep.cli import application, main
from fewstep.commands.sample import parse_options
from fewstep.errors import FewstepError

pytestmark = pytest.mark.usefixtures("ring")

Type = Callable[..., Result]


@pytest.fixture
def type_(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Type:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    runner, app = CliRunner(), application()
    return lambda *words: runner.invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def folder(ring: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli")
    found = CliRunner().invoke(application(), ["run", "ring/points", "-p", "tiny", "-o", str(out), "--json"])
    assert found.exit_code == 0, found.output
    return Path(json.loads(found.stdout)["folder"])


def test_run_prints_the_table_the_gate_and_where_the_files_are(type_: Type) -> None:
    found = type_("run", "ring/points", "-p", "tiny", "-q", "--seed", 4)
    assert found.exit_code == 0
    assert "teacher_1step" in found.stdout
    assert "radius error <= 0.4" in found.stdout
    assert "report   runs/ring/points/" in found.stdout
    assert "sample   runs/ring/points/" in found.stdout
    assert list(Path("runs/ring/points").iterdir())


def test_json_is_all_that_is_printed_when_asked_for(folder: Path) -> None:
    facts = json.loads((folder / "run.json").read_text())
    assert facts["status"] == "done"


def test_prove_succeeds_when_the_student_meets_and_the_control_misses(type_: Type) -> None:
    found = type_("prove", "ring/points", "-q")
    assert found.exit_code == 0, found.output
    assert "must miss" in found.stdout
    assert "\nproven" in found.stdout


def test_prove_fails_when_the_student_did_not_learn(type_: Type) -> None:
    found = type_("prove", "ring/points", "-p", "tiny", "-q")
    assert found.exit_code == 1
    assert "not proven" in found.stdout


def test_prove_refuses_a_recipe_that_nothing_can_fail(type_: Type) -> None:
    found = type_("prove", "ring/other")
    assert isinstance(found.exception, FewstepError)
    assert "no gate in profile 'default'" in str(found.exception)


def test_sample_writes_files_and_counts_calls(type_: Type, folder: Path) -> None:
    found = type_("sample", folder, "--num", 3, "--name", "mine", "--radius=2", "--out", "drawn")
    assert found.exit_code == 0, found.output
    assert "drawn/mine.txt\n3 samples, 1 network call, " in found.stdout
    assert len(Path("drawn/mine.txt").read_text().splitlines()) == 3


def test_more_samples_than_can_be_drawn_at_once_are_told_with_an_estimate(
    type_: Type, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: 64)  # pages of bytes: 4 kB of memory
    told = str(type_("sample", folder, "--num", 10**6).exception)
    assert re.search(r"1000000 samples at once would take at least \S+ GB and, .* hours", told)
    assert "draw in parts, each with a seed and a folder of its own" in told


def test_sample_lists_what_a_product_may_be_asked(type_: Type, folder: Path) -> None:
    found = type_("sample", folder, "--options")
    assert "--radius" in found.stdout
    assert "points are scaled to this radius" in found.stdout


def test_sample_tells_all_wrong_options_at_once(type_: Type, folder: Path) -> None:
    found = type_("sample", folder, "--radus", 2, "--name", "a1", "--radius", 0)
    told = str(found.exception)
    assert "--radus: no such option; did you mean 'radius'" in told
    assert "--name: only letters are known, got 'a1'" in told
    assert "--radius: input should be greater than 0" in told


def test_options_of_a_product_are_read_in_every_form() -> None:
    assert parse_options(["--text", "two words", "--loud", "--max-size=3"]) == {
        "text": "two words",
        "loud": True,
        "max_size": "3",
    }
    with pytest.raises(FewstepError, match="'words' belongs to no option"):
        parse_options(["--text", "two", "words"])


def test_one_sample_gets_the_name_that_out_gives(type_: Type, folder: Path) -> None:
    found = type_("sample", folder, "--num", 1, "--out", "deep/mine.txt")
    assert found.exit_code == 0, found.output
    assert found.stdout.startswith("deep/mine.txt\n1 sample, ")
    assert [path.name for path in Path("deep").iterdir()] == ["mine.txt"]
    assert type_("sample", folder, "--num", 1, "--out", "v0.1").exit_code == 0
    assert Path("v0.1/ring.txt").is_file()


def test_a_file_for_several_samples_or_of_another_kind_is_refused_before_drawing(
    type_: Type, folder: Path
) -> None:
    told = str(type_("sample", folder, "--num", 2, "--out", "a.png").exception)
    assert "--out a.png is one file, but 2 samples are asked for" in told
    assert "--out a.png: this product writes .txt files, not .png" in told
    assert "--num 1 --out a.txt, or a folder" in told
    assert not Path("a.png").exists()


def test_a_stream_is_written_piece_by_piece(type_: Type, folder: Path) -> None:
    found = type_("sample", folder, "--name", "mine", "--stream", "--out", "long.txt")
    assert found.exit_code == 0, found.output
    assert found.stdout == "long.txt\n"
    assert re.search(r"s  pair 3\n3 pieces in", found.stderr)
    assert [line.split()[0] for line in Path("long.txt").read_text().splitlines()] == ["mine"] * 3
    poured = type_("sample", folder, "--name", "mine", "--stream", "--out", "-")
    assert poured.stdout == Path("long.txt").read_text()
    assert "this product writes .txt files" in str(
        type_("sample", folder, "--stream", "--out", "a.wav").exception
    )


def test_compare_prints_the_table_and_writes_the_page(type_: Type, folder: Path, tmp_path: Path) -> None:
    other = type_("run", "ring/points", "-p", "tiny", "-q", "--seed", 4, "-o", tmp_path, "--json")
    found = type_("compare", folder, json.loads(other.stdout)["folder"], "--out", "both.html")
    assert found.exit_code == 0, found.output
    assert re.search(r"\n +student +teacher +teacher_1step\n +A +B +A +B +A +B\ncalls ", found.stdout)
    assert "differ   seed\npage     both.html" in found.stdout
    assert "B student" in Path("both.html").read_text()
    assert "is named twice" in str(type_("compare", folder, folder).exception)


def test_a_page_that_cannot_be_written_is_told_before_runs_are_opened(type_: Type, folder: Path) -> None:
    Path("taken").mkdir()
    Path("other").mkdir()
    Path("other/run.json").write_text('{"recipe": "ring/points"}')
    assert "cannot write taken: Is a directory" in str(
        type_("compare", folder, "other", "--out", "taken").exception
    )
    assert not list(Path("taken").iterdir())


def test_export_writes_weights_and_says_how_well_they_compare(type_: Type, folder: Path) -> None:
    found = type_("export", folder, "--out", "weights")
    assert found.exit_code == 0, found.output
    assert "student.safetensors" in found.stdout
    assert "largest error 0 over" in found.stdout
    assert Path("weights/config.yaml").is_file()
    assert "no format 'onx'" in str(type_("export", folder, "--format", "onx").exception)


def test_report_writes_the_page_again(type_: Type, folder: Path) -> None:
    (folder / "report.html").unlink()
    found = type_("report", folder)
    assert found.exit_code == 0, found.output
    assert (folder / "report.html").stat().st_size > 10_000


def test_show_tells_settings_roles_profiles_and_gates(type_: Type) -> None:
    found = type_("show", "ring/points", "--profile", "smoke", "-s", "width=4")
    assert found.exit_code == 0, found.output
    for told in (
        "1 <= value <= 4096",
        "from -s",
        "from preset smoke",
        "student: learns",
        "target: ",
        "<= 0.4",
        "Song et al.",
    ):
        assert told in found.stdout


def test_show_as_json_can_be_read_by_a_script(type_: Type) -> None:
    shown = json.loads(type_("show", "ring/points", "--json").stdout)
    assert {row["name"]: row["default"] for row in shown["settings"]}["steps"] == "600"
    assert shown["gates"][0]["control"] == "teacher_1step"


def test_schema_refuses_what_the_settings_refuse(type_: Type) -> None:
    schema = json.loads(type_("schema", "ring/points").stdout)
    assert schema["additionalProperties"] is False
    assert schema["properties"]["width"]["minimum"] == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "ring/pionts"], "no recipe 'ring/pionts'; did you mean 'ring/points'"),
        (["run", "ring/points", "-s", "objective=dmdd"], "'dmdd' is no objective; did you mean 'dmd'"),
        (["run", "ring/points", "-s", "widht=3", "-s", "batch=0"], "2 settings are wrong"),
        (["run", "ring/points", "--device", "tpu9"], "no device 'tpu9'"),
        (["run", "ring/points", "--device", "meta"], "no device 'meta'"),
        (["run", "ring/points", "--resume", "nowhere"], "run.json cannot be read"),
        (["sample", "ring/points"], "no run at 'ring/points'"),
    ],
)
def test_what_cannot_be_served_ends_with_code_2_and_no_traceback(
    words: list[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fewstep", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert told in shown
    assert "Traceback" not in shown
    assert not list(tmp_path.iterdir())


def _facts(out: Path) -> dict[str, Any]:
    found = list(out.glob("ring/points/*/run.json"))
    return json.loads(found[0].read_text()) if found else {}


def test_ctrl_c_saves_and_says_how_to_go_on(ring: dict[str, str], tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "fewstep.cli",
        "run",
        "ring/points",
        "-o",
        str(tmp_path),
        "-s",
        "steps=1000000",
    ]
    process = subprocess.Popen(words, env=ring, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while "teacher" not in _facts(tmp_path).get("stages", []) and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "stopped; what was learned is saved" in told
    assert "Traceback" not in told
    command = shlex.split(told.split("to do:")[1], comments=True)
    assert command[:4] == ["fewstep", "run", "ring/points", "--resume"]
    assert _facts(tmp_path)["status"] == "stopped"
    assert list((Path(command[4]) / "checkpoints").glob("student-*"))
