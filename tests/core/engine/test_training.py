"""What one optimizer update is, who takes part in it, and what happens around it."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from engine_toys import (
    Adapted,
    Cloud,
    Duel,
    Fit,
    Generator,
    adam,
    adapter_plan,
    digest,
    plan,
    site,
    stage,
)
from safetensors.torch import load_file
from torch import Tensor, nn

from fewstep.engine import FrozenError, NonFiniteError, Settings, Stopped, Watch, execute
from fewstep.protocol import (
    Assembly,
    Average,
    Batch,
    Group,
    Key,
    Linear,
    Loss,
    Mix,
    Optim,
    Phase,
    Regrow,
    Role,
    Sample,
    Stage,
    Step,
)


def sgd(lr: Any = 0.1, **extra: Any) -> Optim:
    return Optim((Group("", lr),), kind="torch.optim:SGD", **extra)


class Number(nn.Module):
    """One trainable number."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor([value]))


@dataclass(frozen=True)
class Pull:
    """Loss (value - goal)^2 / 2: under SGD the error shrinks by 1 - lr each update, in closed form."""

    goal: float = 1.0
    spoil: tuple[int, ...] = ()
    record: list[float] | None = None
    reset: int | None = None

    @property
    def roles(self) -> Mapping[str, Role]:
        return {
            "student": Role(init="teacher" if self.reset else None, reset_every=self.reset),
            "teacher": Role(trainable=False, optional=True),
            "target": Role(trainable=False, optional=True),
        }

    @property
    def reads(self) -> frozenset[str]:
        return frozenset()

    def phases(self, index: int) -> Sequence[Phase]:
        return (Phase("student", ("student",)),)

    def loss(self, phase: Phase, roles: Mapping[str, Any], batch: Batch, step: Step) -> Loss:
        if self.record is not None and "target" in roles:
            self.record.append(roles["target"].value.item())
        bad = math.nan if step.index in self.spoil else 1.0
        return Loss(bad * 0.5 * (roles["student"].value - self.goal).square().sum())


class Ear(Watch):
    def __init__(self) -> None:
        self.lines: list[tuple[int, int, dict[str, float]]] = []

    def logged(self, stage: str, cycle: int, updates: int, metrics: Mapping[str, float]) -> None:
        self.lines.append((cycle, updates, dict(metrics)))


def pull(
    steps: int, tmp_path: Any, objective: Pull | None = None, watch: Watch | None = None, **changes: Any
) -> Any:
    given = {"roles": {"student": Number()}, "optimizers": {"student": sgd()}} | changes
    leaves = {name: name for name in given["roles"]}

    def build(shelf: Mapping[str, Any]) -> Assembly:
        return Assembly(objective=objective or Pull(), source=Cloud(), **given)

    settings = given.pop("settings", Settings(log_every=1))
    return execute(
        plan(Stage("student", build, steps, leaves)), site(tmp_path), watch=watch, settings=settings
    )


def test_updates_follow_the_closed_form_of_gradient_descent(tmp_path):
    value = pull(5, tmp_path)["student"].value.item()
    assert value == pytest.approx(1 - 0.9**5, abs=1e-6)


def test_the_mean_of_the_data_is_learned(tmp_path):
    shelf = execute(plan(stage(Fit(), 400)), site(tmp_path))
    center = shelf["student"](torch.randn(4096, 2, generator=torch.Generator().manual_seed(0))).mean(0)
    # Adam at 1e-2 over 8 rows: error at most 0.19 over seeds 0..5; untrained it is 3.
    assert (center - torch.tensor([3.0, -1.0])).abs().max() < 0.4


def test_learning_rates_are_ramps_of_the_cycle(tmp_path):
    value = pull(3, tmp_path, optimizers={"student": sgd(Linear(0.3, 0.0))})["student"].value.item()
    assert value == pytest.approx(1 - (1 - 0.3) * (1 - 0.2) * (1 - 0.1), abs=1e-6)


def test_gradients_are_clipped_per_role(tmp_path):
    value = pull(2, tmp_path, Pull(goal=100.0), optimizers={"student": sgd(clip=1.0)})["student"].value.item()
    assert value == pytest.approx(0.2, abs=1e-5)


def test_an_average_stepped_before_the_phases_is_a_cycle_behind(tmp_path):
    seen: list[float] = []
    roles = {"student": Number(), "target": Number()}
    averages = {"target": Average("student", 0.5, "before")}
    pull(3, tmp_path, Pull(record=seen), roles=roles, averages=averages)
    student, target, expected = 0.0, 0.0, []
    for _ in range(3):
        target = 0.5 * target + 0.5 * student
        expected.append(target)
        student += 0.1 * (1 - student)
    assert seen == pytest.approx(expected, abs=1e-6)


