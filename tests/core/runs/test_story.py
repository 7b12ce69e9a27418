"""What a run showed, in sentences that stay true when it went badly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fewstep.protocol import Metric, Score
from fewstep.runs import story
from fewstep.runs.evaluation import Evaluation, Outcome, Row


class Measured:
    """A product's measured side: all that the sentences read."""

    samples = 8

    def __init__(self, *names: str) -> None:
        self.metrics = [Metric(name, "lower", lambda *_: Score(0, 0, 0, 1)) for name in names]


GATE = Outcome("error", "student", "control", "<= 0.5", "", 0.2, 0.9, met=True, missed=True)


def found(*gates: Outcome, metrics: tuple[str, ...] = ("error",)) -> Evaluation:
    scores = {name: Score(0.25, 0.2, 0.3, 8) for name in metrics}
    rows = (Row("student", 8, 1, 0.5, scores), Row("teacher", 8, 20, 5.0, scores))
    return Evaluation(rows, gates, {})


def test_the_headline_sets_the_student_beside_its_teacher() -> None:
    product: Any = Measured("error")
    assert story.headline(found(), product) == (
        "The student draws in 1 network call; its teacher needs 20 and takes 10 times as long. Error: 0.25 against 0.25."
    )


@pytest.mark.parametrize(
    ("gates", "told"),
    [
        ((GATE,), "1 of 1 gate passed with the control failing."),
        ((GATE, replace(GATE, met=False)), "Not proven: 1 of 2 gates passed with the control failing."),
        ((), "This profile has no gate, so nothing is proven."),
    ],
)
def test_the_verdict_counts_only_gates_whose_control_failed(gates: tuple[Outcome, ...], told: str) -> None:
    assert story.verdict(found(*gates)) == told


def test_a_control_that_meets_the_bound_is_told() -> None:
    assert "so the bound proves nothing" in story.gate_sentence(replace(GATE, missed=False))


def test_many_metrics_turn_the_table_on_its_side() -> None:
    names = ("a", "b", "c", "d")
    product: Any = Measured(*names)
    head, rows = story.comparison(found(metrics=names), product)
    assert head == ["", "student", "teacher"]
    assert [row[0] for row in rows] == ["calls", "seconds", "a ↓", "b ↓", "c ↓", "d ↓"]
    assert rows[0] == ["calls", "1", "20"]
