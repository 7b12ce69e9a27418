"""The registry of methods is complete, every row is healthy, and the gates of the toys can be missed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from methods import METHODS, WITHOUT_ROW
from ring import RING as WHOLE
from tables import Row, controls, markdown, markers, table, trained, write
from toys import DRAWN

from fewstep.config.objectives import KINDS
from fewstep.protocol import Key

RING = replace(WHOLE, pretraining=3)


def test_every_kind_has_a_row_or_a_reason() -> None:
    rows = {method.kind for method in METHODS.values()}
    assert rows | set(WITHOUT_ROW) == set(KINDS)
    assert not rows & set(WITHOUT_ROW)
    assert all(len(reason.split()) > 3 for reason in WITHOUT_ROW.values())


@pytest.mark.parametrize("name", METHODS)
def test_a_few_updates_leave_finite_numbers(name: str) -> None:
    row = trained(RING, name, seed=0, quick=True)
    assert row.updates > 0
    assert all(math.isfinite(value) for value in row.found.values())
    assert row.calls == METHODS[name].calls
    assert row.cost >= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_few_updates_leave_finite_numbers_on_digits(name: str) -> None:
    from digits import DIGITS

    row = trained(replace(DIGITS, pretraining=3), name, seed=0, quick=True)
    assert all(math.isfinite(value) for value in row.found.values())


def test_data_pass_the_gate_of_the_ring_and_short_solvers_miss_it() -> None:
    passed = {row.name: row.passed for row in controls(RING)}
    assert passed == {
        "data": True,
        "teacher, Heun 16": True,
        "teacher, Heun 8": True,
        "teacher, Heun 4": False,
        "teacher, Heun 2": False,
        "teacher, Heun 1": False,
        "teacher, one call": False,
    }


def test_a_student_that_loses_a_mode_misses_the_gate_of_the_ring() -> None:
    x = RING.draw(Key(5), DRAWN)
    lost = x[torch.atan2(x[:, 1], x[:, 0]).abs() > 0.3]
    assert RING.passes(RING.measure(x))
    assert not RING.passes(RING.measure(lost))


@pytest.mark.slow
def test_the_gate_of_digits_is_missed_by_the_best_gaussian_and_by_short_solvers() -> None:
    from digits import DIGITS, STORED

    factor = torch.linalg.cholesky(torch.cov(STORED.T) + 1e-4 * torch.eye(64))
    normal = Key(6).normal(torch.zeros(DRAWN, 64))
    assert not DIGITS.passes(DIGITS.measure(STORED.mean(0) + normal @ factor.T))
    passed = {row.name: row.passed for row in controls(DIGITS)}
    assert passed["data"]
    assert passed["teacher, Heun 8"]
    assert not passed["teacher, Heun 2"]
    assert not passed["teacher, one call"]


def test_several_seeds_of_a_row_are_told_as_median_and_range(tmp_path: Path) -> None:
    rows = [Row("a", seed, {"distance": 0.01 * (seed + 1)}, seed < 2, 1.0, 10, 4.0, 2.0) for seed in range(3)]
    lines = table(rows)
    assert lines[1] == ["a", "0.0200 (0.0100 to 0.0300)", "2 of 3", "1", "10", "4", "2"]
    page, (begin, end) = tmp_path / "page.md", markers("toy")
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    write(page, "toy", markdown(lines))
    assert page.read_text().startswith(f"before\n{begin}\n| ")
    assert "old" not in page.read_text()
    assert page.read_text().endswith(f"{end}\nafter\n")