def test_an_average_stepped_after_the_phases_is_not(tmp_path):
    roles = {"student": Number(), "student_ema": Number()}
    shelf = pull(2, tmp_path, roles=roles, averages={"student_ema": Average("student", 0.5)})
    assert shelf["student_ema"].value.item() == pytest.approx(0.5 * 0.5 * 0.1 + 0.5 * 0.19, abs=1e-6)


def test_an_average_copies_until_it_starts(tmp_path):
    roles = {"student": Number(), "student_ema": Number()}
    shelf = pull(3, tmp_path, roles=roles, averages={"student_ema": Average("student", 0.5, start=2)})
    assert shelf["student_ema"].value.item() == pytest.approx(0.5 * 0.19 + 0.5 * 0.271, abs=1e-6)


def test_a_non_finite_update_is_skipped_and_counted(tmp_path):
    ear = Ear()
    value = pull(5, tmp_path, Pull(spoil=(1, 3)), ear)["student"].value.item()
    assert value == pytest.approx(1 - 0.9**3, abs=1e-6)
    assert [line[2].get("skipped", 0.0) for line in ear.lines] == [0, 1, 1, 2, 2]


def test_twenty_non_finite_updates_in_a_row_fail_and_name_the_batch(tmp_path):
    with pytest.raises(NonFiniteError, match=r"20 updates in a row.*\n*.*cycle 22, micro-batch 22"):
        pull(50, tmp_path, Pull(spoil=(1, *range(3, 50))))


def test_a_student_that_is_never_finite_fails_though_its_critic_is(tmp_path):
    @dataclass(frozen=True)
    class Spoiled(Duel):
        def loss(self, phase: Phase, roles: Mapping[str, Any], batch: Batch, step: Step) -> Iterator[Loss]:
            for part in super().loss(phase, roles, batch, step):
                yield Loss(part.total * math.nan if phase.name == "student" else part.total)

    with pytest.raises(NonFiniteError, match=r"20 updates in a row of phase 'student'.*\n*.*cycle 19"):
        execute(plan(stage(Spoiled(), 25)), site(tmp_path))


def test_nineteen_do_not(tmp_path):
    value = pull(25, tmp_path, Pull(spoil=tuple(range(3, 22))))["student"].value.item()
    assert value == pytest.approx(1 - 0.9**6, abs=1e-6)


def test_accumulated_micro_batches_equal_one_big_batch(tmp_path):
    """Both see the same eight rows; float64, so that only a real difference is left."""

    @dataclass(frozen=True)
    class Rows:
        rows: int

        def batch(self, index: int, key: Key) -> Batch:
            every = Key(3).normal(torch.zeros(8 * 16, 2, dtype=torch.float64))
            x = every[index * self.rows : (index + 1) * self.rows]
            return Batch(like=x, x=x)

    @dataclass(frozen=True)
    class Quiet(Fit):
        def loss(self, phase: Phase, roles: Mapping[str, Any], batch: Batch, step: Step) -> Loss:
            return Loss((roles["student"](batch.x) - 1.0).square().mean())

    ends = []
    for rows, accumulate in ((8, 1), (2, 4), (2, 1)):
        changes = {"roles": {"student": _double(0)}, "source": Rows(rows), "accumulate": accumulate}
        shelf = execute(plan(stage(Quiet(), 4, optimizers={"student": sgd()}, **changes)), site(tmp_path))
        ends.append(shelf["student"].first.weight)
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-12, atol=1e-14)
    assert not torch.allclose(ends[0], ends[2], rtol=1e-6)


def _double(seed: int) -> Generator:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Generator().double()


def test_only_the_roles_of_the_phase_have_gradients_and_train(tmp_path):
    seen: list[tuple[str, dict[str, tuple[bool, bool]]]] = []

    @dataclass(frozen=True)
    class Watching(Duel):
        def loss(self, phase: Phase, roles: Mapping[str, Any], batch: Batch, step: Step) -> Iterator[Loss]:
            flags = {n: (next(r.parameters()).requires_grad, r.training) for n, r in roles.items()}
            seen.append((phase.name, flags))
            yield from super().loss(phase, roles, batch, step)

    execute(plan(stage(Watching(), 1)), site(tmp_path))
    off, on = (False, False), (True, True)
    assert seen[0] == ("critic", {"teacher": off, "student": off, "fake": on})
    assert seen[2] == ("student", {"teacher": off, "student": on, "fake": off})


