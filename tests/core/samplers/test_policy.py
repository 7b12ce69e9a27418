"""What a few-step policy draws has the probability that it says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from fewstep.processes import Gaussian, edm, flow, vp
from fewstep.protocol import Batch, Cond, Estimate, Euclidean, Key, Step, Stochastic
from fewstep.samplers import FewStep, FewStepPolicy
from fewstep.testing.analytic import GaussianTeacher

BATCH = Batch(like=torch.zeros(5, 4, 3, dtype=torch.float64))
STEP = Step(0, 10, Key(1))


class Shrunk(nn.Module):
    """A network with one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        return self.gain * x


def policy(process: Gaussian, times: tuple[float, ...], rule: Any = "renoise") -> FewStepPolicy:
    return FewStepPolicy(Shrunk(), process, "x0", times, rule)


def sums(**settings: Any) -> Gaussian:
    return edm(sigma_max=10.0, geometry=Euclidean("sum"), **settings)


def test_a_renoised_path_has_the_probability_of_its_normal_draws() -> None:
    student = policy(sums(), (10.0, 2.0, 0.5))
    sample = student.generate(BATCH, STEP)
    assert sample.logp is not None
    for i in range(2):
        here, there = sample.path[i], sample.path[i + 1]
        exact = Normal(student(here.x, here.t).x0, student.times[i + 1]).log_prob(there.x).flatten(1).sum(1)
        assert torch.allclose(sample.logp[:, i], exact, rtol=1e-12)


@pytest.mark.parametrize("process", [vp(geometry=Euclidean("sum")), flow(geometry=Euclidean("sum"))])
def test_a_posterior_path_has_the_probability_of_the_bridge(process: Gaussian) -> None:
    """q(x_s | x_t, x0) by completing the square of q(x_t | x_s) q(x_s | x0)."""
    student = policy(process, (0.9, 0.4), "posterior")
    sample = student.generate(BATCH, STEP)
    here, there = sample.path
    clean = student(here.x, here.t).x0
    (a_t, s_t), (a_s, s_s) = (
        (float(process.alpha(u)[0]), float(process.sigma(u)[0])) for u in (here.t, there.t)
    )
    ratio = a_t / a_s
    fresh = s_t**2 - ratio**2 * s_s**2
    variance = 1 / (ratio**2 / fresh + 1 / s_s**2)
    mean = variance * (ratio * here.x / fresh + a_s * clean / s_s**2)
    exact = Normal(mean, variance**0.5).log_prob(there.x).flatten(1).sum(1)
    assert torch.allclose(sample.logp[:, 0], exact, rtol=1e-9)  # type: ignore[index]


def test_a_mean_over_elements_is_the_sum_over_their_number_and_padding_has_no_say() -> None:
    mask = torch.tensor([1, 1, 1, 0], dtype=torch.bool).reshape(1, 4, 1).expand(5, 4, 1)
    batch = Batch(like=BATCH.like, cond=Cond(mask=mask))
    total, mean = (
        policy(edm(sigma_max=10.0, geometry=Euclidean(reduction)), (10.0, 1.0)).generate(batch, STEP).logp
        for reduction in ("sum", "mean")
    )
    assert torch.allclose(total, 9 * mean)  # type: ignore[operator]
    full = policy(sums(), (10.0, 1.0)).generate(BATCH, STEP).logp
    assert not torch.allclose(full, total)  # type: ignore[arg-type]


def test_the_probability_of_a_given_path_is_that_of_its_own_draw_and_carries_a_gradient() -> None:
    student = policy(edm(sigma_max=10.0), (10.0, 2.0, 0.5))
    sample = student.generate(BATCH, STEP)
    again = student.logp(sample, BATCH)
    assert torch.equal(again, sample.logp)  # type: ignore[arg-type]
    slopes = [
        torch.autograd.grad(logp.mean(), [student.net.gain])[0]
        for logp in (again, sample.logp)  # type: ignore[union-attr]
    ]
    assert slopes[0] == slopes[1]
    assert float(slopes[0]) != 0.0
    assert not sample.x.requires_grad


def test_the_score_function_has_mean_zero() -> None:
    """E grad log p = 0 for what the policy draws itself; the control draws from another policy."""
    batch = Batch(like=torch.zeros(40_000, 1, dtype=torch.float64))
    process = edm(sigma_max=2.0)
    own, other = policy(process, (2.0, 1.0)), policy(process, (2.0, 1.0))
    other.net.gain.data.fill_(0.9)
    slopes = [
        torch.autograd.grad(own.logp(student.generate(batch, STEP), batch).mean(), [own.net.gain])[0]
        for student in (own, other)
    ]
    assert abs(float(slopes[0])) < 0.05
    assert float(slopes[1]) > 0.3


def test_training_and_finished_samples_are_the_same_roll() -> None:
    student = policy(edm(sigma_max=10.0), (10.0, 2.0, 0.5))
    mapped = FewStep(student.net, student.process, "x0", student.times)
    with torch.no_grad():
        finished = mapped.sample(BATCH, STEP)
    for sample in (student.generate(BATCH, STEP), student.sample(BATCH, STEP)):
        assert torch.equal(sample.x, finished.x)
        assert all(torch.equal(a.x, b.x) for a, b in zip(sample.path, finished.path, strict=True))


def test_only_a_policy_says_that_it_draws() -> None:
    process = edm(sigma_max=10.0)
    assert isinstance(policy(process, (10.0, 1.0)), Stochastic)
    assert not isinstance(FewStep(Shrunk(), process, "x0", (10.0, 1.0)), Stochastic)


@pytest.mark.parametrize(("times", "rule"), [((10.0,), "renoise"), ((10.0, 1.0), "ddim")])
def test_a_student_without_a_random_step_is_no_policy(times: tuple[float, ...], rule: Any) -> None:
    with pytest.raises(ValueError, match="draws nothing"):
        policy(edm(sigma_max=10.0), times, rule)


def test_a_roll_of_one_step_is_refused() -> None:
    batch = Batch(like=torch.zeros(2, 1, dtype=torch.float64))
    with pytest.raises(ValueError, match="draws nothing"):
        policy(edm(sigma_max=10.0), (10.0, 1.0)).generate(batch, Step(0, 1, Key(0)), steps=1)


def test_an_exact_policy_draws_the_law_of_the_data() -> None:
    """Renoising exact beliefs of a narrow law from far away: its marginal at the second time is known."""
    process = edm(sigma_max=100.0)

    class Known(FewStepPolicy):
        def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
            return GaussianTeacher(process, 0.7, 0.6)(xt, t)

    student = Known(nn.Identity(), process, "x0", (100.0, 0.5))
    batch = Batch(like=torch.zeros(40_000, 1, dtype=torch.float64))
    state = student.generate(batch, STEP).path[1]
    believed = 0.36 / (0.36 + 1e4) * 100
    assert float(state.x.mean()) == pytest.approx(0.7, abs=0.01)
    assert float(state.x.std()) == pytest.approx((believed**2 + 0.25) ** 0.5, abs=0.01)
