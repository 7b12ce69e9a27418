"""The closed-form teachers are what they claim to be."""

from __future__ import annotations

import math

import numpy
import pytest
import torch
from torch import Tensor

from fewstep.processes import Gaussian, Masked, edm, flow, trig, vp
from fewstep.protocol import Batch, Centered, Cond, Estimate, Key
from fewstep.samplers import FewStepTokens
from fewstep.testing.analytic import (
    CovarianceTeacher,
    GaussianTeacher,
    MarkovTeacher,
    MixtureTeacher,
    ProjectedTeacher,
    RouseTeacher,
    ar1_covariance,
    divergence,
    entropy,
    project_points,
    ring,
    rouse_modes,
    sampler_law,
    sequence_law,
    stationary_law,
    total_correlation,
)

PROCESSES = {"vp": vp(), "edm": edm(), "flow": flow(), "trig": trig()}

CHAIN = torch.as_tensor(numpy.random.default_rng(0).dirichlet([0.3] * 4, size=4))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return Key(seed).normal(torch.zeros(shape, dtype=torch.float64))


def times(process: Gaussian, count: int) -> Tensor:
    share = torch.linspace(0.3, 0.7, count, dtype=torch.float64)
    return process.t_min + share * (min(process.t_max, 5.0) - process.t_min)


@pytest.mark.parametrize("name", PROCESSES)
def test_the_flow_map_moves_with_the_teachers_velocity(name: str) -> None:
    process = PROCESSES[name]
    teacher = GaussianTeacher(process, 0.7, 0.6)
    t = times(process, 5).requires_grad_()
    start = times(process, 5) * 1.2
    x = draw(5, 1)
    slope = torch.autograd.grad(teacher.flow_map(x, start, t).sum(), t)[0]
    here = teacher.flow_map(x, start, t).detach()
    velocity = process.velocity(here, teacher(here, t.detach()), t.detach())
    assert torch.allclose(slope, velocity.squeeze(1), atol=1e-9)


def test_one_step_from_the_prior_has_the_closed_form_bias() -> None:
    process = edm()
    teacher = GaussianTeacher(process, 0.7, 0.6)
    t, end = (torch.tensor([v], dtype=torch.float64) for v in (80.0, 1e-12))
    landed = teacher.flow_map(torch.zeros(1, 1, dtype=torch.float64), t, end)
    assert float(landed) == pytest.approx(0.7 * (1 - 0.6 / math.sqrt(0.36 + 6400)), abs=1e-12)


def test_diagonal_and_full_covariances_agree() -> None:
    process, std = vp(), torch.tensor([0.2, 1.0, 2.0], dtype=torch.float64)
    x, t = draw(4, 3), times(process, 4)
    diagonal = GaussianTeacher(process, 0.3, std)(x, t).x0
    full = CovarianceTeacher(process, torch.diag(std**2), 0.3)(x, t).x0
    assert torch.allclose(diagonal, full, atol=1e-13)


def test_a_clip_with_a_time_per_frame_is_the_joint_posterior_mean() -> None:
    process = flow()
    covariance = ar1_covariance(4, 0.8)
    teacher = CovarianceTeacher(process, covariance)
    t = torch.tensor([[0.1, 0.4, 0.7, 0.9]], dtype=torch.float64)
    x = draw(1, 4, 2)
    alpha, sigma = (1 - t[0]).diag(), t[0].diag()
    gain = covariance @ alpha @ torch.linalg.inv(alpha @ covariance @ alpha + sigma @ sigma)
    assert torch.allclose(teacher(x, t).x0[0], gain @ x[0], atol=1e-12)


