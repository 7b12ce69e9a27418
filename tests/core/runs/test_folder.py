"""A run folder survives kills, full disks and read-only places without losing what it held."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from fewstep.errors import FewstepError
from fewstep.runs.folder import RunFolder, _locked, drafting, find_run, writing


def test_folders_made_in_one_second_do_not_meet(tmp_path: Path) -> None:
    made = {RunFolder.create(tmp_path, "ring/points", "abcdef123").path for _ in range(3)}
    assert len(made) == 3
    assert all("-abcdef" in path.name and path.parent == tmp_path / "ring" / "points" for path in made)


def test_a_write_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    folder.write("eval.json", "good")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FewstepError, match="No space left on device"):
        folder.write("eval.json", "half")
    assert (tmp_path / "eval.json").read_text() == "good"
    assert [path.name for path in tmp_path.iterdir()] == ["eval.json"]


def test_a_full_device_is_told(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(FewstepError, match=r"(?s)cannot write .*metrics.jsonl: No space left.*free space"):
        RunFolder(tmp_path).append("metrics.jsonl", {"stage": "a"})


def test_a_place_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(FewstepError, match="cannot write"):
        RunFolder.create(tmp_path / "runs", "ring/points", "abcdef")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write into read-only folders")
def test_a_read_only_folder_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(FewstepError, match="Permission denied"):
        RunFolder.create(tmp_path, "ring/points", "abcdef")


def test_a_read_only_file_system_is_told(tmp_path: Path) -> None:
    with pytest.raises(FewstepError, match="Read-only file system"), writing(tmp_path):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_cycles_that_ran_again_after_a_resume_count_once(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for cycle, value in ((1, 9.0), (2, 8.0), (2, 7.0), (3, 6.0)):
        folder.append("metrics.jsonl", {"stage": "a", "cycle": cycle, "metrics": {"loss": value}})
    assert folder.metrics() == {("a", "loss"): [(1, 9.0), (2, 7.0), (3, 6.0)]}


def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(
        '{"stage": "a", "cycle": 1, "metrics": {"loss": 2}}\n{"stage": "a", "cy'
    )
    assert RunFolder(tmp_path).metrics() == {("a", "loss"): [(1, 2)]}


def test_a_line_that_is_no_object_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('3\nnull\n{"stage": "a", "updates": 5, "t": 2.0}\n')
    assert RunFolder(tmp_path).training() == {"a": {"updates": 5, "seconds": 2.0}}


def test_a_recipe_name_finds_its_newest_run(tmp_path: Path) -> None:
    for name in ("20260101-000000-aaaaaa", "20260102-000000-aaaaaa"):
        (tmp_path / "ring" / "points" / name).mkdir(parents=True)
        (tmp_path / "ring" / "points" / name / "run.json").write_text("{}")
    assert find_run("ring/points", tmp_path).path.name == "20260102-000000-aaaaaa"


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(FewstepError, match="no run at 'ring/points'"):
        find_run("ring/points", tmp_path)


def test_a_damaged_run_json_is_told(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(FewstepError, match=r"run\.json cannot be read"):
        _ = RunFolder(tmp_path).facts


def test_drafts_of_killed_processes_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    (tmp_path / ".export-killed").mkdir()
    (tmp_path / ".export-killed" / "half.onnx").touch()
    with drafting(tmp_path, "export") as first, drafting(tmp_path, "export") as second:
        assert set(tmp_path.iterdir()) == {first, second}
    assert not list(tmp_path.iterdir())


def test_no_draft_is_seen_before_it_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks for leftovers waits while a draft is made."""
    free: list[bool] = []

    def made(**asked: str) -> str:
        with _locked(tmp_path) as found:
            free.append(found)
        return mkdtemp(**asked)

    mkdtemp = tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", made)
    with drafting(tmp_path, "export") as draft, _locked(draft) as found, _locked(tmp_path) as after:
        assert (free, found, after) == ([False], False, True)
