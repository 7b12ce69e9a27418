"""Contenders meet on one batch with one key; calls are counted on the network, and gates need a failing control."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fewstep.errors import FewstepError
from fewstep.plugins import Gate
from fewstep.processes import edm
from fewstep.protocol import (
    Batch,
    Cond,
    Denoiser,
    Guided,
    Key,
    Metric,
    Product,
    Roles,
    Sampler,
    Score,
    State,
    Step,
)
from fewstep.runs import bootstrap, evaluate
from fewstep.runs.counting import counted
from fewstep.samplers import euler
from fewstep.samplers.contenders import one_call_sampler, solver_sampler


class Shrink(nn.Module):
    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        return 0.5 * x


class Outer(nn.Module):
    counts_evaluations = True

    def __init__(self) -> None:
        super().__init__()
        self.inner = Denoiser(Shrink(), edm(), "x0")

    def forward(self, x: Tensor) -> Tensor:
        t = torch.ones(len(x), dtype=torch.float64)
        return self.inner(x, t).x0 + self.inner(x, t).x0


class Broken(nn.Module):
    counts_evaluations = True

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("broken")


def teacher() -> Denoiser:
    return Denoiser(Shrink(), edm(), "x0")


def size(x: Tensor, batch: Batch, key: Key) -> Score:
    return bootstrap(x.square().mean(1), key)


def product(contenders: dict[str, Sampler], metric: Callable[..., Score] = size) -> Product:
    def batch(number: int, key: Key) -> Batch:
        x = key.normal(torch.zeros(number, 2))
        return Batch(like=x, x=x)

    def write(x: Tensor, batch: Batch, folder: Path) -> list[Path]:
        return []

    return Product(
        student="teacher",
        contenders=contenders,
        evaluation=batch,
        request=lambda options, number, key: batch(number, key),
        options=dict,
        write=write,
        metrics=[Metric("size", "lower", metric)],
        samples=16,
    )


def constant(value: float) -> Sampler:
    def draw(roles: Roles, batch: Batch, step: Step) -> Iterator[State]:
        yield State(torch.full_like(batch.like, value), torch.zeros(len(batch.like)))

    return Sampler(draw, ())


def test_network_calls_are_those_that_happened() -> None:
    contenders = {
        "teacher": solver_sampler("teacher", euler, 7),
        "teacher_1step": one_call_sampler("teacher"),
    }
    found = evaluate(product(contenders), {"teacher": teacher()}, Key(0))
    counts = {row.contender: row.evaluations for row in found.rows}
    # Seven steps, and the clean estimate that the solver ends with.
    assert counts == {"teacher": 8, "teacher_1step": 1}


def test_guidance_costs_two_calls() -> None:
    guided = Guided(teacher(), 2.0, lambda cond: cond)
    with counted([guided]) as calls:
        guided(torch.ones(3, 2), torch.ones(3, dtype=torch.float64))
    assert calls.count == 2


def test_a_network_inside_a_counted_one_is_not_counted_again() -> None:
    outer = Outer()
    with counted([outer, outer.inner]) as calls:
        outer(torch.ones(3, 2))
    assert calls.count == 1


def test_counting_goes_on_after_a_network_has_failed() -> None:
    broken = Broken()
    with counted([broken]) as calls:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="broken"):
                broken(torch.ones(1))
    assert calls.count == 2


def test_all_contenders_start_from_one_noise() -> None:
    sampler = one_call_sampler("teacher")
    found = evaluate(product({"a": sampler, "b": sampler}), {"teacher": teacher()}, Key(0))
    assert torch.equal(found.drawn["a"].x, found.drawn["b"].x)


def test_asides_are_drawn_for_panels_and_neither_measured_nor_put_in_the_table() -> None:
    made = replace(product({"student": constant(1)}), asides={"student_8": constant(2)})
    found = evaluate(made, {}, Key(0))
    assert list(found.drawn) == ["student", "student_8"]
    assert [row.contender for row in found.rows] == ["student"]
    assert found.as_json()["passed"] is None, "without a gate nothing has passed"


def test_modules_return_to_the_mode_they_were_in() -> None:
    module = teacher()
    module.train()
    evaluate(product({"a": one_call_sampler("teacher")}), {"teacher": module}, Key(0))
    assert module.training


@pytest.mark.parametrize(
    ("student", "control", "met", "missed"),
    [
        (1.0, 3.0, True, True),
        (3.0, 4.0, False, True),
        (1.0, 1.5, True, False),
        (1.0, float("nan"), True, False),
    ],
)
def test_a_gate_passes_only_when_the_student_meets_it_and_the_control_misses_it(
    student: float, control: float, met: bool, missed: bool
) -> None:
    gate = Gate(metric="size", control="control", at_most=4.0)
    made = product({"student": constant(student), "control": constant(control)})
    outcome = evaluate(made, {}, Key(0), [gate]).gates[0]
    assert (outcome.met, outcome.missed, outcome.passed) == (met, missed, met and missed)


@pytest.mark.parametrize(
    ("gate", "told"),
    [
        (Gate(metric="sise", control="student", of="b", at_most=1), "metric 'sise'.*did you mean 'size'"),
        (
            Gate(metric="size", control="studnet", of="b", at_most=1),
            "contender 'studnet'.*did you mean 'student'",
        ),
    ],
)
def test_a_gate_that_nobody_can_answer_is_refused(gate: Gate, told: str) -> None:
    with pytest.raises(FewstepError, match=told):
        evaluate(product({"student": constant(1), "b": constant(2)}), {}, Key(0), [gate])


def test_a_contender_whose_module_is_absent_is_refused() -> None:
    with pytest.raises(FewstepError, match="'a' needs 'teacher', which training did not leave"):
        evaluate(product({"a": one_call_sampler("teacher")}), {"student": teacher()}, Key(0))
