"""A run in one process: its folder, going on, coming back, and everything that is refused before training."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open

import fewstep
from fewstep.engine import AssemblyError
from fewstep.errors import FewstepError
from fewstep.plugins.lifecycle import RunHooks
from fewstep.plugins.loader import registry
from fewstep.protocol import tensors
from fewstep.runs import Run
from fewstep.runs.folder import RunFolder, claimed
from fewstep.runs.runner import InterruptedRunError, _Recorder

pytestmark = pytest.mark.usefixtures("ring")


@pytest.fixture(scope="module")
def finished(ring: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs")
    return fewstep.run("ring/points", profile="smoke", out=out, quiet=True)


def tiny(out: Path, **given: Any) -> Run:
    return fewstep.run("ring/points", profile="tiny", out=out, quiet=True, **given)


def test_the_recipe_proves_itself(finished: Run) -> None:
    assert finished.evaluation is not None
    assert finished.evaluation.passed
    student, teacher = finished.evaluation.row("student"), finished.evaluation.row("teacher")
    assert student is not None
    assert teacher is not None
    assert (student.evaluations, teacher.evaluations) == (1, 19)


def test_the_folder_holds_what_it_promises(finished: Run) -> None:
    names = {path.name for path in finished.folder.iterdir()}
    assert names >= {
        "run.json", "config.yaml", "config.origin.json", "environment.json", "metrics.jsonl", "checkpoints",
        "samples", "eval.json", "export", "report.html", "MODEL_CARD.md",
    }  # fmt: skip
    facts = json.loads((finished.folder / "run.json").read_text())
    assert (facts["status"], facts["recipe"], facts["profile"]) == ("done", "ring/points", "smoke")
    assert facts["again"] == "fewstep run ring/points --profile smoke"
    origins = json.loads((finished.folder / "config.origin.json").read_text())
    assert (origins["steps"], origins["width"]) == ("preset smoke", "default")
    assert {stage for stage, _ in finished.files.metrics()} == {"teacher", "student"}


def test_a_loaded_run_draws_the_same_samples(finished: Run, tmp_path: Path) -> None:
    before = finished.sample(5, seed=3, out=tmp_path / "a")
    after = fewstep.load(finished.folder).sample(5, seed=3, out=tmp_path / "b")
    assert torch.equal(tensors(before.x)[0], tensors(after.x)[0])
    assert (tmp_path / "a" / "ring.txt").read_bytes() == (tmp_path / "b" / "ring.txt").read_bytes()


def test_another_seed_draws_other_samples(finished: Run, tmp_path: Path) -> None:
    one, two = (finished.sample(5, seed=seed, out=tmp_path) for seed in (0, 1))
    assert not torch.equal(tensors(one.x)[0], tensors(two.x)[0])


def test_steps_change_how_often_the_student_is_called(finished: Run, tmp_path: Path) -> None:
    assert finished.sample(2, out=tmp_path, steps=3).evaluations == 3


def test_the_exported_student_is_the_trained_one(finished: Run) -> None:
    with safe_open(finished.folder / "export" / "student.safetensors", "pt") as file:
        assert file.metadata()["recipe"] == "ring/points"
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    mine = finished.shelf["student"].state_dict()
    assert stored.keys() == mine.keys()
    assert all(torch.equal(stored[name], mine[name]) for name in mine)


def test_a_finished_run_is_a_teacher_for_another(finished: Run, tmp_path: Path) -> None:
    teacher = {"kind": "checkpoint", "path": str(finished.folder)}
    done = tiny(tmp_path, teacher=teacher)
    assert [stage.name for stage in done.plan.stages] == ["student"]
    assert done.files.facts["parents"] == [str(finished.folder)]


def test_a_notebook_sees_samples_and_panels(finished: Run, tmp_path: Path) -> None:
    assert "<pre>" in finished.sample(2, out=tmp_path)._repr_html_()
    assert "<audio" in finished._repr_html_()


def test_the_model_card_says_what_was_measured(finished: Run) -> None:
    card = (finished.folder / "MODEL_CARD.md").read_text()
    assert "- passed: student meets radius error <= 0.4" in card
    assert "the control teacher_1step" in card


def test_a_stopped_run_goes_on_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tiny(tmp_path / "whole")

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fewstep.runs.handle.evaluate", stop)
        with pytest.raises(InterruptedRunError, match="fewstep run ring/points --resume") as error:
            tiny(tmp_path / "stopped")
    folder = error.value.run.folder
    assert json.loads((folder / "run.json").read_text())["status"] == "stopped"
    resumed = fewstep.run("ring/points", resume=folder, quiet=True)
    assert resumed.files.facts["status"] == "done"
    ours, theirs = whole.shelf["student"].state_dict(), resumed.shelf["student"].state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_that_goes_on_counts_its_seconds_from_where_it_was_cut_short(
    finished: Run, tmp_path: Path
) -> None:
    cut = Run(RunFolder(tmp_path), finished.setup, finished.plan)
    cut.files.append("metrics.jsonl", {"stage": "a", "cycle": 1, "updates": 1, "t": 300.0, "metrics": {}})
    _Recorder(cut, RunHooks(())).logged("a", 2, 2, {})
    assert 300 <= cut.files.training()["a"]["seconds"] < 400


def test_a_run_of_another_recipe_is_not_resumed(finished: Run) -> None:
    with pytest.raises(FewstepError, match="is a run of 'ring/points', not of 'ring/other'"):
        fewstep.run("ring/other", resume=finished.folder)


def test_a_run_with_other_settings_is_not_resumed(finished: Run) -> None:
    with pytest.raises(FewstepError, match=r"(?s)begun with other settings:\n  width: 64 there, 8 now"):
        fewstep.run("ring/points", resume=finished.folder, width=8)


def test_what_is_no_run_folder_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(FewstepError, match=r"run\.json cannot be read"):
        fewstep.run("ring/points", resume=tmp_path)


def test_an_unfinished_run_is_not_sampled(finished: Run, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(finished.folder, copied)
    shutil.rmtree(copied / "stages" / "student")
    with pytest.raises(FewstepError, match=r"(?s)not finished.*stage student is gone.*--resume"):
        fewstep.load(copied)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"objective": "pso"}, "nobody offers the role 'reward'; .*-s objective.target"),
        ({"objective": "ratio-policy"}, "draws nothing on its way"),
        (
            {"objective": "dmd", "student": False},
            r"role 'student' must be a Student \(.*\), but it has no generate",
        ),
    ],
)
def test_an_objective_that_the_student_cannot_serve_is_told_before_training(
    tmp_path: Path, given: dict[str, Any], told: str
) -> None:
    with pytest.raises(AssemblyError, match=told):
        tiny(tmp_path, **given)
    assert not list(tmp_path.iterdir())


def test_a_corrupt_teacher_is_told_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "teacher.safetensors").write_bytes(b"no weights")
    with pytest.raises(FewstepError, match="cannot be read"):
        tiny(tmp_path / "runs", teacher={"kind": "checkpoint", "path": str(tmp_path / "teacher.safetensors")})
    assert not (tmp_path / "runs").exists()


def test_an_unknown_profile_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(FewstepError, match="no profile 'smok'; did you mean 'smoke'"):
        fewstep.run("ring/points", profile="smok", out=tmp_path)


def test_an_unknown_recipe_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(FewstepError, match="no recipe 'ring/pionts'; did you mean 'ring/points'"):
        fewstep.run("ring/pionts", out=tmp_path)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"num": 0}, "num is 0"),
        ({"steps": -1}, "steps is -1"),
        ({"contender": "techer"}, "did you mean 'teacher'"),
        ({"contender": "teacher_1step", "steps": 2}, "has no choice of steps"),
        (
            {"radius": -1, "name": "a1", "sise": 3},
            r"(?s)--sise: no such option.*--radius: .*greater than 0.*only letters",
        ),
        (
            {"radius": -1, "num": 0, "contender": "techer", "out": "one.png"},
            r"(?s)--radius: .*num is 0.*'techer'.*--out one.png",
        ),
    ],
)
def test_samples_that_make_no_sense_are_refused(finished: Run, given: dict[str, Any], told: str) -> None:
    with pytest.raises(FewstepError, match=told):
        finished.sample(**given)


def test_a_full_disk_while_metrics_are_written_ends_the_run_and_keeps_its_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Run] = []

    def fill(self: Any, run: Run) -> None:
        begun.append(run)
        (run.folder / "metrics.jsonl").symlink_to("/dev/full")

    monkeypatch.setattr("fewstep.plugins.lifecycle.RunHooks.run_started", fill)
    with pytest.raises(FewstepError, match="No space left on device"):
        tiny(tmp_path)
    facts = begun[0].files.facts
    assert facts["status"] == "failed"
    assert "No space left" in facts["error"]


def test_plugins_are_told_how_a_run_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    plugin = registry().plugin("ring")
    hooks = {
        "fewstep_run_started": lambda run, **_: told.append(f"started {run.setup.recipe.name}"),
        "fewstep_step_logged": lambda step, metrics, **_: told.append(next(iter(metrics)).partition("/")[0]),
        "fewstep_checkpoint_saved": lambda path, **_: told.append(f"saved {path.name}"),
        "fewstep_run_finished": lambda status, **_: told.append(status),
    }
    monkeypatch.setitem(plugin.__dict__, "call", hooks)
    tiny(tmp_path)
    assert list(dict.fromkeys(told)) == [
        "started ring/points", "teacher", "saved teacher", "student", "saved student", "done",
    ]  # fmt: skip


def test_a_panel_that_fails_costs_nothing_but_itself(finished: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(drawn: Any) -> str:
        raise ValueError("no pixels <today>")

    monkeypatch.setitem(finished.product.panels[0].__dict__, "render", broken)
    page = finished.report().read_text()
    assert "This panel could not be drawn: ValueError: no pixels &lt;today&gt;" in page
    assert "<audio" in page


def test_a_folder_in_which_a_process_runs_is_refused_to_a_second_one(tmp_path: Path) -> None:
    done = tiny(tmp_path)
    before = {path: path.read_bytes() for path in done.folder.rglob("*") if path.is_file()}
    with claimed(done.folder), pytest.raises(FewstepError, match="another process is running"):
        fewstep.run("ring/points", resume=done.folder, quiet=True)
    assert before == {path: path.read_bytes() for path in before}
    assert fewstep.run("ring/points", resume=done.folder, quiet=True).evaluation is not None


def test_a_command_that_is_offered_can_be_pasted_though_its_folder_has_spaces(tmp_path: Path) -> None:
    done = tiny(tmp_path / "my runs")
    words = shlex.split(str(InterruptedRunError(done)).split("to do:")[1], comments=True)
    assert words == ["fewstep", "run", "ring/points", "--resume", str(done.folder)]


def test_a_caution_told_again_by_a_run_begun_anew_is_kept_once(tmp_path):
    run = SimpleNamespace(files=RunFolder(tmp_path))
    run.files.note(recipe="ring/points")
    for _ in range(2):
        _Recorder(run, RunHooks([])).cautioned("student", "narrow")
    assert run.files.facts["cautions"] == ["student: narrow"]
