"""The score identity family against closed forms, finite sums and quadrature.

Setting, if nothing else is said: teacher N(mu, s^2), student x = a z + b, alpha = .8, sigma = .6,
V_p = alpha^2 s^2 + sigma^2, V_q = alpha^2 a^2 + sigma^2, R = V_q / V_p.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from identity_toys import (
    ALPHA,
    SIGMA,
    BentStudent,
    MatrixFake,
    MatrixStudent,
    QuadratureFake,
    cross,
    rotated,
    tensor_rule,
)
from objective_cases import NATURAL, PROCESS
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
    unit_process,
)
from torch import Tensor, nn

from fewstep.config.objectives import KINDS
from fewstep.objectives import (
    SIM,
    ElementHuber,
    Huber,
    Power,
    ScoreIdentity,
    SiD,
    Squared,
    UniInstruct,
    ratios,
    widest,
)
from fewstep.objectives.identity_family import in_noise, in_scores
from fewstep.processes import edm
from fewstep.protocol import Batch, Euclidean, Key, Linear, Step
from fewstep.testing.analytic import CovarianceTeacher, GaussianTeacher, MixtureTeacher
from fewstep.testing.linear import LinearFake, LinearStudent

V_P = ALPHA**2 * STD**2 + SIGMA**2
PLAIN: dict[str, Any] = {"normalize": False}


def fisher_weight(process: Any, t: Tensor) -> Tensor:
    """From x0 units to scores: alpha^2 / sigma^4."""
    return process.alpha(t).square() / process.sigma(t).pow(4)


def weighted(mass: Tensor) -> Any:
    return lambda process, t: fisher_weight(process, t) * mass


class ExactRatio(nn.Module):
    """The optimal discriminator between two Gaussians, log p_t - log q_t."""

    def __init__(self, p: Any, q: Any) -> None:
        super().__init__()
        self.p, self.q = p, q

    def forward(self, x: Tensor, t: Tensor, cond: Any) -> Tensor:
        found: Tensor = self.p.log_prob(x) - self.q.log_prob(x)
        return found if found.ndim == 1 else found.squeeze(-1)


def linear_ratio(student: LinearStudent) -> ExactRatio:
    normal = torch.distributions.Normal
    gain, shift = student.gain.detach(), student.shift.detach()
    v_q = ALPHA**2 * gain**2 + SIGMA**2
    return ExactRatio(normal(ALPHA * MEAN, V_P**0.5), normal(ALPHA * shift, v_q.sqrt()))


# --- the basin of SiD ----------------------------------------------------------------------------------------------


def student_of(ratio: float, shift: float = 1.2) -> dict[str, Any]:
    """Teacher and student whose variances of x_t have this ratio."""
    return duel(((ratio * V_P - SIGMA**2) / ALPHA**2) ** 0.5, shift)


@pytest.mark.parametrize("alpha", [1.1, 1.2, 1.5, 2.0])
def test_sid_widens_a_student_beyond_the_bound_and_narrows_it_below(alpha: float) -> None:
    batch, key = four_points()
    _, bound = widest(alpha)
    slopes = [
        linear_gradient(SiD(At(ANGLE), alpha=alpha, **PLAIN), student_of(share * bound), batch, key)[0]
        for share in (0.98, 1.0, 1.02)
    ]
    assert slopes[0] > 1e-4
    assert slopes[1] == pytest.approx(0, abs=1e-12)
    assert slopes[2] < -1e-4


@pytest.mark.parametrize("alpha", [1.1, 1.2, 1.5, 2.0])
def test_sid_moves_the_mean_away_beyond_its_own_lower_bound(alpha: float) -> None:
    batch, key = four_points()
    bound, _ = widest(alpha)
    assert bound == pytest.approx((2 * alpha - 1) / (2 * (alpha - 1)))
    slopes = [
        linear_gradient(SiD(At(ANGLE), alpha=alpha, **PLAIN), student_of(share * bound), batch, key)[1]
        for share in (0.98, 1.0, 1.02)
    ]
    assert slopes[0] > 1e-4
    assert slopes[1] == pytest.approx(0, abs=1e-12)
    assert slopes[2] < -1e-4


def test_the_bounds_at_the_customary_alpha_are_three_and_a_half_and_six() -> None:
    assert widest(1.2) == pytest.approx((3.5, 6.0))
    assert widest(1.0) == (torch.inf, torch.inf)


@pytest.mark.parametrize("ratio", [2.0, 6.0, 100.0])
def test_with_alpha_one_no_student_is_too_wide(ratio: float) -> None:
    batch, key = four_points()
    slopes = linear_gradient(SiD(At(ANGLE), alpha=1.0, **PLAIN), student_of(ratio), batch, key)
    assert min(slopes) > 0


def descent(objective: Any, roles: Any, steps: int = 250) -> tuple[float, float]:
    """Where Adam leads, with exact gradients and steps that shrink."""
    batch, key = four_points()
    optimizer = torch.optim.Adam(roles["student"].parameters(), lr=0.05)
    for i in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - i / steps) ** 2 + 1e-7
        optimizer.zero_grad()
        phase = objective.phases(i)[-1]
        objective.loss(phase, roles, batch, Step(i, steps, key)).total.backward()
        optimizer.step()
    return float(roles["student"].gain.detach()), float(roles["student"].shift.detach())


def test_a_wide_student_escapes_for_good_unless_alpha_rises_from_one() -> None:
    wide = student_of(8.0)
    constant = descent(SiD(At(ANGLE), alpha=1.2), student_of(8.0))
    assert abs(constant[0]) > float(wide["student"].gain.detach())
    rising = descent(SiD(At(ANGLE), alpha=Linear(1.0, 1.2, 0.5)), student_of(8.0))
    assert rising == pytest.approx((STD, MEAN), abs=1e-5)


def test_the_setting_for_a_warm_start_is_a_ramp() -> None:
    made: Any = KINDS["sid"](alpha_warmup=0.25).build(edm())  # type: ignore[attr-defined]
    assert made.alpha == Linear(1.0, 1.2, 0.25)
    assert KINDS["sid"]().build(edm()).alpha == 1.2  # type: ignore[attr-defined]


def cautions(gain: float, alpha: Any = 1.2, x: Tensor | None = None) -> list[str]:
    process = edm(sigma_data=STD)
    student = LinearStudent(process, gain, MEAN)
    roles = {
        "teacher": GaussianTeacher(process, MEAN, STD),
        "student": student,
        "fake": LinearFake(process, student),
    }
    batch = Batch(like=torch.zeros(512, 3, dtype=torch.float64), x=x)
    objective = SiD(NATURAL, alpha=alpha)
    with torch.no_grad():
        return list(objective.cautions(roles, batch, Step(0, 1, Key(1))))


def test_a_wide_student_is_cautioned_against_with_numbers() -> None:
    (told,) = cautions(5.0)
    assert "standard deviation 4.97, its teacher has 0." in told
    assert "alpha = 1.2" in told
    assert "3.5" in told
    assert "alpha_warmup" in told


def test_a_narrow_student_or_a_small_alpha_needs_no_caution() -> None:
    assert not cautions(0.9)
    assert not cautions(5.0, alpha=1.0)
    assert not cautions(5.0, alpha=Linear(1.0, 1.2, 0.3))


def test_the_teachers_width_is_that_of_the_data_where_the_batch_has_data() -> None:
    noise = Key(4).normal(torch.zeros(512, 3, dtype=torch.float64))
    assert not cautions(5.0, x=5 * noise)
    assert cautions(0.9, x=0.1 * noise)


# --- SIM -----------------------------------------------------------------------------------------------------------


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


# --- Uni-Instruct --------------------------------------------------------------------------------------------------

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


# --- three dimensions ----------------------------------------------------------------------------------------------

COVARIANCES = {
    "diagonal": torch.diag(torch.tensor([0.6, 1.1, 0.3]).double().square()),
    "rotated": rotated((0.6, 1.1, 0.3)),
}
MATRIX = torch.tensor([[0.9, 0.2, -0.1], [0.0, 0.7, 0.3], [0.1, -0.2, 1.1]], dtype=torch.float64)
SHIFTS = torch.tensor([-0.4, 0.3, 0.1], dtype=torch.float64)
MEANS = torch.tensor([0.7, -0.2, 0.4], dtype=torch.float64)


def matrix_duel(covariance: Tensor, matrix: Tensor = MATRIX, shift: Tensor = SHIFTS) -> dict[str, Any]:
    process = unit_process()
    process = type(process)(process.law, process.t_min, process.t_max, geometry=Euclidean("sum"))
    student = MatrixStudent(matrix, shift)
    return {
        "teacher": CovarianceTeacher(process, covariance, MEANS),
        "student": student,
        "fake": MatrixFake(process, student),
    }


def noised(covariance: Tensor) -> Tensor:
    return ALPHA**2 * covariance + SIGMA**2 * torch.eye(len(covariance), dtype=torch.float64)


def fisher_forms(covariance: Tensor, matrix: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """E_q|s_q - s_p|^2 in closed form, and the same with the function s_q - s_p held fixed."""
    v_p, v_q = noised(covariance), noised(matrix @ matrix.T)
    gap, m = torch.linalg.inv(v_p) - torch.linalg.inv(v_q), ALPHA * (shift - MEANS)
    fisher = (gap @ v_q @ gap).trace() + (torch.linalg.inv(v_p) @ m).square().sum()
    still, center = gap.detach(), m.detach()
    away = still @ (m - center) + torch.linalg.inv(v_p) @ center
    return fisher, (still @ v_q @ still).trace() + away.square().sum()


def matrix_gradient(objective: Any, roles: Any, batch: Batch, key: Any) -> list[Tensor]:
    student = roles["student"]
    return list(
        torch.autograd.grad(student_loss(objective, roles, batch, key).total, [student.matrix, student.shift])
    )


def close(found: list[Tensor], exact: Any, tolerance: float = 1e-12) -> bool:
    return all(torch.allclose(a, b, rtol=0, atol=tolerance) for a, b in zip(found, exact, strict=True))


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.2])
@pytest.mark.parametrize("name", COVARIANCES)
def test_sid_of_a_matrix_student_has_the_closed_form_gradient(name: str, alpha: float) -> None:
    """Half the Fisher gradient at alpha = 1/2; every alpha adds (1/2 - alpha) of the one with frozen scores."""
    roles = matrix_duel(COVARIANCES[name])
    student = roles["student"]
    objective = SiD(At(ANGLE), alpha=alpha, weight=fisher_weight, normalize=False)
    found = matrix_gradient(objective, roles, *cross(3))
    fisher, frozen = fisher_forms(COVARIANCES[name], student.matrix, student.shift)
    exact = torch.autograd.grad(fisher / 2 + (0.5 - alpha) * frozen, [student.matrix, student.shift])
    assert close(found, exact)
    wrong = torch.autograd.grad(
        fisher_forms(COVARIANCES["diagonal"] + 0.1, student.matrix, student.shift)[0] / 2,
        [student.matrix, student.shift],
    )
    assert not close(found, wrong, 1e-2)


@pytest.mark.parametrize("name", COVARIANCES)
def test_the_reverse_divergence_of_a_matrix_student_has_the_closed_form_gradient(name: str) -> None:
    roles = matrix_duel(COVARIANCES[name])
    student = roles["student"]
    objective = UniInstruct(At(ANGLE), weight=fisher_weight, normalize=False)
    fisher, _ = fisher_forms(COVARIANCES[name], student.matrix, student.shift)
    exact = torch.autograd.grad(fisher, [student.matrix, student.shift])
    assert close(matrix_gradient(objective, roles, *cross(3)), exact)


@pytest.mark.parametrize("name", COVARIANCES)
def test_the_forward_divergence_of_a_matrix_student_has_the_closed_form_gradient(name: str) -> None:
    """E_q[(p / q) |s_q - s_p|^2] = E_p|s_q - s_p|^2. The sum runs over the noise tilted by p / q, so it is exact."""
    roles, covariance = matrix_duel(COVARIANCES[name]), COVARIANCES[name]
    student = roles["student"]
    matrix, shift = student.matrix.detach(), student.shift.detach()
    v_p, v_q = noised(covariance), noised(matrix @ matrix.T)
    normal = torch.distributions.MultivariateNormal
    disc = ExactRatio(normal(ALPHA * MEANS, v_p), normal(ALPHA * shift, v_q))
    forward = torch.cat([ALPHA * matrix, SIGMA * torch.eye(3, dtype=torch.float64)], 1)
    precision = (
        torch.eye(6, dtype=torch.float64)
        + forward.T @ (torch.linalg.inv(v_p) - torch.linalg.inv(v_q)) @ forward
    )
    tilted = torch.linalg.inv(precision)
    center = tilted @ forward.T @ torch.linalg.inv(v_p) @ (ALPHA * (MEANS - shift))
    batch, key, mass = tensor_rule(3, lambda u: center + u @ torch.linalg.cholesky(tilted).T)
    xt = torch.cat([key.values["sample"], key.values["judge"]], 1) @ forward.T + ALPHA * shift
    importance = mass / disc(xt, torch.zeros(1), None).exp()
    objective = UniInstruct(
        At(ANGLE), weight=weighted(importance), factor=ratios.forward_kl, limit=200.0, normalize=False
    )
    found = matrix_gradient(objective, {**roles, "disc": disc}, batch, key)
    live_q = noised(student.matrix @ student.matrix.T)
    gap, m = torch.linalg.inv(v_p) - torch.linalg.inv(live_q), ALPHA * (student.shift - MEANS)
    closed = (gap @ v_p @ gap).trace() + (torch.linalg.inv(live_q) @ m).square().sum()
    assert close(found, torch.autograd.grad(closed, [student.matrix, student.shift]), 1e-11)


FAMILY: dict[str, ScoreIdentity] = {
    "sid": SiD(At(ANGLE)),
    "sid at one": SiD(At(ANGLE), alpha=1.0),
    "sim": SIM(At(ANGLE)),
    "sim by elements": SIM(At(ANGLE), distance=ElementHuber(0.1)),
    "uni-instruct": UniInstruct(At(ANGLE)),
}


@pytest.mark.parametrize("method", FAMILY)
def test_a_matrix_student_with_the_teachers_law_stands_still_and_another_does_not(method: str) -> None:
    covariance = COVARIANCES["rotated"]
    truth = matrix_duel(covariance, torch.linalg.cholesky(covariance), MEANS)
    batch, key, _ = tensor_rule(3, lambda u: u)
    still = matrix_gradient(FAMILY[method], truth, batch, key)
    moves = matrix_gradient(FAMILY[method], matrix_duel(covariance), batch, key)
    assert max(float(g.abs().max()) for g in still) < 1e-12
    assert max(float(g.abs().max()) for g in moves) > 1e-2


@pytest.mark.parametrize("method", FAMILY)
def test_descent_with_an_exact_fake_ends_at_the_teacher(method: str) -> None:
    assert descent(FAMILY[method], duel(0.3, 0.0)) == pytest.approx((STD, MEAN), abs=1e-4)


# --- laws that are not Gaussian ------------------------------------------------------------------------------------


def mixture() -> MixtureTeacher:
    weights, means, stds = (torch.tensor(v).double() for v in ((0.3, 0.7), (-2.0, 1.5), (0.5, 0.4)))
    return MixtureTeacher(unit_process(), weights, means.unsqueeze(1), stds)


def log_mixture(x: Tensor) -> Tensor:
    teacher = mixture()
    var = (ALPHA * teacher.stds).square() + SIGMA**2
    each = -(x - ALPHA * teacher.means.squeeze(1)).square() / (2 * var) - 0.5 * (2 * torch.pi * var).log()
    return torch.logsumexp(teacher.weights.log() + each, 1)


class BentRatio(nn.Module):
    def __init__(self, fake: QuadratureFake) -> None:
        super().__init__()
        self.fake = fake

    def forward(self, x: Tensor, t: Tensor, cond: Any) -> Tensor:
        return log_mixture(x) - self.fake.log_density(x)


@pytest.mark.parametrize("factor", [None, ratios.jensen_shannon, ratios.softened_reverse_kl])
def test_the_gradient_between_a_bent_student_and_a_mixture_is_that_of_the_integral(factor: Any) -> None:
    process, student = unit_process(), BentStudent((0.8, -0.2, 0.9))
    fake = QuadratureFake(process, student)
    roles = {"teacher": mixture(), "student": student, "fake": fake, "disc": BentRatio(fake)}
    batch, key, mass = hermite(140)
    objective = UniInstruct(At(ANGLE), weight=weighted(mass), factor=factor, limit=200.0, **PLAIN)
    found = torch.autograd.grad(student_loss(objective, roles, batch, key).total, student.numbers)[0]
    grid = torch.linspace(-9, 9, 3001, dtype=torch.float64).unsqueeze(1).requires_grad_()
    log_p, log_q = log_mixture(grid), fake.log_density(grid)
    score_p, score_q = (
        torch.autograd.grad(log.sum(), grid, create_graph=True)[0].squeeze(1) for log in (log_p, log_q)
    )
    h = 1.0 if factor is None else factor((log_p - log_q).exp())
    whole = torch.trapezoid(log_q.exp() * h * (score_q - score_p).square(), grid.detach().squeeze(1))
    exact = torch.autograd.grad(whole, student.numbers)[0]
    assert torch.allclose(found, exact, atol=1e-5)
    frozen = torch.autograd.grad(whole_without_feedback(student, fake, h, grid), student.numbers)[0]
    assert not torch.allclose(found, frozen, atol=1e-2)


def whole_without_feedback(student: BentStudent, fake: QuadratureFake, h: Any, grid: Tensor) -> Tensor:
    """The control: an integral in which only q's density moves and its score stays."""
    log_p, log_q = log_mixture(grid), fake.log_density(grid)
    score_p, score_q = (
        torch.autograd.grad(log.sum(), grid, retain_graph=True)[0].squeeze(1) for log in (log_p, log_q)
    )
    factor = h.detach() if isinstance(h, Tensor) else h
    gap = (score_q - score_p).detach().square()
    return torch.trapezoid(log_q.exp() * factor * gap, grid.detach().squeeze(1))


