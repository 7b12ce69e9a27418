"""Tables on a terminal: numbers under each other, and no line wider than the screen."""

from __future__ import annotations

import pytest

from fewstep.commands._output import show_measured

LABELS = ["calls", "bond error (nm) ↓ *"]
COLUMNS = {
    "student": {"A": ["16", "0.1 [0.05, 0.15]"], "B": ["8", "0.25 [0.2, 0.3]"]},
    "teacher_one_call": {"A": ["1", "12"], "B": ["1", "13"]},
}


def shown(columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    show_measured(LABELS, COLUMNS)
    return capsys.readouterr().out.splitlines()


def test_a_wide_screen_has_the_intervals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(100, monkeypatch, capsys) == [
        "",
        "                                               student  teacher_one_call",
        "                                    A                B             A   B",
        "calls                              16                8             1   1",
        "bond error (nm) ↓ *  0.1 [0.05, 0.15]  0.25 [0.2, 0.3]            12  13",
        "",
    ]


def test_a_narrow_screen_has_the_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(50, monkeypatch, capsys) == [
        "",
        "                       student  teacher_one_call",
        "                       A     B             A   B",
        "calls                 16     8             1   1",
        "bond error (nm) ↓ *  0.1  0.25            12  13",
        "",
    ]


@pytest.mark.parametrize("columns", [26, 32, 40, 47])
def test_what_does_not_fit_becomes_tables_of_their_own(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(columns, monkeypatch, capsys)
    assert max(map(len, lines)) <= max(columns, len(LABELS[1]) + 2 + len("teacher_one_call"))
    numbers = [word for line in lines if line.startswith("bond") for word in line.split("*")[1].split()]
    assert numbers == ["0.1", "0.25", "12", "13"]
