"""Rewards: tilting moves the fixed point by a closed form, weighting leaves it where it is."""

from __future__ import annotations

import math
import sys
import types
from typing import Any

import pytest
import torch
from objective_cases import NATURAL, PROCESS, Pointwise, points
from objective_toys import (
    ANGLE,
    GAIN,
    MEAN,
    SHIFT,
    STD,
    At,
    Height,
    duel,
    four_points,
    linear_gradient,
    student_loss,
)
from torch import Tensor, nn

from fewstep.config.objectives import KINDS
from fewstep.engine import assemble
from fewstep.errors import FewstepError
from fewstep.objectives import Adversarial, Reward, SiD, dmd, sds
from fewstep.objectives.reward import effective, exponential, made_by, tempered
from fewstep.objectives.weights import score
from fewstep.protocol import Batch, Cond, Denoiser, Group, Key, Optim, Step
from fewstep.samplers import FewStep

EARLY = 1e-3
"""A time at which x_t is all but clean."""


class Line(nn.Module):
    """R = slope x."""

    def __init__(self, slope: float = 1.0) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor, cond: Cond) -> Tensor:
        return self.slope * x.squeeze(-1)


class Bowl(nn.Module):
    """R = -(kappa / 2) (x - m)^2."""

    def __init__(self, kappa: float, middle: float) -> None:
        super().__init__()
        self.kappa, self.middle = kappa, middle

    def forward(self, x: Tensor, cond: Cond) -> Tensor:
        return -0.5 * self.kappa * (x.squeeze(-1) - self.middle) ** 2


def gradient(
    reward: Reward, module: nn.Module, gain: float, shift: float, t: float = ANGLE
) -> tuple[float, float]:
    batch, key = four_points()
    objective = dmd(At(t), weight=score, normalize=False, reward=reward)
    return linear_gradient(objective, {**duel(gain, shift), "reward": module}, batch, key)


def test_a_linear_reward_moves_the_mean_by_the_variance_and_keeps_the_spread() -> None:
    """b = mu + lambda s^2 at a clean time (.988 at lambda .8), mu + lambda V_p / alpha^2 at a noisy one."""
    for t, alpha, sigma in ((EARLY, math.cos(EARLY), math.sin(EARLY)), (ANGLE, 0.8, 0.6)):
        moved = MEAN + 0.8 * (STD**2 + (sigma / alpha) ** 2)
        still = gradient(Reward(tilt=0.8), Line(), STD, moved, t)
        assert max(map(abs, still)) < 1e-8
    assert pytest.approx(0.988) == MEAN + 0.8 * STD**2
    assert gradient(Reward(tilt=0.8), Line(), STD, MEAN)[1] == pytest.approx(-0.8)


def test_a_quadratic_reward_adds_to_the_precision() -> None:
    """min KL - lambda E R ends at precision 1 / s^2 + lambda kappa and the precision-weighted mean."""
    kappa, middle, strength = 2.0, -0.3, 1.5
    spread = STD**2 + math.tan(EARLY) ** 2
    precision = 1 / spread + strength * kappa
    gain = (1 / precision - math.tan(EARLY) ** 2) ** 0.5
    mean = (MEAN / spread + strength * kappa * middle) / precision
    found = gradient(Reward(tilt=strength), Bowl(kappa, middle), gain, mean, EARLY)
    assert max(map(abs, found)) < 1e-6
    assert abs(gradient(Reward(), Bowl(kappa, middle), gain, mean, EARLY)[1]) > 1


def test_weights_do_not_move_the_fixed_point_but_do_change_the_way_there() -> None:
    weighted = Reward(weight=2.0, least=0.01)
    assert max(map(abs, gradient(weighted, Line(), STD, MEAN))) < 1e-15
    away, plain = gradient(weighted, Line(), GAIN, SHIFT), gradient(Reward(), Line(), GAIN, SHIFT)
    assert away != pytest.approx(plain, abs=1e-2)
    assert abs(gradient(Reward(tilt=2.0), Line(), STD, MEAN)[1]) == pytest.approx(2.0)


