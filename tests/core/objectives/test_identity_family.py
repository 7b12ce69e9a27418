"""SIM and Uni-Instruct against quoted numbers, automatic differentiation and each other.

Setting, if nothing else is said: teacher N(mu, s^2), student x = a z + b, alpha = .8, sigma = .6,
V_p = alpha^2 s^2 + sigma^2, V_q = alpha^2 a^2 + sigma^2.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from identity_toys import (
    ALPHA,
    PLAIN,
    SIGMA,
    V_P,
    fisher_weight,
    linear_ratio,
    weighted,
)
from objective_cases import NATURAL
from objective_toys import (
    ANGLE,
    MEAN,
    STD,
    At,
    duel,
    four_points,
    hermite,
    linear_gradient,
    student_loss,
)

from fewstep.config.objectives import KINDS
from fewstep.objectives import (
    SIM,
    ElementHuber,
    Huber,
    Power,
    SiD,
    Squared,
    UniInstruct,
    ratios,
)
from fewstep.objectives.identity_family import in_noise, in_scores
from fewstep.processes import edm
from fewstep.protocol import Euclidean, Key
from fewstep.testing.analytic import GaussianTeacher
from fewstep.testing.linear import LinearFake, LinearStudent


def test_score_matching_with_a_huber_distance_has_the_quoted_gradient() -> None:
    batch, key, mass = hermite()
    objective = SIM(At(ANGLE), weight=weighted(mass), distance=Huber(1.0))
    found = linear_gradient(objective, duel(), batch, key)
    assert found == pytest.approx((0.166118, -0.721987), abs=1e-6)
    doubled = SIM(At(ANGLE), weight=weighted(mass), distance=Huber(2.0))
    assert linear_gradient(doubled, duel(), batch, key) != pytest.approx(found, abs=1e-2)


DISTANCES = [Squared(), Huber(1.0), Huber(0.6), ElementHuber(0.7), Power(1.3, 1.0), Power(3.0, 0.5)]


@pytest.mark.parametrize("distance", DISTANCES, ids=str)
def test_score_matching_is_the_gradient_of_its_distance_under_frozen_samples(distance: Any) -> None:
    """d/dtheta of E_sg(q)[d(s_q - s_p)] by automatic differentiation of the fake's score alone."""
    batch, key, mass = hermite()
    roles = duel()
    student = roles["student"]
    objective = SIM(At(ANGLE), weight=weighted(mass), distance=distance)
    found = linear_gradient(objective, roles, batch, key)
    z, eps = key.values["sample"], key.values["judge"]
    xt = (ALPHA * (student.gain * z + student.shift) + SIGMA * eps).detach()
    v_q = ALPHA**2 * student.gain**2 + SIGMA**2
    gap = (ALPHA * student.shift - xt) / v_q - (ALPHA * MEAN - xt) / V_P
    exact = torch.autograd.grad((mass * distance(Euclidean(), gap)).mean(), [student.gain, student.shift])
    assert found == pytest.approx([float(g) for g in exact], abs=1e-7)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("distance", DISTANCES, ids=str)
def test_every_distance_has_its_slope(distance: Any, reduction: Any) -> None:
    geometry = Euclidean(reduction)
    gap, along = (Key(i).normal(torch.zeros(4, 3, dtype=torch.float64)) for i in (5, 6))
    _, slope = torch.func.jvp(lambda y: distance(geometry, y), (gap,), (along,))
    assert torch.allclose(geometry.inner(distance.slope(geometry, gap), along), slope, atol=1e-12)


def test_a_squared_distance_is_twice_sid_at_alpha_one_in_any_units() -> None:
    batch, key = four_points()
    twice = [2 * g for g in linear_gradient(SiD(At(ANGLE), alpha=1.0, **PLAIN), duel(), batch, key)]
    for units in (in_scores, in_noise):
        found = linear_gradient(SIM(At(ANGLE), distance=Squared(), units=units), duel(), batch, key)
        assert found == pytest.approx(twice, abs=1e-14)


def test_the_units_say_where_a_huber_distance_bends() -> None:
    batch, key, mass = hermite()
    noise = SIM(At(ANGLE), weight=weighted(mass), units=in_noise, distance=Huber(SIGMA))
    score = SIM(At(ANGLE), weight=weighted(mass), units=in_scores, distance=Huber(1.0))
    narrow = SIM(At(ANGLE), weight=weighted(mass), units=in_noise, distance=Huber(1.0))
    found = [linear_gradient(objective, duel(), batch, key) for objective in (noise, score, narrow)]
    assert found[0] == pytest.approx([g / SIGMA for g in found[1]], abs=1e-12)
    assert found[2] != pytest.approx([g / SIGMA for g in found[1]], abs=1e-2)


DIVERGENCES: list[tuple[Any, tuple[float, float]]] = [
    (None, (1.811884, -4.039336)),
    (ratios.reverse_kl, (1.811884, -4.039336)),
    (ratios.forward_kl, (-1.653480, -1.824811)),
    (ratios.jensen_shannon, (-0.456716, -0.750930)),
]