def test_phases_of_a_building_cycle_share_one_batch_and_one_rollout(tmp_path):
    indices: list[int] = []
    rolled: list[int] = []

    @dataclass(frozen=True)
    class Rolling(Duel):
        def _made(self, phase: Phase, roles: Mapping[str, Any], batch: Batch, step: Step) -> Tensor:
            def roll(key: Key) -> Tensor:
                rolled.append(step.index)
                return roles["student"].generate(batch, Step(0, 1, key)).x

            return step.once("roll", roll)

    execute(plan(stage(Rolling(("student",)), 2, source=Cloud(seen=indices.append))), site(tmp_path))
    assert (indices[1:], rolled) == ([0, 1], [0, 1])


def test_phases_of_a_plain_cycle_see_batches_of_their_own(tmp_path):
    indices: list[int] = []
    execute(plan(stage(Duel(), 2, source=Cloud(seen=indices.append), accumulate=2)), site(tmp_path))
    assert indices[1:] == list(range(12))


def test_a_parameter_that_no_group_matches_stays_as_it_was(tmp_path):
    start = Generator()
    kept = {name: value.clone() for name, value in start.state_dict().items()}
    some = stage(Fit(), 3, roles={"student": start}, optimizers={"student": adam(match="^second")})
    execute(plan(some), site(tmp_path))
    assert torch.equal(start.first.weight, kept["first.weight"])
    assert not torch.equal(start.second.weight, kept["second.weight"])


def test_a_frozen_teacher_that_changed_is_detected(tmp_path):
    @dataclass(frozen=True)
    class Meddling(Duel):
        def loss(self, phase: Phase, roles: Mapping[str, Any], batch: Batch, step: Step) -> Iterator[Loss]:
            with torch.no_grad():
                roles["teacher"].seen.add_(1.0)
            yield from super().loss(phase, roles, batch, step)

    with pytest.raises(FrozenError, match=r"frozen role\(s\) teacher"):
        execute(plan(stage(Meddling(), 2)), site(tmp_path))


def test_an_adapter_trains_beside_a_frozen_base_that_it_shares(tmp_path):
    roles: dict[str, nn.Module] = {}

    def keep(shelf: Mapping[str, Any]) -> Any:
        built = adapter_plan().stages[0].build(shelf)
        roles.update(built.roles)
        return built

    leaves = {"fake": "fake"}
    execute(plan(Stage("student", keep, 4, leaves)), site(tmp_path), tmp_path)
    fake = roles["fake"]
    assert isinstance(fake, Adapted)
    assert fake.base is roles["teacher"]
    assert fake.change.weight.abs().max() > 0
    saved = load_file(tmp_path / "stages" / "student" / "fake.safetensors")
    assert sorted(saved) == ["change.bias", "change.weight"]


def test_a_reset_returns_to_the_beginning_and_forgets_the_moments(tmp_path):
    roles = {"student": Number(), "teacher": Number()}
    optimizers = {"student": Optim((Group("", 0.1),), "torch.optim:SGD", {"momentum": 0.9})}
    objective = Pull(reset=3)
    kept = pull(4, tmp_path, objective, roles=roles, optimizers=optimizers)["student"].value.item()
    assert kept == pytest.approx(0.1, abs=1e-6)
    free = pull(4, tmp_path, roles={"student": Number()}, optimizers=optimizers)["student"].value.item()
    assert free > 0.5


def test_metrics_come_with_seconds_when_they_are_due(tmp_path):
    ear = Ear()
    execute(plan(stage(Duel(), 5)), site(tmp_path), watch=ear, settings=Settings(log_every=2))
    assert [(cycle, updates) for cycle, updates, _ in ear.lines] == [(1, 3), (2, 6), (4, 12), (5, 15)]
    names = {
        "critic/loss",
        "critic/fit",
        "critic/seconds",
        "student/loss",
        "student/anchor",
        "student/seconds",
    }
    assert set(ear.lines[1][2]) == names


def test_bfloat16_runs_the_loss_under_autocast_and_keeps_float32_parameters(tmp_path):
    seen: list[torch.dtype] = []

    @dataclass(frozen=True)
    class Low(Fit):
        def loss(self, phase: Phase, roles: Mapping[str, Any], batch: Batch, step: Step) -> Loss:
            out = roles["student"](batch.x)
            seen.append(out.dtype)
            return Loss((out.float() - batch.x).square().mean())

    shelf = execute(plan(stage(Low(), 2)), site(tmp_path), settings=Settings(precision="bfloat16"))
    assert seen == [torch.bfloat16] * 2
    assert {value.dtype for value in shelf["student"].parameters()} == {torch.float32}


