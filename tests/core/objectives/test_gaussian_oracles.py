"""Gradients of score distillation and the score identity against closed forms.

Setting: teacher N(mu, s^2), student x = a z + b, alpha = .8, sigma = .6; V_p = alpha^2 s^2 + sigma^2,
V_q = alpha^2 a^2 + sigma^2. Expectations are exact: four-point sums for quadratic integrands, 60 x 60 Gauss-Hermite else.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from objective_toys import (
    ANGLE,
    GAIN,
    MEAN,
    SHIFT,
    STD,
    At,
    duel,
    four_points,
    linear_gradient,
    student_loss,
)
from torch import Tensor, nn

from fewstep.objectives import SiD, dmd, fresh, sds
from fewstep.objectives.weights import edm as edm_weight
from fewstep.objectives.weights import score
from fewstep.processes import flow
from fewstep.protocol import Sample

V_P = 0.64 * STD**2 + 0.36
V_Q = 0.64 * GAIN**2 + 0.36


def fisher_weight(process: Any, t: Tensor) -> Tensor:
    """Squared difference of scores from squared difference of x0 estimates: alpha^2 / sigma^4."""
    return process.alpha(t).square() / process.sigma(t).pow(4)


def test_matching_distributions_follows_the_gradient_of_the_reverse_divergence() -> None:
    batch, key = four_points()
    found = linear_gradient(dmd(At(ANGLE), weight=score, normalize=False), duel(), batch, key)
    closed = (0.64 * GAIN * (1 / V_P - 1 / V_Q), 0.64 * (SHIFT - MEAN) / V_P)
    assert found == pytest.approx(closed, abs=1e-14)
    assert found == pytest.approx((0.319872, -1.192412), abs=1e-6)


def test_score_sampling_without_a_fake_shrinks_the_student() -> None:
    batch, key = four_points()
    found = linear_gradient(sds(At(ANGLE), weight=score), duel(), batch, key)
    assert found == pytest.approx((0.64 * GAIN / V_P, 0.64 * (SHIFT - MEAN) / V_P), abs=1e-14)
    assert found == pytest.approx((0.975610, -1.192412), abs=1e-6)


def test_matching_stands_still_at_the_teacher_and_score_sampling_does_not() -> None:
    batch, key = four_points()
    still = linear_gradient(dmd(At(ANGLE)), duel(STD, MEAN), batch, key)
    moves = linear_gradient(sds(At(ANGLE)), duel(STD, MEAN), batch, key)
    assert max(map(abs, still)) < 1e-15
    assert moves[0] > 0.1


@pytest.mark.parametrize(
    ("alpha", "quoted"),
    [(0.5, (0.905942, -2.019668)), (1.0, (0.728306, -1.357482)), (1.2, (0.657252, -1.092607))],
)
def test_score_identity_has_the_closed_form_gradient(alpha: float, quoted: tuple[float, float]) -> None:
    batch, key = four_points()
    objective = SiD(At(ANGLE), alpha=alpha, normalize=False, weight=fisher_weight)
    found = linear_gradient(objective, duel(), batch, key)
    k = 1 / V_Q - 1 / V_P
    closed = (
        2 * 0.64 * GAIN * k * ((1 - alpha) * k - 1 / V_Q),
        0.64 * (SHIFT - MEAN) / V_P * (1 / V_Q - 2 * (1 - alpha) * k),
    )
    assert found == pytest.approx(closed, abs=1e-13)
    assert found == pytest.approx(quoted, abs=1e-6)


def test_the_value_of_the_score_identity_is_no_measure_of_convergence() -> None:
    batch, key = four_points()
    objective = SiD(At(ANGLE), alpha=1.2, normalize=False, weight=fisher_weight)
    assert float(student_loss(objective, duel(), batch, key).total.detach()) == pytest.approx(
        -0.498506, abs=1e-6
    )


def test_score_identity_at_one_half_is_half_the_fisher_gradient() -> None:
    batch, key = four_points()
    found = linear_gradient(
        SiD(At(ANGLE), alpha=0.5, normalize=False, weight=fisher_weight), duel(), batch, key
    )
    gain, shift = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (GAIN, SHIFT))
    v_q = 0.64 * gain**2 + 0.36
    # E_q |s_q - s_p|^2: with x ~ N(.8 b, V_q), s_q - s_p = k' (x - .8 b) + .8 (b - mu) / V_p.
    fisher = (1 / V_P - 1 / v_q) ** 2 * v_q + (0.8 * (shift - MEAN) / V_P) ** 2
    exact = torch.autograd.grad(fisher, [gain, shift])
    assert [2 * g for g in found] == pytest.approx([float(g) for g in exact], abs=1e-13)


@pytest.mark.parametrize("alpha", [1.0, 1.2])
def test_score_identity_stands_still_at_the_teacher(alpha: float) -> None:
    batch, key = four_points()
    found = linear_gradient(SiD(At(ANGLE), alpha=alpha), duel(STD, MEAN), batch, key)
    assert max(map(abs, found)) < 1e-12


def test_normalizing_divides_each_sample_by_its_distance_from_the_teacher() -> None:
    batch, key = four_points()
    roles = duel()
    plain, normal = (
        student_loss(dmd(At(ANGLE), normalize=n), roles, batch, key).total for n in (False, True)
    )
    sample = roles["student"].generate(batch, _step(key))
    seen = fresh(roles["teacher"].process, sample, At(ANGLE), _step(key), key.at("judge"))
    real = roles["teacher"](seen.xt, seen.t).x0
    fake = roles["fake"](seen.xt, seen.t).x0
    each = (sample.x * (fake - real)).detach().squeeze(-1)
    assert float(plain.detach()) == pytest.approx(float(each.mean()), abs=1e-15)
    expected = (each / (sample.x - real).detach().abs().squeeze(-1)).mean()
    assert float(normal.detach()) == pytest.approx(float(expected), abs=1e-15)


@pytest.mark.parametrize("name", ["dmd", "sid"])
def test_descent_with_an_exact_fake_ends_at_the_teacher(name: str) -> None:
    objective = dmd(At(ANGLE)) if name == "dmd" else SiD(At(ANGLE), alpha=1.2)
    gain, shift = descend(objective, duel(0.3, 0.0))
    assert (gain, shift) == pytest.approx((STD, MEAN), abs=1e-6)


def test_descent_of_score_sampling_collapses_to_the_mode() -> None:
    gain, shift = descend(sds(At(ANGLE)), duel())
    assert abs(gain) < 1e-6
    assert shift == pytest.approx(MEAN, abs=1e-6)


def descend(objective: Any, roles: Any) -> tuple[float, float]:
    batch, key = four_points()
    student = roles["student"]
    optimizer = torch.optim.Adam(student.parameters(), lr=0.05)
    for i in range(400):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - i / 400) ** 2 + 1e-7
        optimizer.zero_grad()
        student_loss(objective, roles, batch, key).total.backward()
        optimizer.step()
    return float(student.gain.detach()), float(student.shift.detach())


def test_penalties_are_added_with_the_weights_of_the_objective() -> None:
    batch, key = four_points()
    roles = duel()
    plain = student_loss(dmd(At(ANGLE)), roles, batch, key).total.detach()
    roles["student"] = Penalized(roles["student"])
    heavy = student_loss(dmd(At(ANGLE), penalties={"size": 3.0}), roles, batch, key)
    assert float(heavy.total.detach() - plain) == pytest.approx(6.0)
    assert float(heavy.logs["penalty/size"]) == pytest.approx(2.0)


def test_a_penalty_without_a_weight_is_refused_by_name() -> None:
    batch, key = four_points()
    roles = duel()
    roles["student"] = Penalized(roles["student"])
    with pytest.raises(ValueError, match="size"):
        student_loss(dmd(At(ANGLE)), roles, batch, key)


class Penalized(nn.Module):
    """A student that puts forward a penalty of 2 for every sample."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def generate(self, batch: Any, step: Any, **asked: Any) -> Sample:
        from dataclasses import replace

        sample: Sample = self.inner.generate(batch, step, **asked)
        return replace(sample, penalties={"size": torch.full((len(sample.x),), 2.0, dtype=torch.float64)})


def _step(key: Any) -> Any:
    from fewstep.protocol import Step

    return Step(0, 10, key.at("sample"))


def test_the_edm_weight_has_its_limit_where_no_signal_is_left() -> None:
    assert float(edm_weight(flow(sigma_data=0.5), torch.ones(1, dtype=torch.float64))) == pytest.approx(4.0)
