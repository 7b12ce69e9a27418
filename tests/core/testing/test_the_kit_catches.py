"""Deliberately wrong components: each law of the kit catches its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewstep.objectives import Denoising, dmd
from fewstep.processes import Gaussian, Uniform, edm, flow
from fewstep.protocol import Batch, Cond, Denoiser, Key, Metric, Score, Step
from fewstep.samplers import FewStep
from fewstep.testing.checks import Check, run_checks
from fewstep.testing.components import (
    check_denoiser,
    check_metric,
    check_process,
    check_source,
    check_student,
)
from fewstep.testing.objectives import check_objective

CLEAN = Key(0).normal(torch.zeros(6, 3))
BATCH = Batch(CLEAN, CLEAN)


def broken(checks: Iterable[Check]) -> set[str]:
    return {outcome.name for outcome in run_checks(checks) if not outcome.ok}


class Net(nn.Module):
    """A plain network, the same every time."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        with torch.no_grad():
            self.layer.weight.copy_(Key(1).normal(torch.zeros(3, 3)))

    def forward(self, x: Tensor, t: Tensor, cond: Cond) -> Tensor:
        return self.layer(x)


class Mixing(Net):
    """Looks at its neighbors."""

    def forward(self, x: Tensor, t: Tensor, cond: Cond) -> Tensor:
        return self.layer(x) + x.roll(1, 0)


class Moody(Net):
    """Answers otherwise each time."""

    def forward(self, x: Tensor, t: Tensor, cond: Cond) -> Tensor:
        return self.layer(x) + torch.randn_like(x)


@dataclass(frozen=True)
class Noisy(Gaussian):
    """Draws from the global generator."""

    def noise(self, batch: Batch, key: Key) -> Tensor:
        return torch.randn_like(batch.like)


@dataclass(frozen=True)
class Shifted(Gaussian):
    """Corrupts at its cleanest time."""

    def corrupt(self, x: Any, noise: Tensor, t: Tensor, *, since: Tensor | None = None) -> Tensor:
        return super().corrupt(x, noise, t, since=since) + 1.0


@dataclass(frozen=True)
class Turning(Gaussian):
    """A velocity with the wrong sign."""

    def velocity(self, xt: Tensor, est: Any, t: Tensor) -> Tensor:
        return -super().velocity(xt, est, t)


def of(kind: type[Gaussian]) -> Gaussian:
    """A flow with one defect."""
    base = flow()
    return kind(base.law, base.t_min, base.t_max, base.sigma_data, base.rho, base.geometry)


@pytest.mark.parametrize(
    ("kind", "law"),
    [
        (Noisy, "noise_is_a_pure_function_of_its_key"),
        (Noisy, "the_global_generator_is_never_used"),
        (Shifted, "corruption_at_the_cleanest_time_returns_the_data"),
        (Turning, "the_velocity_is_the_slope_of_the_path"),
    ],
)
def test_a_wrong_process_is_caught(kind: type[Gaussian], law: str) -> None:
    assert law in broken(check_process(of(kind), BATCH))


def test_a_right_process_passes() -> None:
    assert not broken(check_process(flow(), BATCH))


@pytest.mark.parametrize(
    ("net", "law"),
    [(Mixing, "rows_of_a_batch_do_not_mix"), (Moody, "the_same_input_gives_the_same_estimate")],
)
def test_a_wrong_network_is_caught(net: type[Net], law: str) -> None:
    assert law in broken(check_denoiser(Denoiser(net(), edm(), "edm"), BATCH))


class Restless(FewStep):
    """Draws outside of its key."""

    def generate(self, batch: Batch, step: Step, **asked: Any) -> Any:
        return super().generate(batch, step, noise=torch.randn_like(batch.like))


class Cut(FewStep):
    """Loses its graph."""

    def generate(self, batch: Batch, step: Step, **asked: Any) -> Any:
        made = super().generate(batch, step, **asked)
        return replace(made, x=made.x.detach().requires_grad_())


