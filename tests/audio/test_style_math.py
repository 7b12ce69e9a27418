"""The mathematics of the style recipe: what one call can be, which teacher its pairs come from, what guidance does.

Codes are Gaussian, z ~ N(m, Lambda) with a full covariance, so that every answer is known.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fewstep.objectives import ODE, Pairs
from fewstep.objectives.pairs import AtScale
from fewstep.objectives.weights import edm as v_weight
from fewstep.processes import Uniform, cosine
from fewstep.protocol import Batch, Cond, Denoiser, Guided, Key, Step
from fewstep.samplers import FewStep, ddim
from fewstep_audio.style_diffusion.network import unprompted

SIZE = 3
MEAN = torch.tensor([0.5, -1.0, 0.3], dtype=torch.float64)
ROOT = torch.tensor([[1.1, 0.4, 0.0], [0.4, 0.6, -0.2], [0.0, -0.2, 0.9]], dtype=torch.float64)
COVARIANCE = ROOT @ ROOT
"""ROOT is its symmetric square root."""

PROCESS = cosine()


class GaussianVelocity(nn.Module):
    """The exact v of N(m, Lambda): alpha eps - sigma z under the posterior of both."""

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        alpha, sigma = torch.sigmoid(time).sqrt()[:, None], torch.sigmoid(-time).sqrt()[:, None]
        mean = MEAN if cond.data is None else cond.data
        total = alpha[..., None].square() * COVARIANCE + sigma[..., None].square() * torch.eye(SIZE)
        clean = mean + torch.linalg.solve(total, (x - alpha * mean)[..., None])[..., 0] @ COVARIANCE * alpha
        return (alpha * x - clean) / sigma


class Affine(nn.Module):
    """A network that can be any affine map of its input, and sees nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(SIZE, SIZE, dtype=torch.float64)

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        return self.map(x)


@pytest.fixture(scope="module")
def teacher() -> Denoiser:
    return Denoiser(GaussianVelocity(), PROCESS, "v")


def noises(count: int, seed: int = 0) -> Tensor:
    return Key(seed).at("noise").normal(torch.zeros(count, SIZE, dtype=torch.float64))


def test_a_step_at_the_noisy_end_is_minus_the_velocity() -> None:
    noise = noises(5)
    one = torch.ones(5, dtype=torch.float64)
    student = Denoiser(Affine(), PROCESS, "v")
    assert torch.allclose(student(noise, one).x0, -student.net(noise, one, Cond()), atol=1e-12)


def test_the_teachers_ode_is_the_affine_map_of_mean_and_root(teacher: Denoiser) -> None:
    noise = noises(64)
    end, _ = ODE(ddim, 512)(teacher, noise, Cond())
    assert torch.allclose(end, MEAN + noise @ ROOT, atol=2e-2)


def test_the_teacher_in_one_call_knows_nothing_but_the_mean(teacher: Denoiser) -> None:
    noise = noises(64)
    clean = teacher(noise, torch.ones(64, dtype=torch.float64)).x0
    assert torch.allclose(clean, MEAN.expand(64, SIZE), atol=1e-3)


def test_pair_regression_recovers_the_matrix_of_ten_thousand_pairs(teacher: Denoiser) -> None:
    """The oracle is least squares on the very same pairs, and the closed form m + eps Lambda^(1/2)."""
    noise = noises(10_000)
    target, _ = ODE(ddim, 256)(teacher, noise, Cond())
    student = FewStep(Affine(), PROCESS, "v", (1.0,))
    optimizer = torch.optim.LBFGS(student.parameters(), max_iter=60, line_search_fn="strong_wolfe")
    batch = Batch(noise, extra={"noise": noise, "target": target})

    def closure() -> Tensor:
        optimizer.zero_grad()
        phase = Pairs().phases(0)[0]
        total = Pairs().loss(phase, {"student": student}, batch, Step(0, 1, Key(0))).total
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    learned = -student.net.map.weight.T
    ones = torch.cat([noise, torch.ones(len(noise), 1, dtype=torch.float64)], 1)
    squares = torch.linalg.lstsq(ones, target).solution
    assert float((learned.detach() - squares[:SIZE]).norm() / squares[:SIZE].norm()) < 1e-4
    assert float((learned.detach() - ROOT).norm() / ROOT.norm()) < 0.02
    assert torch.allclose(-student.net.map.bias, MEAN, atol=0.02)