def test_a_masked_clip_equals_the_shorter_clip() -> None:
    process = flow()
    teacher = CovarianceTeacher(process, ar1_covariance(6, 0.7))
    mask = torch.tensor([1, 1, 1, 1, 0, 0], dtype=torch.bool).reshape(1, 6, 1)
    x, t = draw(1, 6, 2) * mask, torch.tensor([0.5], dtype=torch.float64)
    padded = teacher(x, t, Cond(mask=mask)).x0
    assert torch.allclose(padded[:, :4], teacher(x[:, :4], t).x0, atol=1e-14)
    assert float(padded[:, 4:].abs().max()) == 0


def test_a_mixture_of_one_component_is_a_gaussian_and_its_estimate_is_its_score() -> None:
    process = edm()
    x, t = draw(5, 2), times(process, 5)
    single = MixtureTeacher(
        process, torch.ones(1), torch.full((1, 2), 0.7), torch.tensor([0.6], dtype=torch.float64)
    )
    reference = GaussianTeacher(process, torch.tensor(0.7).double(), 0.6)(x, t).x0
    assert torch.allclose(single(x, t).x0, reference, atol=1e-7)
    teacher = ring(process)
    x.requires_grad_()
    var = teacher.stds**2 + t[:, None] ** 2
    log = torch.logsumexp(
        teacher.weights.log() - (x[:, None] - teacher.means).square().sum(-1) / (2 * var) - var.log(), 1
    )
    score = torch.autograd.grad(log.sum(), x)[0]
    assert torch.allclose(teacher(x, t).x0, x + t[:, None] ** 2 * score, atol=1e-9)


def test_rouse_modes_are_the_inverse_of_the_springs() -> None:
    values, vectors = rouse_modes(5, bond=2.0, dimensions=3)
    springs = torch.diag(torch.tensor([1.0, 2.0, 2.0, 2.0, 1.0], dtype=torch.float64))
    springs = springs - torch.diag(torch.ones(4), 1) - torch.diag(torch.ones(4), -1)
    covariance = vectors @ values.diag() @ vectors.T
    assert torch.allclose(covariance, 4 / 3 * torch.linalg.pinv(springs), atol=1e-12)
    bonds = covariance[1:, 1:].diag() + covariance[:-1, :-1].diag() - 2 * covariance.diag(1)
    assert torch.allclose(3 * bonds, torch.full((4,), 4.0).double(), atol=1e-12)


def test_a_padded_chain_equals_the_chain_alone() -> None:
    process = edm(geometry=Centered())
    teacher = RouseTeacher(process)
    mask = (torch.arange(16) < torch.tensor([[12], [16]])).unsqueeze(-1)
    batch = Batch(like=torch.zeros(2, 16, 3, dtype=torch.float64), cond=Cond(mask=mask))
    t = torch.tensor([0.7, 0.9], dtype=torch.float64)
    xt = process.corrupt(None, process.on(mask).noise(batch, Key(3)), t)
    padded = teacher(xt, t, batch.cond).x0
    alone = teacher(xt[:1, :12], t[:1]).x0
    assert float((padded[:1, :12] - alone).abs().max()) <= 1e-15
    assert float(padded[:1, 12:].abs().max()) == 0
    assert float(padded.sum(1).abs().max()) < 1e-13


def test_views_are_believed_around_the_projected_points() -> None:
    process = edm()
    points, camera = draw(4, 3), draw(2, 2, 3, seed=1)
    teacher = ProjectedTeacher(process, points, 0.1)
    t = torch.full((2,), 50.0, dtype=torch.float64)
    seen = teacher(torch.zeros(2, 4, 2, dtype=torch.float64), t, Cond(camera)).x0
    assert torch.allclose(seen, project_points(points, camera), atol=1e-4)


