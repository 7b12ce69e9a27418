"""Score distillation in several dimensions, on mixtures, from noised data and along segments."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from cases_score import CASES
from objective_cases import NATURAL, PROCESS, TIMES, points
from objective_toys import (
    ANGLE,
    At,
    Height,
    Listed,
    grant,
    hermite,
    linear_gradient,
    student_loss,
    unit_process,
)
from score_toys import MatrixFake, MatrixStudent, rotated, tensor_points
from test_first_proofs import exact_gains, path_roles
from torch import Tensor, nn

from fewstep.objectives import Reward, Segment, diff_instruct, dmd, dmd2, sds, tdm
from fewstep.objectives.rollout import one_step
from fewstep.objectives.weights import one, score
from fewstep.processes import edm
from fewstep.protocol import Batch, Cond, Euclidean, Key, Step, Stepwise
from fewstep.samplers import FewStep
from fewstep.testing.analytic import CovarianceTeacher, MixtureTeacher
from fewstep.testing.linear import LinearFake, LinearStudent


@pytest.mark.parametrize("turned", [False, True])
def test_matching_in_three_dimensions_is_the_gradient_of_the_closed_divergence(turned: bool) -> None:
    """KL(q_t | p_t) of two Gaussians, differentiated by the student's whole matrix; 64 points integrate exactly."""
    roles, closed = duel_of_matrices(turned)
    batch, key, _ = tensor_points(3)
    objective = dmd(At(ANGLE), weight=lambda p, t: 3 * score(p, t), normalize=False)
    found = slopes(objective, roles, batch, key)
    for a, b in zip(found, closed, strict=True):
        assert torch.allclose(a, b, atol=1e-12)
    assert float(closed[0].abs().max()) > 0.05
    without = slopes(sds(At(ANGLE), weight=lambda p, t: 3 * score(p, t)), roles, batch, key)
    assert not torch.allclose(without[0], closed[0], atol=0.1)


@pytest.mark.parametrize("turned", [False, True])
def test_matching_in_three_dimensions_stands_still_at_every_root_of_the_covariance(turned: bool) -> None:
    process, covariance = unit_process(), rotated((0.3, 0.6, 1.1), turned)
    root = torch.linalg.cholesky(covariance)
    student = MatrixStudent(process, root, torch.zeros(3))
    roles = {
        "teacher": CovarianceTeacher(process, covariance),
        "student": student,
        "fake": MatrixFake(process, student),
    }
    batch, key, _ = tensor_points(3)
    for objective in (dmd(At(ANGLE)), diff_instruct(At(ANGLE))):
        assert max(float(s.abs().max()) for s in slopes(objective, roles, batch, key)) < 1e-12
    assert float(slopes(sds(At(ANGLE)), roles, batch, key)[0].abs().max()) > 0.01


def duel_of_matrices(turned: bool) -> tuple[dict[str, Any], list[Tensor]]:
    process, covariance = unit_process(), rotated((0.3, 0.6, 1.1), turned)
    mean = torch.tensor([0.4, -0.2, 0.1], dtype=torch.float64)
    student = MatrixStudent(process, rotated((0.7, 0.9, 0.5), turned), torch.tensor([0.1, 0.2, -0.3]))
    roles = {
        "teacher": CovarianceTeacher(process, covariance, mean),
        "student": student,
        "fake": MatrixFake(process, student),
    }
    noised = lambda c: 0.64 * c + 0.36 * torch.eye(3, dtype=torch.float64)  # noqa: E731
    p = torch.distributions.MultivariateNormal(0.8 * mean, noised(covariance))
    q = torch.distributions.MultivariateNormal(0.8 * student.shift, noised(student.matrix @ student.matrix.T))
    value = torch.distributions.kl_divergence(q, p)
    return roles, list(torch.autograd.grad(value, list(student.parameters())))


def slopes(objective: Any, roles: Any, batch: Batch, key: Key) -> list[Tensor]:
    total = student_loss(objective, roles, batch, key).total
    return list(torch.autograd.grad(total, list(roles["student"].parameters())))