@pytest.mark.parametrize("method", ["sid", "sid at one", "sim", "uni-instruct"])
def test_a_mixture_student_with_the_teachers_law_stands_still_and_another_does_not(method: str) -> None:
    objective = FAMILY[method]
    assert float(mixture_gradient(objective, 0.0).abs().max()) < 1e-9
    assert float(mixture_gradient(objective, 0.3).abs().max()) > 1e-3


def mixture_gradient(objective: ScoreIdentity, off: float) -> Tensor:
    """With respect to the two means of a student that draws a component and then a number around its mean."""
    from dataclasses import replace

    teacher = mixture()
    means = (teacher.means.clone() + torch.tensor([[off], [0.0]])).requires_grad_()
    plain, key, mass = hermite(60)
    which = torch.arange(2).repeat_interleave(len(plain.like))
    z, eps = (key.values[name].repeat(2, 1) for name in ("sample", "judge"))

    class Student(nn.Module):
        def generate(self, batch: Batch, step: Step, **asked: Any) -> Any:
            from fewstep.protocol import Sample

            return Sample(means[which] + teacher.stds[which].unsqueeze(1) * z)

    fake = MixtureTeacher(teacher.process, teacher.weights, means.detach(), teacher.stds)
    share = mass.repeat(2) * 2 * teacher.weights[which]
    roles = {"teacher": teacher, "student": Student(), "fake": fake}
    listed = type(key)(0, values={"judge": eps})
    loss = student_loss(replace(objective, weight=lambda process, t: share), roles, Batch(like=z), listed)
    return torch.autograd.grad(loss.total, means)[0]


