"""Preferences between pairs: the optimum is the reference, tilted by exp(reward / (temperature beta))."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from objective_toys import Listed, student_loss
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from fewstep.config.objectives import PSOConfig
from fewstep.engine import AssemblyError, assemble
from fewstep.objectives import PairPolicy, PairTarget, pair_loss, preference
from fewstep.processes import Masked, edm
from fewstep.protocol import Batch, Cond, Denoiser, Estimate, Key, Sample, Step
from fewstep.samplers import FewStep, FewStepPolicy, FewStepTokens

FIRST, STD, REWARD, BETA = 0.3, 0.6, 2.0, 5.0
"""Policy N(m, .6^2), reference mean .3, reward 2 x, beta 5: the optimum is .3 + 2 * .36 / 5 = .444."""

PROCESS = edm(sigma_max=10.0)


class Mover(FewStepPolicy):
    """Draws N(m, s^2) after its first step and keeps it in its second."""

    def __init__(self, mean: float, std: float = STD) -> None:
        super().__init__(nn.Identity(), PROCESS, "x0", (10.0, std))
        self.mean = nn.Parameter(torch.tensor(mean, dtype=torch.float64))

    def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
        return Estimate(self.mean.expand_as(xt) if float(t[0]) == self.times[0] else xt)


class Slope(nn.Module):
    """reward = <slope, x>."""

    def __init__(self, slope: Tensor | float) -> None:
        super().__init__()
        self.slope = torch.as_tensor(slope, dtype=torch.float64)

    def forward(self, x: Tensor, cond: Cond) -> Tensor:
        found: Tensor = (self.slope * x.double()).flatten(1).sum(1)
        return found


def pairs() -> tuple[Batch, Listed]:
    """Every pair of seven noises."""
    grid = torch.linspace(-2, 2, 7, dtype=torch.float64)
    first, second = (z.reshape(-1, 1) for z in torch.meshgrid(grid, grid, indexing="ij"))
    return Batch(like=first), Listed(0, values={"first": first, "second": second})


def bradley_terry(**settings: Any) -> PairPolicy:
    return PairPolicy(**{"beta": BETA, "clip": None, "temperature": 1.0, **settings})


def slope_at(mean: float, objective: PairPolicy, reward: float = REWARD) -> tuple[float, Any]:
    roles = {"student": Mover(mean), "reference": Mover(FIRST), "reward": Slope(reward)}
    loss = student_loss(objective, roles, *pairs())
    (slope,) = torch.autograd.grad(loss.total, [roles["student"].mean])
    return float(slope), loss


def test_the_optimum_is_the_tilted_reference() -> None:
    best = FIRST + REWARD * STD**2 / BETA
    assert best == pytest.approx(0.444)
    assert abs(slope_at(best, bradley_terry())[0]) < 1e-15
    assert slope_at(best + 0.1, bradley_terry())[0] > 0.01
    assert slope_at(best - 0.1, bradley_terry())[0] < -0.01


def test_the_loss_at_the_reference_is_the_logarithm_of_two() -> None:
    assert float(slope_at(FIRST, bradley_terry())[1].total.detach()) == pytest.approx(math.log(2), abs=1e-15)


def test_descent_goes_to_the_tilted_reference_and_without_a_reward_it_stays() -> None:
    def descend(reward: float) -> float:
        roles = {"student": Mover(FIRST), "reference": Mover(FIRST), "reward": Slope(reward)}
        optimizer = torch.optim.SGD(roles["student"].parameters(), lr=0.02)
        for _ in range(40):
            optimizer.zero_grad()
            student_loss(bradley_terry(), roles, *pairs()).total.backward()
            optimizer.step()
        return float(roles["student"].mean.detach())

    assert descend(REWARD) == pytest.approx(0.444, abs=1e-6)
    assert descend(0.0) == pytest.approx(FIRST, abs=1e-12)


class Correlated(nn.Module):
    """A policy N(m, C) that draws once."""

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        super().__init__()
        self.mean = nn.Parameter(mean.clone())
        self.covariance = covariance

    def law(self) -> MultivariateNormal:
        return MultivariateNormal(self.mean, self.covariance)

    def generate(self, batch: Batch, step: Step, **asked: Any) -> Sample:
        noise = step.key.at("noise").normal(batch.like)
        x = (self.mean + noise @ torch.linalg.cholesky(self.covariance).T).detach()
        return Sample(x, batch.cond, logp=self.law().log_prob(x).unsqueeze(1))

    def logp(self, sample: Sample, batch: Batch) -> Tensor:
        return self.law().log_prob(sample.x).unsqueeze(1)


ROTATED = torch.tensor([[0.5, 0.2, -0.1], [0.2, 0.4, 0.1], [-0.1, 0.1, 0.3]], dtype=torch.float64)


@pytest.mark.parametrize(
    "covariance", [torch.diag(torch.tensor([0.36, 0.09, 0.64], dtype=torch.float64)), ROTATED]
)
def test_a_policy_of_three_dimensions_moves_by_its_covariance_times_the_reward(covariance: Tensor) -> None:
    start = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    reward = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)
    batch = Batch(like=torch.zeros(32, 3, dtype=torch.float64))

    def slope(mean: Tensor) -> float:
        roles = {
            "student": Correlated(mean, covariance),
            "reference": Correlated(start, covariance),
            "reward": Slope(reward),
        }
        total = student_loss(bradley_terry(), roles, batch, Key(1)).total
        return float(torch.autograd.grad(total, [roles["student"].mean])[0].abs().max())

    best = start + covariance @ reward / BETA
    assert slope(best) < 1e-14
    assert slope(start + reward / BETA) > 0.05


class Rows(nn.Module):
    """One free row of logits for each position."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.clone())

    def forward(self, xt: Tensor, time: Tensor, cond: Cond) -> Tensor:
        return self.logits.expand(len(xt), -1, -1)