def test_matching_a_mixture_is_the_gradient_of_the_divergence_on_a_grid() -> None:
    process = unit_process()
    weights, means, stds = (
        torch.tensor(v, dtype=torch.float64) for v in ([0.3, 0.7], [[-1.0], [0.8]], [0.5, 0.4])
    )
    student = LinearStudent(process, 0.9, -0.4)
    roles = {
        "teacher": MixtureTeacher(process, weights, means, stds),
        "student": student,
        "fake": LinearFake(process, student),
    }
    batch, key, mass = hermite()
    objective = dmd(At(ANGLE), weight=lambda p, t: score(p, t) * mass, normalize=False)
    found = linear_gradient(objective, roles, batch, key)
    x = torch.linspace(-9, 9, 9_001, dtype=torch.float64).unsqueeze(1)
    each = torch.distributions.Normal(0.8 * means.T, (0.64 * stds**2 + 0.36).sqrt()).log_prob(x)
    log_p = torch.logsumexp(weights.log() + each, 1)
    spread = (0.64 * student.gain**2 + 0.36).sqrt()
    log_q = torch.distributions.Normal(0.8 * student.shift, spread).log_prob(x.squeeze(1))
    value = torch.trapezoid(log_q.exp() * (log_q - log_p), x.squeeze(1))
    exact = [float(v) for v in torch.autograd.grad(value, [student.gain, student.shift])]
    assert found == pytest.approx(exact, abs=1e-8)
    assert max(map(abs, exact)) > 0.1


@pytest.mark.parametrize("name", ["dmd", "sds", "dmd with a tilt"])
def test_a_sum_over_the_event_is_the_mean_times_its_size(name: str) -> None:
    case = CASES[name]
    roles = case.roles()
    mean = of_student(case, roles)
    for role in roles.values():
        if hasattr(role, "process"):
            role.process = replace(role.process, geometry=Euclidean("sum"))
    # 4 of 6 positions are real, each of two numbers
    for a, b in zip(of_student(case, roles), mean, strict=True):
        assert torch.allclose(a, 8 * b, rtol=1e-10)


def of_student(case: Any, roles: Any) -> list[Tensor]:
    phase = next(p for p in case.objective.phases(0) if p.name == "student")
    grant(roles, phase)
    case.objective.loss(phase, roles, case.batch(), Step(0, 10, Key(5))).total.backward()
    return [p.grad.clone() for p in roles["student"].parameters()]


# --- noised data in place of the roll -----------------------------------------------------------------------------


class Affine(nn.Module):
    """The map of a one-step student with the right spread, for data N(0, .6^2) from noise N(0, 10^2)."""

    def __init__(self, spread: float) -> None:
        super().__init__()
        self.spread = nn.Parameter(torch.tensor(spread, dtype=torch.float64))

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        return self.spread * x


def inputs_of_the_second_step(spread: float) -> tuple[Tensor, Tensor]:
    """What the second step sees in its own roll and from data; all of noise, data and fresh noise are +-1."""
    grid = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    z, n = (v.reshape(-1, 1) for v in torch.meshgrid(grid, grid, indexing="ij"))
    # network_input scales x_t at sigma 10 to unit variance, so that the answer is spread z.
    process = edm(sigma_max=10.0, sigma_data=0.6)
    scale = (10.0**2 + 0.6**2) ** 0.5 / 10.0
    student = FewStep(Affine(spread * scale), process, "x0", TIMES, "renoise", "random")
    batch = Batch(like=z, x=0.6 * z)
    key = next(k for k in map(Key, range(20)) if k.at("pick").integer(2) == 1)
    rolled = student.generate(batch, Step(0, 1, Listed(key.seed, values={"noise": z, "roll": n})))
    shown = one_step(student, batch, Step(0, 1, Listed(key.seed, values={"noise": n})))
    assert isinstance(student, Stepwise)
    return rolled.path[-1].x.detach(), shown.path[-1].x.detach()


def test_noised_data_are_the_students_own_states_once_it_is_right() -> None:
    rolled, shown = inputs_of_the_second_step(0.6)
    assert torch.allclose(rolled, shown, atol=1e-12)
    early, _ = inputs_of_the_second_step(0.3)
    assert float(early.square().mean()) == pytest.approx(0.09 + 1.0)
    assert float(shown.square().mean()) == pytest.approx(0.36 + 1.0)