def test_pairs_that_do_not_belong_together_teach_the_mean_alone(teacher: Denoiser) -> None:
    noise = noises(10_000)
    target, _ = ODE(ddim, 64)(teacher, noise, Cond())
    mixed = target[Key(1).permutation(len(target))]
    assert float(torch.linalg.lstsq(noise, mixed - mixed.mean(0)).solution.norm() / ROOT.norm()) < 0.05


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5, 7.0])
def test_guidance_is_the_unprompted_velocity_plus_w_times_the_difference(
    teacher: Denoiser, scale: float
) -> None:
    prompts = Key(3).normal(torch.zeros(6, SIZE, dtype=torch.float64))
    hidden = torch.zeros_like(prompts)
    x, t = noises(6, 4), torch.linspace(0.2, 0.9, 6, dtype=torch.float64)
    pushed = Guided(teacher, scale, lambda cond: Cond(hidden))(x, t, Cond(prompts))
    plain, told = teacher(x, t, Cond(hidden)), teacher(x, t, Cond(prompts))
    assert torch.allclose(pushed.raw, plain.raw + scale * (told.raw - plain.raw))
    assert torch.allclose(pushed.x0, plain.x0 + scale * (told.x0 - plain.x0))
    if scale in (0.0, 1.0):
        assert torch.allclose(pushed.x0, (plain, told)[int(scale)].x0)


def test_every_row_may_have_its_own_scale(teacher: Denoiser) -> None:
    prompts, hidden = torch.ones(2, SIZE, dtype=torch.float64), torch.zeros(2, SIZE, dtype=torch.float64)
    x, t = noises(2, 5), torch.full((2,), 0.5, dtype=torch.float64)
    model = AtScale(Guided(teacher, 1.0, lambda cond: Cond(hidden)), torch.tensor([0.0, 1.0]))
    both = model(x, t, Cond(prompts)).x0
    assert torch.allclose(both[0], teacher(x, t, Cond(hidden)).x0[0])
    assert torch.allclose(both[1], teacher(x, t, Cond(prompts)).x0[1])


def test_guided_gaussians_move_towards_the_prompt_with_the_scale(teacher: Denoiser) -> None:
    """The mean of what the ODE gives is linear in w where both covariances are the same: w times the prompt's mean."""
    noise = noises(256)
    prompts = torch.tensor([1.0, 0.5, -0.5], dtype=torch.float64).expand(256, SIZE)
    guided = Guided(teacher, 1.0, lambda cond: Cond(torch.zeros_like(cond.data)))
    ends = [
        ODE(ddim, 64, guidance=scale)(guided, noise, Cond(prompts))[0].mean(0) for scale in (0.0, 1.0, 4.0)
    ]
    assert torch.allclose(ends[2] - ends[0], 4 * (ends[1] - ends[0]), atol=1e-6)
    assert torch.allclose(ends[1] - ends[0], prompts[0], atol=1e-3)


def test_the_weight_of_the_teacher_is_the_squared_error_of_the_velocity() -> None:
    t = Uniform(0.01, 1.0)((64,), Step(0, 1, Key(0)), Key(6))
    z, noise, wrong = noises(64, 7), noises(64, 8), noises(64, 9)
    xt = PROCESS.corrupt(z, noise, t)
    true = PROCESS.raw(z, xt, t, "v")
    other = PROCESS.raw(wrong, xt, t, "v")
    by_code = v_weight(PROCESS, t) * (z - wrong).square().mean(1)
    assert torch.allclose(by_code, (true - other).square().mean(1))


def test_a_condition_without_its_prompt_keeps_its_text() -> None:
    data = {"phones": torch.ones(2, 4), "prompt": torch.ones(2, 3), "told": torch.ones(2)}
    left = unprompted(Cond(data)).data
    assert not left["prompt"].any()
    assert not left["told"].any()
    assert torch.equal(left["phones"], data["phones"])
