"""A run that was killed goes on as if nothing had happened."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from engine_toys import Cloud, Duel, Fit, Generator, digest, plan, site, stage, two_stages

from fewstep.engine import CheckpointError, FrozenError, Settings, Stopped, Watch, execute
from fewstep.engine.team import fill
from fewstep.protocol import Stage

CHILD = Path(__file__).with_name("child.py")
KILLED_AT = 10
"""Batch of the second stage: the second critic update of cycle 3 (each cycle takes three), chosen once by a die."""


class Ear(Watch):
    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []
        self.paths: list[Path] = []

    def stage_started(self, stage: str, steps: int, at: int) -> None:
        self.begun.append((stage, at))

    def saved(self, path: Path) -> None:
        self.paths.append(path)


def test_a_run_killed_inside_a_critic_phase_of_stage_two_ends_bit_equal(tmp_path):
    died = subprocess.run([sys.executable, CHILD, tmp_path, str(KILLED_AT)], capture_output=True, timeout=100)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    ear = Ear()
    mine = two_stages(Duel(reset=2), dropout=0.1)
    resumed = execute(mine, site(tmp_path), tmp_path, watch=ear, settings=Settings(save_every=1))
    assert ear.begun == [("student", 3)]
    assert digest(resumed) == digest(execute(mine, site(tmp_path)))


@pytest.mark.parametrize("builds", [(), ("student",)])
@pytest.mark.parametrize("stop_at", [1, 2, 3, 8])
def test_a_run_stopped_by_ctrl_c_resumes_between_any_two_updates(tmp_path, builds, stop_at):
    duel = Duel(builds, reset=2)
    asked = iter(range(1000))

    def press(index: int) -> None:
        # One batch is read by the check before training.
        if next(asked) == stop_at:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Stopped, match="same folder to go on"):
        execute(two_stages(duel, steps=4, accumulate=2, dropout=0.1, seen=press), site(tmp_path), tmp_path)
    again = two_stages(duel, steps=4, accumulate=2, dropout=0.1)
    assert digest(execute(again, site(tmp_path), tmp_path)) == digest(execute(again, site(tmp_path)))


def test_another_seed_ends_elsewhere(tmp_path):
    assert digest(execute(two_stages(), site(tmp_path))) != digest(
        execute(two_stages(), site(tmp_path, seed=1))
    )


def test_saving_and_logging_shift_nothing(tmp_path):
    quiet = execute(two_stages(), site(tmp_path))
    loud = execute(two_stages(), site(tmp_path), tmp_path, settings=Settings(save_every=1, log_every=1))
    assert digest(quiet) == digest(loud)


def test_a_finished_run_is_only_loaded(tmp_path):
    first = execute(two_stages(), site(tmp_path), tmp_path)
    ear = Ear()
    second = execute(two_stages(), site(tmp_path), tmp_path, watch=ear)
    assert digest(first) == digest(second)
    assert (ear.begun, ear.paths) == ([], [])


def test_a_run_leaves_the_global_generator_alone(tmp_path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    execute(two_stages(dropout=0.1), site(tmp_path))
    assert torch.equal(before, torch.get_rng_state())


def test_only_the_newest_checkpoints_stay_and_the_pointer_names_the_last(tmp_path):
    execute(plan(stage(Fit(), 9)), site(tmp_path), tmp_path, settings=Settings(save_every=2, keep=2))
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir() if path.is_dir())
    assert kept == ["student-00000006", "student-00000008"]
    assert (tmp_path / "checkpoints" / "latest").read_text() == "student-00000008"


def test_a_half_written_checkpoint_is_never_read(tmp_path):
    asked = iter(range(100))

    def press(index: int) -> None:
        if next(asked) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Stopped):
        execute(plan(stage(Fit(), 6, source=Cloud(seen=press))), site(tmp_path), tmp_path)
    draft = tmp_path / "checkpoints" / ".draft-student-00000009"
    draft.mkdir()
    (draft / "__0_0.distcp").write_bytes(b"half")
    again = plan(stage(Fit(), 6))
    assert digest(execute(again, site(tmp_path), tmp_path)) == digest(execute(again, site(tmp_path)))


def test_a_checkpoint_of_other_roles_is_refused_and_says_what_to_do(tmp_path):
    stopping = plan(stage(Fit(), 6, source=Cloud(seen=_press_at(3))))
    with pytest.raises(Stopped):
        execute(stopping, site(tmp_path), tmp_path)
    wider = plan(stage(Fit(), 6, roles={"student": Generator(width=9)}))
    with pytest.raises(CheckpointError, match="resume with the plan that wrote it"):
        execute(wider, site(tmp_path), tmp_path)


def test_a_resume_over_another_teacher_is_refused(tmp_path):
    first = two_stages(seen=_press_at(5))
    with pytest.raises(Stopped):
        execute(first, site(tmp_path), tmp_path)

    def changed(shelf):
        with torch.no_grad():
            shelf["teacher"].first.bias.add_(1.0)
        return first.stages[1].build(shelf)

    other = plan(first.stages[0], Stage("student", changed, 6, first.stages[1].leaves))
    with pytest.raises(FrozenError, match="teacher"):
        execute(other, site(tmp_path), tmp_path)


def test_a_folder_that_cannot_be_written_is_told_before_anything_runs(tmp_path):
    (tmp_path / "file").write_text("in the way")
    built = []
    watched = replace(stage(Fit()), build=lambda shelf: built.append(1))
    with pytest.raises(CheckpointError, match=r"cannot write .*\n.*nothing was run\n.*free some space"):
        execute(plan(watched), site(tmp_path), tmp_path / "file")
    assert not built


def test_a_disk_that_fills_up_keeps_the_last_good_checkpoint(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    calls = iter(range(100))

    def fill(index: int) -> None:
        if next(calls) == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))

    try:
        full = plan(stage(Fit(), 9, source=Cloud(seen=fill)))
        with pytest.raises(CheckpointError, match="student-00000003, is untouched"):
            execute(full, site(tmp_path), tmp_path, settings=Settings(save_every=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    again = plan(stage(Fit(), 9))
    assert digest(execute(again, site(tmp_path), tmp_path)) == digest(execute(again, site(tmp_path)))


def _press_at(at):
    asked = iter(range(1000))

    def press(index: int) -> None:
        if next(asked) == at:
            os.kill(os.getpid(), signal.SIGINT)

    return press


def stopped_late(folder: Path) -> list[Path]:
    """Checkpoints of a run that stopped in its last stage, oldest first."""
    asked = iter(range(1000))

    def press(index: int) -> None:
        if next(asked) == 8:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Stopped):
        execute(two_stages(steps=4, seen=press), site(folder), folder, settings=Settings(save_every=1))
    return sorted((folder / "checkpoints").glob("student-*"))


def test_a_cut_checkpoint_is_refused_in_a_few_lines_without_a_trace(tmp_path):
    newest = stopped_late(tmp_path)[-1]
    for file in newest.glob("*.distcp"):
        file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(CheckpointError, match="remove the checkpoint") as refused:
        execute(two_stages(steps=4), site(tmp_path), tmp_path)
    assert "Traceback" not in str(refused.value)
    assert len(str(refused.value).splitlines()) == 3


def test_where_the_newest_checkpoint_was_removed_the_run_goes_on_from_the_one_before(tmp_path):
    newest = stopped_late(tmp_path)[-1]
    shutil.rmtree(newest)
    ear = Ear()
    resumed = execute(two_stages(steps=4), site(tmp_path), tmp_path, watch=ear)
    assert [stage for stage, _ in ear.begun] == ["student"]
    assert ear.begun[0][1] > 0
    assert digest(resumed) == digest(execute(two_stages(steps=4), site(tmp_path)))


def test_what_was_saved_by_another_network_says_how_to_go_on():
    with pytest.raises(
        CheckpointError, match=r"saved 'student' does not fit this plan(.|\n)*to do:.*environment\.json"
    ):
        fill("student", torch.nn.Linear(2, 2), {"scale": torch.ones(2)})