def test_a_loss_that_reaches_nothing_says_so(tmp_path):
    @dataclass(frozen=True)
    class Cut(Fit):
        def loss(self, phase: Phase, roles: Mapping[str, Any], batch: Batch, step: Step) -> Loss:
            return Loss(roles["student"](batch.x).detach().mean())

    with pytest.raises(ValueError, match="does not depend on any parameter that trains in it"):
        execute(plan(stage(Cut(), 1)), site(tmp_path))


def test_logs_of_repeated_phases_are_averaged(tmp_path):
    """A cycle has two critic updates; a number that is 1 in both is logged as 1."""

    @dataclass(frozen=True)
    class Ones(Duel):
        def loss(self, phase: Phase, roles: Mapping[str, Any], batch: Batch, step: Step) -> Iterator[Loss]:
            for part in super().loss(phase, roles, batch, step):
                yield Loss(part.total, {"one": torch.ones(())} if phase.name == "critic" else {})

    seen: dict[str, float] = {}

    class Ears(Watch):
        def logged(self, stage: str, cycle: int, updates: int, metrics: Mapping[str, float]) -> None:
            seen.update(metrics)

    execute(plan(stage(Ones(), 1)), site(tmp_path), watch=Ears())
    assert seen["critic/one"] == 1.0


def test_a_phase_that_has_no_loss_yet_is_left_out(tmp_path):
    """The critic of a term that weighs nothing yet is not stepped: weight decay alone would move it."""
    warm = Mix({"fit": (1.0, Fit()), "duel": (Linear(0.0, 1.0), Duel())})
    roles = {name: Generator() for name in ("student", "teacher", "fake")}
    before = {name: [p.clone() for p in role.parameters()] for name, role in roles.items()}
    execute(plan(stage(warm, 1, roles=roles)), site(tmp_path))
    assert all(torch.equal(a, b) for a, b in zip(before["fake"], roles["fake"].parameters(), strict=True))
    assert not torch.equal(before["student"][0], roles["student"].first.weight)


class Scene(nn.Module):
    """Points that split and die: a growing student."""

    def __init__(self) -> None:
        super().__init__()
        self.points = nn.Parameter(torch.zeros(3, 2))

    def generate(self, batch: Batch, step: Step, *, noise: Any = None, steps: int | None = None) -> Sample:
        return Sample(self.points.mean(0).expand_as(batch.like))

    def sample(self, batch: Batch, step: Step, *, noise: Any = None, steps: int | None = None) -> Sample:
        return self.generate(batch, step)

    def regrow(self, step: Step) -> Sequence[Regrow]:
        if step.index % 2 == 0:
            return ()
        keep = torch.arange(1, len(self.points))
        return (Regrow("points", keep, torch.cat([self.points[-1:], self.points[-1:] + 1.0]).detach()),)

    def resize(self, shapes: Mapping[str, torch.Size]) -> None:
        self.points = nn.Parameter(torch.zeros(shapes["points"]))


@dataclass(frozen=True)
class Center(Fit):
    def loss(self, phase: Phase, roles: Mapping[str, Any], batch: Batch, step: Step) -> Loss:
        return Loss((roles["student"].generate(batch, step).x - batch.x).square().mean())


def growing(steps: int, source: Cloud) -> Any:
    def build(shelf: Mapping[str, Any]) -> Assembly:
        averages = {"student_ema": Average("student", 0.9)}
        return Assembly(
            {"student": Scene(), "student_ema": Scene()}, Center(), source, {"student": adam()}, averages
        )

    return plan(Stage("scene", build, steps, {"student": "student", "student_ema": "student_ema"}))


def test_a_scene_grows_with_its_moments_and_average_and_resumes_bit_equal(tmp_path):
    asked = iter(range(100))

    def press(index: int) -> None:
        if next(asked) == 6:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Stopped):
        execute(growing(9, Cloud(seen=press)), site(tmp_path), tmp_path)
    whole = execute(growing(9, Cloud()), site(tmp_path))
    assert whole["student"].points.shape == whole["student_ema"].points.shape == (7, 2)
    resumed = execute(growing(9, Cloud()), site(tmp_path), tmp_path)
    assert digest(resumed) == digest(whole)
    assert digest(execute(growing(9, Cloud()), site(tmp_path), tmp_path)) == digest(whole)


def test_a_task_puts_its_results_on_the_shelf_of_the_next_stage(tmp_path):
    class Count:
        def run(self, shelf: Mapping[str, Any], key: Key) -> Mapping[str, Any]:
            return {"pairs": sorted(shelf)}

    shelf = execute(plan(stage(Fit(), 1), Stage("pairs", lambda shelf: Count())), site(tmp_path))
    assert shelf["pairs"] == ["student"]