@pytest.mark.parametrize("family", ["sds", "sid", "adversarial"])
def test_every_family_takes_the_same_tilt(family: str) -> None:
    """The tilt adds -lambda to the gradient of the mean, whatever it is added to."""
    reward = Reward(tilt=0.7)
    made: dict[str, Any] = {
        "sds": lambda r: sds(At(ANGLE), reward=r),
        "sid": lambda r: SiD(At(ANGLE), reward=r),
        "adversarial": lambda r: Adversarial(At(ANGLE), reward=r),
    }
    batch, key = four_points()

    class Flat(nn.Module):
        def forward(self, x: Tensor, t: Tensor, cond: Any) -> Tensor:
            return (0.3 * x**2).squeeze(-1)

    roles = {**duel(), "reward": Line(), "disc": Flat()}
    plain, moved = (linear_gradient(made[family](r), roles, batch, key) for r in (None, reward))
    assert moved[1] - plain[1] == pytest.approx(-0.7, abs=1e-12)
    assert moved[0] == pytest.approx(plain[0], abs=1e-12)


def test_the_cap_holds_each_samples_tilt_below_a_share_of_its_distillation() -> None:
    case = points(dmd(NATURAL, reward=Reward(tilt=50.0, cap=0.25)), extra={"reward": Height})
    bare = points(dmd(NATURAL))
    slopes = [sample_gradient(made) for made in (case, bare)]
    excess = (slopes[0] - slopes[1]).flatten(1).norm(dim=1) / slopes[1].flatten(1).norm(dim=1)
    assert excess.tolist() == pytest.approx([0.25] * 4, abs=1e-9)
    free = sample_gradient(points(dmd(NATURAL, reward=Reward(tilt=50.0)), extra={"reward": Height}))
    assert float(((free - slopes[1]).flatten(1).norm(dim=1) / slopes[1].flatten(1).norm(dim=1)).min()) > 1


def sample_gradient(case: Any) -> Tensor:
    """The loss's gradient by the student's sample."""
    roles, held = case.roles(), []
    make = roles["student"].generate

    def generate(*given: Any, **asked: Any) -> Any:
        sample = make(*given, **asked)
        held.append(sample.x)
        return sample

    object.__setattr__(roles["student"], "generate", generate)
    total = student_loss(case.objective, roles, case.batch(), Key(3)).total
    (found,) = torch.autograd.grad(total, held[0])
    return found


def test_samples_beyond_the_margin_are_not_tilted() -> None:
    batch, key = four_points()
    roles = {**duel(), "reward": Line()}
    objective = sds(At(ANGLE), reward=Reward(tilt=1.0, margin=0.0))
    found = linear_gradient(objective, roles, batch, key)
    plain = linear_gradient(sds(At(ANGLE)), roles, batch, key)
    # x = .9 z - .4 with z = +-1: half of the samples lie below the margin, those with z = -1.
    assert found[1] - plain[1] == pytest.approx(-0.5, abs=1e-12)
    assert found[0] - plain[0] == pytest.approx(0.5, abs=1e-12)


def test_weights_and_their_effective_size_are_the_closed_numbers() -> None:
    values = torch.tensor([0.0, 0.0, 0.0, math.log(3)], dtype=torch.float64)
    weight = exponential(values, 1.0, 10.0)
    assert weight.tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2.0])
    assert float(effective(weight)) == pytest.approx(0.75)
    assert exponential(values, 1.0, 1.5).tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 1.5])
    assert float(effective(torch.tensor([0.0, 0.0, 5.0, 0.0]))) == pytest.approx(0.25)
    assert float(effective(torch.ones(7))) == pytest.approx(1.0)