@pytest.mark.parametrize(
    ("kind", "law"),
    [
        (Restless, "the_same_key_gives_the_same_sample"),
        (Restless, "the_global_generator_is_never_used"),
        (Cut, "a_gradient_reaches_the_trainable_parameters"),
    ],
)
def test_a_wrong_student_is_caught(kind: type[FewStep], law: str) -> None:
    assert law in broken(check_student(kind(Net(), edm(), "boundary", (80.0,)), BATCH))


def test_a_right_student_passes() -> None:
    assert not broken(check_student(FewStep(Net(), edm(), "boundary", (80.0, 1.0)), BATCH))


class Stateful:
    """Goes on where it was, whatever the counter says."""

    def __init__(self) -> None:
        self.calls = 0

    def batch(self, index: int, key: Key) -> Batch:
        self.calls += 1
        x = key.at(self.calls).normal(torch.zeros(4, 2))
        return Batch(x, x)


class Stuck:
    """Ignores its counter."""

    def batch(self, index: int, key: Key) -> Batch:
        x = key.normal(torch.zeros(4, 2))
        return Batch(x, x)


class Greedy:
    """Gives every rank the whole batch."""

    def batch(self, index: int, key: Key) -> Batch:
        x = key.whole().at(index).normal(torch.zeros(4, 2))
        return Batch(x, x)


@pytest.mark.parametrize(
    ("source", "law"),
    [
        (Stateful, "the_same_counter_gives_the_same_batch"),
        (Stuck, "other_counters_give_other_batches"),
        (Greedy, "ranks_are_disjoint_and_jointly_complete"),
    ],
)
def test_a_wrong_source_is_caught(source: type[Any], law: str) -> None:
    assert law in broken(check_source(source()))


def test_a_metric_that_prefers_corruption_is_caught() -> None:
    def backwards(x: Tensor, batch: Batch, key: Key) -> Score:
        value = -float((x - batch.x).square().mean())
        return Score(value, value, value, len(x))

    found = broken(check_metric(Metric("backwards", "lower", backwards), BATCH, CLEAN + 1))
    assert found == {"the_truth_beats_corrupted_truth"}


@dataclass(frozen=True)
class Leaky(Denoising):
    """Its loss depends on numbers outside of the key."""

    def loss(self, *asked: Any) -> Any:
        made = super().loss(*asked)
        return replace(made, total=made.total * torch.rand(()))


def test_an_objective_that_draws_outside_of_its_key_is_caught() -> None:
    roles = {"student": Denoiser(Net(), edm(), "edm")}
    found = broken(check_objective(Leaky(Uniform(0.1, 1.0)), dict(roles), BATCH))
    assert found >= {"phase_student_is_pure_in_its_key", "phase_student_leaves_the_global_generator"}


def test_an_objective_that_updates_a_stranger_is_caught() -> None:
    @dataclass(frozen=True)
    class Strange(Denoising):
        def phases(self, index: int) -> Any:
            return (replace(super().phases(index)[0], updates=("nobody",)),)

    found = broken(
        check_objective(Strange(Uniform(0.1, 1.0)), {"student": Denoiser(Net(), edm(), "edm")}, BATCH)
    )
    assert "phase_student_updates_known_roles" in found


def test_a_right_objective_passes() -> None:
    roles = {
        "teacher": Denoiser(Net(), edm(), "edm"),
        "student": FewStep(Net(), edm(), "boundary", (80.0,)),
        "fake": Denoiser(Net(), edm(), "edm"),
    }
    assert not broken(check_objective(dmd(Uniform(0.1, 1.0)), dict(roles), BATCH))


def test_a_broken_check_does_not_stop_the_rest() -> None:
    def explode() -> None:
        raise RuntimeError("boom")

    outcomes = run_checks([Check("first", explode), Check("second", lambda: None)])
    assert [o.ok for o in outcomes] == [False, True]
    assert outcomes[0].reason == "boom"
