"""Progress says where training stands and when it will end."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fewstep.runs.progress import LiveProgress, PlainProgress, clock_time, remaining


def test_plain_lines_come_seldom_and_name_the_time_left() -> None:
    lines: list[str] = []
    seconds = iter(range(0, 1000, 6))
    progress = PlainProgress(lines.append, lambda: float(next(seconds)))
    progress.stage_started("student", 100, 0)
    for cycle in (10, 20, 30):
        progress.logged("student", cycle, cycle, {"student/loss": 0.5, "student/seconds": 0.1})
    assert lines == ["student: 100 cycles", "student: 20/100, 48 s left, student 0.5"]


def test_a_resumed_stage_is_paced_by_what_it_did_itself() -> None:
    lines: list[str] = []
    seconds = iter((0.0, 20.0))
    progress = PlainProgress(lines.append, lambda: next(seconds))
    progress.stage_started("student", 100, 90)
    progress.logged("student", 95, 95, {})
    assert lines == ["student: going on at cycle 90 of 100", "student: 95/100, 20 s left, "]


@pytest.mark.parametrize(("count", "told"), [(0, "1 task"), (1, "1 design"), (2, "2 designs")])
def test_what_a_stage_counts_is_named_in_lines_and_beside_bars(
    count: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    lines: list[str] = []
    screen = io.StringIO()
    live = LiveProgress(Console(file=screen, force_terminal=True, width=120), "design")
    for progress in (live, PlainProgress(lines.append, unit="design")):
        progress.stage_started("drawing", count, 0)
    live.close()
    assert lines == [f"drawing: {told.removeprefix('1 ') if not count else told}"]
    assert f"0/{told} " in screen.getvalue()


def test_times_read_as_people_write_them() -> None:
    assert [clock_time(s) for s in (4.4, 59.6, 187)] == ["4 s", "1:00", "3:07"]
    assert remaining(25, 100, 10) == 30