class Value(nn.Module):
    """The sum of a table's entries over positions."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = table

    def forward(self, x: Tensor, cond: Cond) -> Tensor:
        return self.table.expand(len(x), -1, -1).gather(2, x.unsqueeze(2)).sum((1, 2))


def test_drawn_tokens_go_to_the_tilted_law_too() -> None:
    known, table = (Key(2).at(name).normal(torch.zeros(3, 4, dtype=torch.float64)) for name in ("p", "r"))
    batch = Batch(like=torch.zeros(64, 3, dtype=torch.int64))

    def slope(logits: Tensor) -> float:
        roles: dict[str, Any] = {
            "student": FewStepTokens(Rows(logits), Masked(4)),
            "reference": FewStepTokens(Rows(known), Masked(4)),
            "reward": Value(table),
        }
        total = student_loss(bradley_terry(), roles, batch, Key(3)).total
        (found,) = torch.autograd.grad(total, [roles["student"].net.logits])
        return float(found.abs().max())

    assert slope(known + table / BETA) < 1e-14
    assert slope(known) > 0.01


def test_turning_the_reward_round_turns_the_gradient_round() -> None:
    objective = PairPolicy()
    up, down = (slope_at(FIRST, objective, reward)[0] for reward in (1.0, -1.0))
    assert up < -1.0
    assert down == pytest.approx(-up, rel=1e-12)


def test_beyond_the_clip_there_is_no_gradient_and_the_log_says_so() -> None:
    # h = (m - m0) z / s - (m - m0)^2 / (2 s^2): for m far away every ratio is clipped but those of balanced noise.
    slope, loss = slope_at(FIRST - 4.0, PairPolicy())
    assert slope == 0.0
    assert float(loss.logs["clipped"]) == 1.0
    near, loose = slope_at(FIRST + 1e-3, PairPolicy())
    assert near != 0.0
    assert float(loose.logs["clipped"]) == 0.0


def test_equal_rewards_are_a_draw_and_are_cautioned_against() -> None:
    slope, _ = slope_at(FIRST, PairPolicy(), 0.0)
    assert abs(slope) < 1e-15
    roles = {"student": Mover(FIRST), "reward": Slope(0.0)}
    batch = Batch(like=torch.zeros(8, 1, dtype=torch.float64))
    said = list(PairPolicy().cautions(roles, batch, Step(0, 1, Key(0))))
    assert "no sample wins" in said[0]
    assert not list(PairPolicy().cautions({**roles, "reward": Slope(1.0)}, batch, Step(0, 1, Key(0))))


def test_a_preference_is_a_step_or_a_sigmoid() -> None:
    difference = torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64)
    assert preference(difference).tolist() == [0.0, 0.5, 1.0]
    assert preference(difference, 2.0).tolist() == pytest.approx(torch.sigmoid(difference / 2).tolist())
    sure = pair_loss(difference.unsqueeze(1), torch.ones(3), 3.0).squeeze(1)
    assert sure.tolist() == pytest.approx((-torch.log(torch.sigmoid(3.0 * difference))).tolist())


def test_each_update_calls_the_student_as_often_as_it_steps_and_the_reference_only_for_draws() -> None:
    roles = {"student": Mover(FIRST), "reference": Mover(FIRST), "reward": Slope(REWARD)}
    calls = dict.fromkeys(("student", "reference"), 0)
    for name in calls:
        forward = roles[name].forward

        def counted(*given: Any, name: str = name, forward: Any = forward, **named: Any) -> Any:
            calls[name] += 1
            return forward(*given, **named)

        object.__setattr__(roles[name], "forward", counted)
    student_loss(PairPolicy(), roles, *pairs())
    assert calls == {"student": 2 * 2, "reference": 2 * 1}


class Source:
    """Nothing but a shape."""

    def batch(self, index: int, key: Key) -> Batch:
        x = torch.zeros(4, 1, dtype=torch.float64)
        return Batch(like=x, x=x)


def test_the_reference_is_a_frozen_copy_of_the_student_as_it_starts() -> None:
    made = assemble(PairPolicy(), {"student": lambda: Mover(0.7), "reward": lambda: Slope(1.0)}, Source(),
                    {"student": optimizer()})  # fmt: skip
    assert float(made.roles["reference"].mean.detach()) == 0.7  # type: ignore[union-attr, operator]
    assert made.roles["reference"] is not made.roles["student"]
    assert not PairPolicy().roles["reference"].trainable


def test_a_reward_of_ones_own_code_is_built_where_the_recipe_has_none() -> None:
    objective = PSOConfig(target="torch.nn:Identity").build(PROCESS)
    made = assemble(objective, {"student": lambda: Mover(0.7)}, Source(), {"student": optimizer()})
    assert isinstance(made.roles["reward"], nn.Identity)


def test_settings_choose_the_form_and_its_customary_strength() -> None:
    assert PSOConfig().build(PROCESS) == PairPolicy(beta=50.0, clip=0.1)
    assert PSOConfig(mode="offline").build(PROCESS) == PairTarget(beta=200.0, discount=0.1)
    hinge = PSOConfig(mode="offline", reference=False, margin=0.1, beta=3).build(PROCESS)
    assert hinge == PairTarget(beta=3.0, margin=0.1, reference=None)


def optimizer() -> Any:
    from fewstep.protocol import Optim

    return Optim()


def test_recipes_without_a_reward_or_with_a_mapped_student_are_refused_with_the_reason() -> None:
    with pytest.raises(AssemblyError, match="nobody offers the role 'reward'"):
        assemble(PairPolicy(), {"student": lambda: Mover(0.7)}, Source(), {"student": optimizer()})
    mapped = lambda: FewStep(nn.Linear(1, 1), PROCESS, "x0", (10.0, 1.0))  # noqa: E731
    with pytest.raises(AssemblyError, match=r"'student' must be a Stochastic .*, but it has no logp"):
        assemble(
            PairPolicy(),
            {"student": mapped, "reward": lambda: Slope(1.0)},
            Source(),
            {"student": optimizer()},
        )


# --- offline ----------------------------------------------------------------------------------------------------------


class Constant(FewStep):
    """Makes and believes m, whatever it sees."""

    def __init__(self, mean: float) -> None:
        super().__init__(nn.Identity(), PROCESS, "x0", (10.0, 1.0))
        self.mean = nn.Parameter(torch.tensor(mean, dtype=torch.float64))
        self.asked: list[Tensor] = []

    def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
        self.asked.append(t)
        return Estimate(self.mean.expand_as(xt))


TARGET = 1.1


def targets(count: int = 16) -> Batch:
    x = torch.full((count, 1), TARGET, dtype=torch.float64)
    return Batch(like=x, x=x)


def offline(mean: float, objective: PairTarget) -> tuple[float, float]:
    roles = {"student": Constant(mean), "reference": Constant(FIRST)}
    total = student_loss(objective, roles, targets(), Key(5)).total
    (slope,) = torch.autograd.grad(total, [roles["student"].mean])
    return float(total.detach()), float(slope)


def test_at_the_reference_the_loss_of_a_target_is_log_two_and_pulls_towards_it() -> None:
    total, slope = offline(FIRST, PairTarget(beta=200.0))
    assert total == pytest.approx(math.log(2), abs=1e-14)
    assert slope == pytest.approx(200.0 * (FIRST - TARGET), rel=1e-12)


def test_away_from_the_reference_the_loss_of_a_target_has_its_closed_form() -> None:
    mean, beta, discount = 0.5, 3.0, 0.1
    known = (FIRST - TARGET) ** 2 - discount * (FIRST - mean) ** 2
    inner = beta * (known - (mean - TARGET) ** 2)
    total, slope = offline(mean, PairTarget(beta=beta, discount=discount))
    assert total == pytest.approx(math.log(1 + math.exp(-inner)), rel=1e-12)
    assert slope == pytest.approx(beta / (1 + math.exp(inner)) * 2 * (mean - TARGET), rel=1e-12)


def test_without_a_reference_the_hinge_pulls_until_the_target_is_better_by_its_margin() -> None:
    objective = PairTarget(beta=2.0, margin=0.2, reference=None)
    assert "reference" not in objective.roles
    total, slope = offline(FIRST, objective)
    assert total == pytest.approx(2.0 * (0.2 + (FIRST - TARGET) ** 2), rel=1e-12)
    assert slope == pytest.approx(4.0 * (FIRST - TARGET), rel=1e-12)
    assert offline(TARGET, replace(objective, margin=0.0)) == (0.0, 0.0)


def test_descent_ends_at_the_target_and_a_wrong_sign_would_not() -> None:
    student, reference = Constant(FIRST), Constant(FIRST)
    trained = torch.optim.SGD(student.parameters(), lr=0.05)
    for i in range(200):
        trained.zero_grad()
        student_loss(
            PairTarget(beta=5.0), {"student": student, "reference": reference}, targets(), Key(6).at(i)
        ).total.backward()
        trained.step()
    assert float(student.mean.detach()) == pytest.approx(TARGET, abs=0.02)


def test_only_the_times_of_the_student_are_asked_for() -> None:
    student = Constant(FIRST)
    student_loss(PairTarget(reference=None), {"student": student}, targets(64), Key(7))
    assert set(torch.cat(student.asked).tolist()) == {10.0, 1.0}
    assert len(student.asked) == 2 + 2, "two steps of its own sample, then target and sample"


def test_offline_pairs_work_for_any_student_that_walks() -> None:
    roles = {
        "student": PairTarget().roles["student"].kind,
        "denoiser": Denoiser(nn.Identity(), PROCESS, "x0"),
    }
    assert isinstance(Constant(0.0), roles["student"])
    assert not isinstance(roles["denoiser"], roles["student"])
