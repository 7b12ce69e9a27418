"""Everything that does not fit is told at once, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from engine_toys import Cloud, Duel, Fit, Generator, adam, plan, site, stage
from torch import nn

from fewstep.engine import AssemblyError, assemble, execute
from fewstep.protocol import Average, Group, Optim, Role, Stage, Stochastic, Student


def refused(tmp_path: Any, changed: Stage) -> str:
    with pytest.raises(AssemblyError) as caught:
        execute(plan(changed), site(tmp_path))
    return str(caught.value)


def test_a_parameter_that_two_groups_match_is_refused(tmp_path):
    twice = Optim((Group("first"), Group("weight")))
    assert "'first.weight' is matched by 'first' and 'weight'" in refused(
        tmp_path, stage(Fit(), optimizers={"student": twice})
    )


def test_a_group_that_matches_nothing_is_refused_and_shows_what_there_is(tmp_path):
    message = refused(tmp_path, stage(Fit(), optimizers={"student": Optim((Group(""), Group("lora")))}))
    assert "group 'lora' matches no parameter of first.weight" in message


def test_every_problem_is_told_in_one_error(tmp_path):
    broken = stage(
        Duel(),
        roles={
            "teacher": Generator(),
            "student": Generator(),
            "fake": Generator(),
            "ema": Generator(width=3),
        },
        optimizers={"student": adam(kind="torch.optim:Adamw"), "teacher": adam(), "fak": adam()},
        averages={"ema": Average("student", 1.5), "lost": Average("student")},
        accumulate=0,
    )
    broken = replace(broken, steps=0, leaves={"studnet": "student"})
    message = refused(tmp_path, broken)
    for line in (
        "optimizer 'torch.optim:Adamw' cannot be found",
        "optimizer for 'teacher', which is frozen or an average",
        "optimizer for 'fak', which is no role; did you mean 'fake'?",
        "phase 'critic' updates 'fake', which has no optimizer",
        "average 'ema' is not built like 'student'",
        "average 'ema' has decay 1.5",
        "average 'lost' of 'student' needs both as roles",
        "accumulate must be at least 1, not 0",
        "needs at least one step, not 0",
        "it leaves 'studnet', which is no role",
    ):
        assert line in message


def test_an_average_that_is_the_role_itself_is_refused(tmp_path):
    one = Generator()
    message = refused(
        tmp_path, stage(Fit(), roles={"student": one, "ema": one}, averages={"ema": Average("student")})
    )
    assert "shares parameters with 'student'" in message


def test_a_missing_batch_field_is_told(tmp_path):
    @dataclass(frozen=True)
    class Needy(Fit):
        @property
        def reads(self) -> frozenset[str]:
            return frozenset({"x", "cond", "extra.noise"})

    assert "the source does not give: cond, extra.noise" in refused(tmp_path, stage(Needy()))


@dataclass(frozen=True)
class Changed:
    """A surgery that adds a layer, and takes it away again."""

    rank: int = 0

    def apply(self, module: nn.Module) -> nn.Module:
        module.extra = nn.Linear(2, 2)
        return module

    def finalize(self, module: nn.Module) -> nn.Module:
        del module.extra
        return module


def test_surgery_out_of_order_is_refused(tmp_path):
    message = refused(tmp_path, stage(Fit(), surgery={"student": (Changed(1), Changed(0))}))
    assert "surgery on 'student' is out of order: ranks [1, 0]" in message


def test_surgery_is_applied_trained_over_and_finalized(tmp_path):
    shelf = execute(
        plan(stage(Fit(), 2, surgery={"student": (Changed(0),)}, optimizers={"student": adam()})),
        site(tmp_path),
    )
    assert not hasattr(shelf["student"], "extra")


def test_surgery_of_a_finished_stage_is_done_again_before_its_weights_are_loaded(tmp_path):
    changed = plan(stage(Fit(), 2, surgery={"student": (Changed(0),)}))
    first = execute(changed, site(tmp_path), tmp_path)["student"]
    second = execute(changed, site(tmp_path), tmp_path)["student"]
    assert torch.equal(first.second.weight, second.second.weight)


def test_a_student_that_cannot_serve_the_objective_is_told_with_what_it_lacks():
    @dataclass(frozen=True)
    class Policy(Fit):
        @property
        def roles(self) -> Mapping[str, Role]:
            return {"student": Role(kind=Stochastic)}

    with pytest.raises(AssemblyError, match=r"role 'student' must be a Stochastic .*, but it has no logp"):
        assemble(Policy(), {"student": Generator}, Cloud(), {"student": adam()})


def test_assemble_copies_what_a_role_starts_from_and_leaves_out_what_nobody_asks_for():
    wide = {"teacher": Generator, "student": Generator, "disc": Generator}
    optimizers = {"student": adam(), "fake": adam(), "disc": adam()}
    averages = {"student_ema": Average("student"), "target": Average("student", when="before")}
    built = assemble(Duel(), wide, Cloud(), optimizers, averages)
    assert set(built.roles) == {"teacher", "student", "fake", "student_ema"}
    assert set(built.optimizers) == {"student", "fake"}
    assert set(built.averages) == {"student_ema"}
    assert len({id(role) for role in built.roles.values()}) == 4
    teacher = built.roles["teacher"].state_dict()
    for role in built.roles.values():
        assert all(torch.equal(value, teacher[name]) for name, value in role.state_dict().items())


def test_a_fake_of_another_class_takes_over_the_weights_that_it_has_in_common():
    class Indexed(Generator):
        def __init__(self) -> None:
            super().__init__()
            self.index = nn.Embedding(4, 2)

    make = {"teacher": Generator, "student": Generator, "fake": Indexed}
    built = assemble(Duel(), make, Cloud(), {"student": adam(), "fake": adam()})
    assert torch.equal(built.roles["fake"].first.weight, built.roles["teacher"].first.weight)


def test_a_role_that_nobody_offers_is_told():
    with pytest.raises(
        AssemblyError,
        match=r"nobody offers the role 'teacher'; offered: \['student', 'techer'\]; did you mean",
    ):
        assemble(
            Duel(), {"student": Generator, "techer": Generator}, Cloud(), {"student": adam(), "fake": adam()}
        )


def test_a_generator_is_a_student():
    assert isinstance(Generator(), Student)