def test_the_exponent_is_lowered_until_enough_samples_count() -> None:
    values = torch.linspace(-3, 3, 64, dtype=torch.float64)
    assert float(effective(exponential(values, 4.0, 1e9))) < 0.2
    weight, used = tempered(values, 4.0, 1e9, 0.5)
    assert float(effective(weight)) == pytest.approx(0.5, abs=1e-6)
    assert 0 < float(used) < 4
    kept, whole = tempered(values, 0.1, 1e9, 0.5)
    assert float(whole) == pytest.approx(0.1)
    assert torch.equal(kept, exponential(values, 0.1, 1e9))


def test_weights_that_rest_on_few_samples_are_cautioned_with_their_number() -> None:
    roles = {**duel(), "reward": Line(8.0)}
    batch = Batch(like=torch.zeros(256, 1, dtype=torch.float64))
    said = list(dmd(At(ANGLE), reward=Reward(weight=2.0)).cautions(roles, batch, Step(0, 1, Key(0))))
    assert len(said) == 1
    assert "rest on" in said[0]
    mild = dmd(At(ANGLE), reward=Reward(weight=0.01))
    assert list(mild.cautions(roles, batch, Step(0, 1, Key(0)))) == []


def test_a_tilt_of_discrete_samples_is_refused() -> None:
    from objective_cases import UNIFORM, tokens

    from fewstep.objectives import diff_instruct

    class Count(nn.Module):
        def forward(self, x: Tensor, cond: Cond) -> Tensor:
            return (x == 1).double().mean(1)

    for reward, fine in ((Reward(weight=1.0), True), (Reward(tilt=1.0), False)):
        case = tokens(diff_instruct(UNIFORM))
        objective = diff_instruct(UNIFORM, reward=reward)
        roles = {**case.roles(), "reward": Count()}
        if fine:
            assert bool(torch.isfinite(student_loss(objective, roles, case.batch(), Key(0)).total))
        else:
            with pytest.raises(ValueError, match="discrete"):
                student_loss(objective, roles, case.batch(), Key(0))


def test_a_reward_named_on_the_command_line_becomes_a_frozen_role() -> None:
    module = types.ModuleType("my_reward_of_a_test")
    module.Line = Line  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    config: Any = KINDS["dmd"](reward={"target": "my_reward_of_a_test:Line", "tilt": 0.5})
    make = {
        "teacher": lambda: Denoiser(Pointwise(1), PROCESS, "edm"),
        "student": lambda: FewStep(Pointwise(2), PROCESS, "edm", (10.0,)),
    }
    rates = {name: Optim((Group(lr=1e-3),)) for name in ("student", "fake")}
    built = assemble(config.build(PROCESS), make, _Source(), rates)
    assert isinstance(built.roles["reward"], Line)
    assert "reward" not in built.optimizers
    assert not built.objective.roles["reward"].trainable


def test_a_reward_that_is_no_module_or_gives_no_number_per_sample_is_refused_in_words() -> None:
    class Image(nn.Module):
        def forward(self, x: Tensor, cond: Cond) -> Tensor:
            return x

    with pytest.raises(ValueError, match="returns a float"):
        made_by(float, {}, Batch(like=torch.zeros(1)))
    for reward in (Reward(weight=1.0), Reward(tilt=1.0)):
        with pytest.raises(FewstepError, match="one number per sample"):
            student_loss(
                dmd(At(ANGLE), reward=reward),
                {**duel(), "reward": Image()},
                Batch(like=torch.zeros(4, 1, dtype=torch.float64)),
                Key(0),
            )


def test_a_reward_that_cannot_be_found_is_told_by_its_setting() -> None:
    config: Any = KINDS["sid"](reward={"target": "no_such_module:reward", "tilt": 0.5})
    with pytest.raises(FewstepError, match=r"objective\.reward\.target"):
        config.build(PROCESS)


class _Source:
    def batch(self, index: int, key: Key) -> Batch:
        return points(dmd(NATURAL)).batch()