# --- cost ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "student", "critic"),
    [
        ("sid", {"teacher": 1, "fake": 1}, {"fake": 1}),
        ("sim", {"teacher": 1, "fake": 1}, {"fake": 1}),
        ("uni-instruct", {"teacher": 1, "fake": 1}, {"fake": 1}),
        ("uni-instruct, forward", {"teacher": 1, "fake": 1, "disc": 1}, {"fake": 1, "disc": 2}),
        ("sfd", {"teacher": 2, "fake": 2}, {"fake": 2}),
    ],
)
def test_every_network_is_called_as_often_as_the_mathematics_needs(
    method: str, student: dict[str, int], critic: dict[str, int]
) -> None:
    from objective_cases import every_case

    case = every_case()[method]
    for phase, expected in (("student", student), ("critic", critic)):
        calls, graphs = counted(case, phase)
        assert calls == expected
        # In the student's phase the gradient runs through teacher and fake; the ratio needs none.
        assert graphs == ({"teacher", "fake"} if phase == "student" else set(expected))


def counted(case: Any, name: str) -> tuple[dict[str, int], set[str]]:
    from objective_toys import grant

    from fewstep.protocol import parts

    roles = case.roles()
    phase = next(p for p in case.objective.phases(0) if p.name == name)
    grant(roles, phase)
    calls: dict[str, int] = {}
    graphs: set[str] = set()

    def listen(role: str) -> Any:
        def note(module: Any, inputs: Any, out: Tensor) -> None:
            calls[role] = calls.get(role, 0) + 1
            graphs.update({role} if out.requires_grad else ())

        return note

    for role, module in roles.items():
        if role != "student":
            module.net.register_forward_hook(listen(role))
    list(parts(case.objective.loss(phase, roles, case.batch(), Step(0, 10, Key(1)))))
    return calls, graphs


def test_a_teacher_that_takes_no_guidance_cannot_be_asked_for_it() -> None:
    assert SiD(NATURAL, guidance=3.0).roles["teacher"].accepts == {"guidance"}
    assert not SiD(NATURAL).roles["teacher"].accepts
    assert PROCESS.t_max == 10.0