@pytest.mark.parametrize(
    ("steps", "forward", "reverse", "spread"),
    [
        (1, 1.84217, 7.0448, 8.1565),
        (2, 0.66712, 2.8661, 7.7659),
        (4, 0.27676, 1.1959, 7.2458),
        (8, 0.12108, 0.5022, 6.8679),
    ],
)
def test_the_exact_law_of_the_sampler_has_the_quoted_divergences(
    steps: int, forward: float, reverse: float, spread: float
) -> None:
    teacher = MarkovTeacher(Masked(4), CHAIN)
    p, q = sequence_law(teacher, 6), sampler_law(teacher, 6, steps)
    assert float(q.sum()) == pytest.approx(1, abs=1e-12)
    assert divergence(p, q) == pytest.approx(forward, abs=1e-5)
    assert divergence(q, p) == pytest.approx(reverse, abs=1e-4)
    assert entropy(q) == pytest.approx(spread, abs=1e-4)


def test_one_factorized_step_costs_the_total_correlation() -> None:
    teacher = MarkovTeacher(Masked(4), CHAIN)
    p = sequence_law(teacher, 6)
    cost = total_correlation(p, 4, 6)
    assert entropy(p) == pytest.approx(6.31428, abs=1e-5)
    assert cost == pytest.approx(1.84217, abs=1e-5)
    assert divergence(p, sampler_law(teacher, 6, 1)) == pytest.approx(cost, abs=1e-10)
    pair = sequence_law(teacher, 2)
    assert cost == pytest.approx(5 * total_correlation(pair, 4, 2), abs=1e-10)


def test_a_chain_keeps_its_stationary_law_and_that_of_two_states_is_known() -> None:
    a, b = 1e-9, 0.3
    two = stationary_law(torch.tensor([[1 - a, a], [b, 1 - b]], dtype=torch.float64))
    # Of the rare state too, to the last digits: nothing is subtracted.
    torch.testing.assert_close(two, torch.tensor([b, a], dtype=torch.float64) / (a + b), rtol=1e-7, atol=0)
    law = stationary_law(CHAIN)
    torch.testing.assert_close(law @ CHAIN, law, rtol=1e-14, atol=0)
    assert float(law.sum()) == pytest.approx(1, abs=1e-15)


def test_messages_give_the_posterior_of_the_joint_law() -> None:
    teacher = MarkovTeacher(Masked(4), CHAIN)
    joint = sequence_law(teacher, 3).reshape(4, 4, 4)
    xt = torch.tensor([[4, 2, 4]])
    found = torch.softmax(teacher(xt, torch.ones(1).double()).x0, -1)[0]
    conditional = joint[:, 2, :] / joint[:, 2, :].sum()
    assert torch.allclose(found[0], conditional.sum(1), atol=1e-12)
    assert torch.allclose(found[2], conditional.sum(0), atol=1e-12)
    assert found[1].tolist() == [0, 0, 1, 0]


class Tokens(FewStepTokens):
    """Draws with the exact posterior."""

    def __init__(self, steps: int) -> None:
        super().__init__(torch.nn.Identity(), Masked(4), "logits", steps)
        self.teacher = MarkovTeacher(Masked(4), CHAIN)

    def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: object) -> Estimate:
        return self.teacher(xt, t, cond)


def test_ancestral_samples_follow_the_exact_law_and_not_that_of_other_steps() -> None:
    from scipy.stats import chi2

    from fewstep.protocol import Step

    count, length = 40_000, 4
    batch = Batch(like=torch.zeros(count, length, dtype=torch.int64))
    x = Tokens(2).sample(batch, Step.inference(Key(11))).x
    cells = torch.bincount((x * 4 ** torch.arange(3, -1, -1)).sum(1), minlength=256).double()

    def p_value(steps: int) -> float:
        expected = count * sampler_law(Tokens(2), length, steps)
        big = expected >= 5
        rest = torch.stack([cells[~big].sum(), expected[~big].sum()])
        statistic = ((cells[big] - expected[big]) ** 2 / expected[big]).sum() + (
            rest[0] - rest[1]
        ) ** 2 / rest[1].clamp(min=1e-9)
        return float(chi2.sf(float(statistic), int(big.sum())))

    assert p_value(2) > 1e-3
    assert p_value(1) < 1e-6