@pytest.mark.parametrize(("factor", "quoted"), DIVERGENCES)
def test_ratio_weighted_fisher_divergences_have_the_quoted_gradients(factor: Any, quoted: Any) -> None:
    batch, key, mass = hermite(80)
    roles = duel()
    roles["disc"] = linear_ratio(roles["student"])
    objective = UniInstruct(At(ANGLE), weight=weighted(mass), factor=factor, limit=200.0, **PLAIN)
    assert linear_gradient(objective, roles, batch, key) == pytest.approx(quoted, abs=2e-6)


@pytest.mark.parametrize(
    "factor",
    [
        ratios.forward_kl,
        ratios.jensen_shannon,
        ratios.softened_reverse_kl,
        ratios.hellinger,
        ratios.jeffreys,
    ],
)
def test_the_gradient_is_that_of_the_ratio_weighted_divergence(factor: Any) -> None:
    """Automatic differentiation of E_q[h(p / q) |s_q - s_p|^2] on a grid, through q everywhere."""
    batch, key, mass = hermite(80)
    roles = duel(0.7, 0.2)
    roles["disc"] = linear_ratio(roles["student"])
    objective = UniInstruct(At(ANGLE), weight=weighted(mass), factor=factor, limit=200.0, **PLAIN)
    found = linear_gradient(objective, roles, batch, key)
    student, grid = roles["student"], torch.linspace(-12, 12, 8001, dtype=torch.float64)
    v_q = ALPHA**2 * student.gain**2 + SIGMA**2
    p = torch.distributions.Normal(ALPHA * MEAN, V_P**0.5)
    q = torch.distributions.Normal(ALPHA * student.shift, v_q.sqrt())
    log_p, log_q = p.log_prob(grid), q.log_prob(grid)
    gap = (ALPHA * student.shift - grid) / v_q - (ALPHA * MEAN - grid) / V_P
    whole = torch.trapezoid(log_q.exp() * factor((log_p - log_q).exp()) * gap.square(), grid)
    exact = torch.autograd.grad(whole, [student.gain, student.shift])
    assert found == pytest.approx([float(g) for g in exact], abs=1e-6)


def test_only_a_divergence_with_a_ratio_asks_for_a_discriminator() -> None:
    plain, needy = UniInstruct(NATURAL), UniInstruct(NATURAL, factor=ratios.jensen_shannon)
    assert "disc" not in plain.roles
    assert not plain.reads
    assert "disc" in needy.roles
    assert needy.reads == {"x"}
    made: Any = KINDS["uni-instruct"]().build(edm())  # type: ignore[attr-defined]
    assert "disc" not in made.roles


def test_a_ratio_at_its_limit_is_a_constant() -> None:
    batch, key = four_points()
    roles = duel()
    roles["disc"] = linear_ratio(roles["student"])
    limit = 1e-9
    found = linear_gradient(
        UniInstruct(At(ANGLE), factor=ratios.forward_kl, limit=limit, **PLAIN), roles, batch, key
    )
    reverse = linear_gradient(UniInstruct(At(ANGLE), **PLAIN), roles, batch, key)
    assert found == pytest.approx(reverse, abs=1e-7)


def test_the_fisher_divergences_of_all_times_add_up_to_the_divergence() -> None:
    """O13's expansion: the integral of sigma E_q|s_q - s_p|^2 d sigma = KL_0 - KL_T, alpha = 1."""
    process = edm(sigma_min=1e-4, sigma_max=200.0)
    student = LinearStudent(process, 0.9, -0.4)
    roles = {
        "teacher": GaussianTeacher(process, MEAN, STD),
        "student": student,
        "fake": LinearFake(process, student),
    }
    batch, key = four_points()

    def value(sigma: float) -> float:
        objective = SiD(At(sigma), alpha=0.0, weight=fisher_weight, normalize=False)
        found = student_loss(objective, roles, batch, key).total.detach()
        return sigma * float(found)

    nodes, mass = torch.linspace(-9.21034, 5.298317, 801, dtype=torch.float64), []
    mass = [value(float(u.exp())) * float(u.exp()) for u in nodes]
    total = float(torch.trapezoid(torch.tensor(mass, dtype=torch.float64), nodes))
    # alpha = 0 is <delta, toward> + |delta|^2, whose value is the Fisher divergence.
    assert total == pytest.approx(kl(0.0) - kl(200.0), abs=2e-4)
    assert kl(1e-4) - kl(200.0) == pytest.approx(1.900075, abs=1e-6)


def kl(sigma: float) -> float:
    v_q, v_p = 0.81 + sigma**2, STD**2 + sigma**2
    return 0.5 * (v_q / v_p - 1 + float(torch.tensor(v_p / v_q).log()) + 1.21 / v_p)