def test_the_first_step_sees_pure_noise_even_when_shown_data() -> None:
    case = points(dmd2(NATURAL, adversary=None, inputs="data"))
    roles = case.roles()
    far = replace(case.batch(), x=1e6 * case.batch().x)
    key = next(k for k in map(Key, range(20)) if k.at("pick").integer(2) == 0)
    seen = [one_step(roles["student"], batch, Step(0, 1, key)).path[0].x for batch in (case.batch(), far)]
    assert torch.equal(*seen)
    assert case.objective.reads == {"x"}


# --- segments of a path -------------------------------------------------------------------------------------------


def test_a_student_says_where_each_of_its_steps_leads() -> None:
    case = CASES["tdm"]
    student = case.roles()["student"]
    ends = {
        int(s.cond.index[0]): float(s.until[0])
        for s in (student.generate(case.batch(), Step(0, 1, Key(i))) for i in range(8))
    }
    assert ends == {0: 1.0, 1: PROCESS.t_min}
    renoised = points(dmd(NATURAL), rule="renoise").roles()["student"]
    assert renoised.generate(case.batch(), Step(0, 1, Key(0))).until is None


def test_segments_without_a_deterministic_step_are_refused() -> None:
    case = points(tdm(NATURAL), rule="renoise")
    with pytest.raises(ValueError, match="ddim"):
        student_loss(case.objective, case.roles(), case.batch(), Key(0))
    with pytest.raises(ValueError, match="roll"):
        tdm(NATURAL, inputs="data")


def test_training_only_the_last_step_of_a_path_is_cautioned() -> None:
    for settings, expected in (({}, 1), ({"times": (10.0,)}, 0), ({"pick": "random"}, 0)):
        case = points(tdm(NATURAL), **{"pick": "last", **settings})
        said = list(case.objective.cautions(case.roles(), case.batch(), Step(0, 1, Key(0))))
        assert len(said) == expected


def test_the_clean_estimate_as_the_law_of_a_path_moves_a_student_that_is_right() -> None:
    """The naive fake, which believes what denoising the student's clean estimates teaches, has another fixed point."""
    process = edm(sigma_max=10.0)
    right = exact_gains(process)
    roles = path_roles(right)

    class Naive(type(roles["fake"])):  # type: ignore[misc]
        """E[x0_hat | x_tau] for x0_hat = g x_{t_k}: jointly Gaussian with x_tau."""

        def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
            exact = super().believe(xt, t, cond)
            k, gains = int(cond.index[0]), right
            start = torch.tensor(TIMES[0] ** 2 if k == 0 else 0.36 + TIMES[1] ** 2, dtype=torch.float64)
            end = (*TIMES[1:], process.t_min)[k] / TIMES[k]
            middle = end + (1 - end) * gains[k]
            gain = gains[k] * middle * start / (middle**2 * start + t**2 - (end * TIMES[k]) ** 2)
            return gain.unsqueeze(1) * xt + 0 * exact

    batch = Batch(like=torch.zeros(64, 1, dtype=torch.float64))
    objective = diff_instruct(At(1.0), corruption=Segment(rho=3.0), weight=one)

    def slope(fake: Any) -> float:
        made = {**path_roles(right), "fake": fake}
        sizes = []
        for i in range(4):
            total = student_loss(with_ends(objective), made, batch, Key(i)).total
            sizes.append(torch.autograd.grad(total, [made["student"].gains])[0].abs().max())
        return float(torch.stack(sizes).max())

    assert slope(roles["fake"]) < 1e-12
    assert slope(Naive(process, roles["student"])) > 1e-3


def with_ends(objective: Any) -> Any:
    """The toy student of paths says nothing of its ends; the corruption is told."""
    return replace(objective, corruption=replace(objective.corruption, ends=(*TIMES[1:], edm().t_min)))


def test_a_reward_is_a_role_of_its_objective() -> None:
    objective = dmd(NATURAL, reward=Reward(tilt=0.1))
    assert not objective.roles["reward"].trainable
    assert "reward" not in {name for phase in objective.phases(0) for name in phase.updates}
    assert isinstance(Height(), nn.Module)
