"""Runs side by side: the same questions, the same noise, what differs, and what cannot be compared."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import fewstep
from fewstep.errors import FewstepError
from fewstep.protocol import Batch, Cond, Drawn, Panel
from fewstep.runs import Run
from fewstep.runs.compare import Comparison, check, compare, render, write
from fewstep.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("ring")


@pytest.fixture(scope="module")
def two(ring: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    out = tmp_path_factory.mktemp("runs")
    tiny = {"profile": "tiny", "out": out, "quiet": True}
    return [fewstep.run("ring/points", **tiny), fewstep.run("ring/other", seed=1, width=16, **tiny)]


@pytest.fixture(scope="module")
def compared(two: list[Run]) -> Comparison:
    return compare(two)


def test_all_answer_the_same_items_from_the_same_noise(compared: Comparison) -> None:
    first, second = (one.evaluation.drawn["student"] for one in compared.runs)
    assert torch.equal(first.batch.x, second.batch.x)
    assert torch.equal(first.path[0].x, second.path[0].x)
    assert compared.same_items


def test_other_items_are_cautioned_against(compared: Comparison) -> None:
    one, two = compared.runs
    moved = {n: replace(d, batch=Batch(d.batch.like, d.batch.x + 1)) for n, d in two.evaluation.drawn.items()}
    other = Comparison((one, replace(two, evaluation=replace(two.evaluation, drawn=moved))))
    assert not other.same_items
    assert "do not share their held-out items" in render(other)
    assert "do not share their held-out items" not in render(compared)


def test_items_without_a_truth_are_known_by_what_is_asked(compared: Comparison) -> None:
    def asking(*numbers: float) -> Comparison:
        runs = []
        for one, number in zip(compared.runs, numbers, strict=True):
            batch = Batch(torch.zeros(2, 2), cond=Cond(torch.full((2, 1), number)))
            drawn = {name: replace(item, batch=batch) for name, item in one.evaluation.drawn.items()}
            runs.append(replace(one, evaluation=replace(one.evaluation, drawn=drawn)))
        return Comparison(tuple(runs))

    assert asking(1.0, 1.0).same_items
    assert not asking(1.0, 2.0).same_items


def test_the_table_has_a_column_for_every_contender_of_every_run(compared: Comparison) -> None:
    assert compared.labels == ["calls", "seconds", "radius error ↓"]
    calls = {name: {run: cells[0] for run, cells in of.items()} for name, of in compared.columns.items()}
    every = {"student": "1", "teacher": "19", "teacher_1step": "1"}
    assert calls == {name: dict.fromkeys("AB", number) for name, number in every.items()}
    assert all("[" in cells[-1] for of in compared.columns.values() for cells in of.values())


def test_a_star_marks_the_number_of_whom_a_gate_asks_it_and_nobody_elses(compared: Comparison) -> None:
    starred = {name for name, of in compared.columns.items() for cells in of.values() if "* [" in cells[-1]}
    assert starred == {"student"}


def test_what_training_cost_is_told(compared: Comparison, tmp_path: Path) -> None:
    assert re.search(r"Trained: \w+ \d+ updates in [\d.]+ s", render(compared))
    assert all(run["training"] for run in compared.as_json()["runs"])
    folder = RunFolder(tmp_path)
    for stage, updates, t in (
        ("a", 50, 3.0),
        ("a", 100, 5.0),
        ("b", 10, 7.0),
        ("b", 10, 11.0),
        ("b", 20, 13.0),
    ):
        folder.append("metrics.jsonl", {"stage": stage, "updates": updates, "t": t})
    assert folder.training() == {
        "a": {"updates": 100, "seconds": 5.0},
        "b": {"updates": 20, "seconds": 8.0},
    }


def test_only_settings_that_differ_are_listed(compared: Comparison) -> None:
    assert dict(compared.differences) == {"seed": ["0", "1"], "width": ["64", "16"]}


def test_the_page_is_one_file_with_the_pictures_of_both(compared: Comparison, tmp_path: Path) -> None:
    page = write(compared, tmp_path / "deep" / "both.html").read_text()
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["both.html"]
    for label in ("A student", "A teacher", "B student", "B teacher"):
        assert f'alt="points of {label}"' in page
    assert "teacher_1step" in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert page.count('<svg class="chart"') == 2


def test_a_metric_that_one_run_lacks_is_left_open(compared: Comparison) -> None:
    one, two = compared.runs
    rows = tuple(replace(row, scores={}) for row in two.evaluation.rows)
    found = Comparison((one, replace(two, evaluation=replace(two.evaluation, rows=rows)))).columns
    assert [of["B"][-1] for of in found.values()] == ["–"] * 3


def test_a_panel_that_fails_costs_nothing_else(compared: Comparison) -> None:
    def broken(drawn: Mapping[str, Drawn]) -> str:
        raise KeyError("student")

    one, *rest = compared.runs
    plan = replace(one.run.plan, product=replace(one.run.product, panels=[Panel("Broken", broken)]))
    page = render(Comparison((replace(one, run=Run(one.run.files, one.run.setup, plan)), *rest)))
    assert "This panel could not be drawn: KeyError" in page
    assert "points of B student" in page


def test_states_of_another_kind_have_a_section_of_their_own(compared: Comparison) -> None:
    told: list[list[str]] = []

    def noted(drawn: Mapping[str, Drawn]) -> str:
        told.append(sorted(drawn))
        return ""

    panel = Panel("Points", noted)
    runs = []
    for one in compared.runs:
        plan = replace(one.run.plan, product=replace(one.run.product, panels=[panel]))
        found = {n: replace(d, x={one.letter: d.x}) for n, d in one.evaluation.drawn.items()}
        evaluation = replace(one.evaluation, drawn=found)
        runs.append(replace(one, run=Run(one.run.files, one.run.setup, plan), evaluation=evaluation))
    render(Comparison(tuple(runs)))
    assert told == [["A student", "A teacher"], ["B student", "B teacher"]]


def test_what_has_nothing_in_common_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    folders = []
    for name in ("ring/points", "square/points"):
        folder = RunFolder(tmp_path / name.replace("/", "-"))
        folder.path.mkdir()
        folder.note(recipe=name)
        folders.append(folder)
    with pytest.raises(
        FewstepError, match="samples of ring and square have nothing in common: ring-points is"
    ):
        check(folders)
    with pytest.raises(FewstepError, match="one run alone cannot be compared"):
        check(folders[:1])
    with pytest.raises(FewstepError, match="ring-points is named twice"):
        check([folders[0], folders[0]])


def test_scripts_get_rows_and_settings(compared: Comparison) -> None:
    told = json.loads(json.dumps(compared.as_json()))
    assert [run["letter"] for run in told["runs"]] == ["A", "B"]
    assert told["settings"]["width"] == ["64", "16"]
