"""The score identity family in three dimensions in closed form, and between laws that are not Gaussian.

Setting, if nothing else is said: teacher N(mu, s^2), student x = a z + b, alpha = .8, sigma = .6,
V_p = alpha^2 s^2 + sigma^2, V_q = alpha^2 a^2 + sigma^2.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from identity_toys import (
    ALPHA,
    PLAIN,
    SIGMA,
    BentStudent,
    ExactRatio,
    MatrixFake,
    MatrixStudent,
    QuadratureFake,
    cross,
    descent,
    fisher_weight,
    rotated,
    tensor_rule,
    weighted,
)
from objective_toys import (
    ANGLE,
    MEAN,
    STD,
    At,
    duel,
    hermite,
    student_loss,
    unit_process,
)
from torch import Tensor, nn

from fewstep.objectives import (
    SIM,
    ElementHuber,
    ScoreIdentity,
    SiD,
    UniInstruct,
    ratios,
)
from fewstep.protocol import Batch, Euclidean, Sample, Step
from fewstep.testing.analytic import CovarianceTeacher, MixtureTeacher

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
    teacher = mixture()
    means = (teacher.means.clone() + torch.tensor([[off], [0.0]])).requires_grad_()
    plain, key, mass = hermite(60)
    which = torch.arange(2).repeat_interleave(len(plain.like))
    z, eps = (key.values[name].repeat(2, 1) for name in ("sample", "judge"))

    class Student(nn.Module):
        def generate(self, batch: Batch, step: Step, **asked: Any) -> Sample:
            return Sample(means[which] + teacher.stds[which].unsqueeze(1) * z)

    fake = MixtureTeacher(teacher.process, teacher.weights, means.detach(), teacher.stds)
    share = mass.repeat(2) * 2 * teacher.weights[which]
    roles = {"teacher": teacher, "student": Student(), "fake": fake}
    listed = type(key)(0, values={"judge": eps})
    loss = student_loss(replace(objective, weight=lambda process, t: share), roles, Batch(like=z), listed)
    return torch.autograd.grad(loss.total, means)[0]
