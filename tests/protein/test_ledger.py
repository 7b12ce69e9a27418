"""Ledgers: what is not done twice, what is done again, what a killed run leaves."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fewstep_protein.structures.ledger import read_ledger, remembered, whole_lines


def _noted(number: int, trail: str) -> int:
    with Path(trail).open("a") as handle:
        handle.write(f"{number}\n")
    return number * number


def test_what_a_ledger_holds_is_not_done_again(tmp_path: Path) -> None:
    trail, ledger = str(tmp_path / "trail"), tmp_path / "squares.jsonl"
    tasks = {str(i): (i, trail) for i in range(3)}
    assert remembered(tasks, _noted, ledger, 1) == {"0": 0, "1": 1, "2": 4}
    more = {str(i): (i, trail) for i in (4, 2, 0)}
    assert list(remembered(more, _noted, ledger, 1).items()) == [("4", 16), ("2", 4), ("0", 0)]
    assert Path(trail).read_text().split() == ["0", "1", "2", "4"]


def test_a_result_that_does_not_last_is_given_and_done_again(tmp_path: Path) -> None:
    trail, ledger = str(tmp_path / "trail"), tmp_path / "squares.jsonl"
    tasks = {str(i): (i, trail) for i in range(3)}
    for _ in range(2):
        assert remembered(tasks, _noted, ledger, 1, lasts=lambda square: square != 1) == {
            "0": 0,
            "1": 1,
            "2": 4,
        }
    assert Path(trail).read_text().split() == ["0", "1", "2", "1"]


def test_a_line_that_a_killed_run_left_unfinished_is_done_again(tmp_path: Path) -> None:
    ledger = tmp_path / "squares.jsonl"
    ledger.write_text('["0", 0]\n["1", 1]\n\0\0\0\n["2", ')
    assert read_ledger(ledger) == {"0": 0, "1": 1}
    with whole_lines(ledger) as book:
        book.write('["2", 4]\n')
    assert read_ledger(ledger) == {"0": 0, "1": 1, "2": 4}


KILLED = """
import os, time
from pathlib import Path
from fewstep_protein.structures.ledger import remembered

def slow(number, folder):
    Path(folder, str(os.getpid())).touch()
    time.sleep(0.05)
    return number

if __name__ == "__main__":
    remembered({str(i): (i, "pids") for i in range(10_000)}, slow, Path("slow.jsonl"), 2)
"""


@pytest.mark.slow
def test_workers_end_with_a_killed_parent_and_its_work_is_kept(tmp_path: Path) -> None:
    (tmp_path / "pids").mkdir()
    (tmp_path / "run.py").write_text(KILLED)
    running = subprocess.Popen([sys.executable, "run.py"], cwd=tmp_path)
    deadline = time.monotonic() + 60
    while len(read_ledger(tmp_path / "slow.jsonl")) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    running.kill()
    running.wait()
    workers = [int(path.name) for path in (tmp_path / "pids").iterdir()]

    def alive(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(workers) == 2
    assert not any(map(alive, workers))
    assert len(read_ledger(tmp_path / "slow.jsonl")) >= 3
