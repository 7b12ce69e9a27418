"""The same inputs give the same numbers as nvidia-modelopt's fastgen losses; where they differ, the test says why.

Their losses are means over everything in the network's own output space, on rectified flow; ours are means per sample in
x0 units with a weight. The weight that turns one into the other is in each test.
"""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from objective_toys import At, student_loss
from torch import Tensor, nn

from fewstep.objectives import Adversary, Corrupted, dmd, weighted_nll
from fewstep.objectives.weights import snr
from fewstep.processes import LogNormal, flow, vp
from fewstep.protocol import Batch, Cond, Estimate, Euclidean, Key, Process, Sample, Step
from fewstep.testing.exact import Exact

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    losses = pytest.importorskip("modelopt.torch.fastgen.losses", reason="pip install nvidia-modelopt")
    flow_matching = pytest.importorskip("modelopt.torch.fastgen.flow_matching")
    fastgen = pytest.importorskip("modelopt.torch.fastgen.config")

SHAPE = (6, 3, 5)


def drawn(name: str) -> Tensor:
    return Key(3).at(name).normal(torch.zeros(SHAPE, dtype=torch.float64))


def times(low: float = 0.05, high: float = 0.95) -> Tensor:
    return torch.linspace(low, high, SHAPE[0], dtype=torch.float64)


@pytest.mark.parametrize("prediction", ["x0", "eps", "v", "flow"])
def test_denoising_losses_agree_in_every_output_space(prediction: str) -> None:
    """Squared errors of x0, eps, v and u are those of x0 times 1, SNR, SNR + 1 and 1 / t^2."""
    process: Any = vp() if prediction == "v" else flow()
    x0, eps, raw, t = drawn("x0"), drawn("eps"), drawn("raw"), times()
    xt = process.corrupt(x0, eps, t)
    theirs = losses.dsm_loss(
        prediction, raw, x0=x0, eps=eps, t=t, alpha_fn=process.alpha, sigma_fn=process.sigma
    )
    weight = {
        "x0": torch.ones_like(t),
        "eps": snr(process, t),
        "v": snr(process, t) + 1,
        "flow": 1 / t.square(),
    }[prediction]
    estimate = Estimate(process.x0(raw, xt, t, prediction))
    ours = weighted_nll(process.geometry, estimate, x0, weight).mean()
    assert float(ours) == pytest.approx(float(theirs), rel=1e-12)


class Line(Exact):
    """x0 = gain x_t + shift."""

    def __init__(self, process: Process, gain: float, shift: float) -> None:
        super().__init__(process)
        self.gain, self.shift = gain, shift
        self.seen: list[Tensor] = []

    def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        found = self.gain * xt + self.shift
        self.seen.append(found)
        return found


class Given(nn.Module):
    """Puts forward its own parameter."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = nn.Parameter(x)

    def generate(self, batch: Batch, step: Step, **asked: Any) -> Sample:
        return Sample(self.x)

    sample = generate


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_direction_of_distribution_matching_is_theirs(reduction: Any) -> None:
    """Gradients with respect to the sample agree to 1e-5: they add 1e-6 to the normalizer, ours is at least 1e-5.

    With sums over events instead of means, ours is larger by the number of elements of an event.
    """
    process = flow(geometry=Euclidean(reduction))
    roles = {
        "teacher": Line(process, 0.7, 0.1),
        "student": Given(drawn("x0")),
        "fake": Line(process, 0.4, -0.2),
    }
    x: Tensor = roles["student"].x  # type: ignore[assignment]
    objective = dmd(At(0.6))
    (ours,) = torch.autograd.grad(student_loss(objective, roles, Batch(like=x.detach()), Key(5)).total, [x])
    theirs_of = losses.vsd_loss(x, roles["teacher"].seen[0], roles["fake"].seen[0])
    (theirs,) = torch.autograd.grad(theirs_of, [x])
    factor = SHAPE[1] * SHAPE[2] if reduction == "sum" else 1
    assert torch.allclose(ours, factor * theirs, rtol=1e-5)
    assert not torch.allclose(ours, 1.01 * factor * theirs, rtol=1e-5)


def test_conversions_of_rectified_flow_agree() -> None:
    process = flow()
    x0, eps, t = drawn("x0"), drawn("eps"), times()
    xt = process.corrupt(x0, eps, t)
    assert torch.allclose(xt, flow_matching.add_noise(x0, eps, t), atol=1e-14)
    raw = drawn("raw")
    assert torch.allclose(
        process.x0(raw, xt, t, "flow"), flow_matching.pred_x0_from_flow(raw, xt, t), atol=1e-14
    )
    assert torch.allclose(
        process.x0(raw, xt, t, "eps"), flow_matching.pred_noise_to_pred_x0(raw, xt, t), atol=1e-12
    )
    assert torch.allclose(process.eps(xt, Estimate(raw), t), flow_matching.x0_to_eps(raw, xt, t), atol=1e-12)
    assert torch.allclose(
        process.velocity(xt, Estimate(raw), t), flow_matching.x0_to_flow(raw, xt, t), atol=1e-12
    )


def test_truncated_lognormal_times_have_their_law() -> None:
    """Quartiles of 20,000 draws; the generators differ, so the law is compared and not the numbers."""
    low, high = 0.002, 0.999
    config = fastgen.SampleTimestepConfig(
        time_dist_type="lognormal", min_t=low, max_t=high, p_mean=-1.2, p_std=1.2
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = flow_matching.sample_timesteps(
            20_000, config, device=torch.device("cpu"), dtype=torch.float64
        )
    ours = LogNormal(-1.2, 1.2, low, high)((20_000,), Step(0, 1, Key(0)), Key(1))
    quarters = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    assert torch.allclose(ours.quantile(quarters), theirs.quantile(quarters), rtol=0.05)
    assert not torch.allclose(
        LogNormal(-0.9, 1.2, low, high)((20_000,), Step(0, 1, Key(0)), Key(1)).quantile(quarters),
        theirs.quantile(quarters),
        rtol=0.05,
    )


class Logits(nn.Module):
    """One logit per sample: a weighted sum of its numbers."""

    def forward(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        return (xt * torch.linspace(-1, 1, SHAPE[1] * SHAPE[2], dtype=xt.dtype).reshape(SHAPE[1:])).sum(
            (1, 2)
        )


def test_adversarial_losses_are_theirs() -> None:
    """The generator's is the same; the discriminator's is half of theirs, which adds both classes; R1 is the same."""
    process, adversary, disc = flow(), Adversary(r1=0.7, r1_noise=0.1), Logits()
    clean, fake, t = drawn("x0"), drawn("fake"), times()
    step, batch = Step(0, 1, Key(9)), Batch(like=clean, x=clean)
    seen = Corrupted(fake, t, fake)
    of_fake = disc(fake, t, Cond())
    assert float(adversary.student_loss(of_fake).mean()) == pytest.approx(
        float(losses.gan_gen_loss(of_fake[:, None])), rel=1e-12
    )
    roles = {"disc": Recorded(disc)}
    total, logs = adversary.disc_loss(roles, process, seen, of_fake, Sample(fake), batch, step)
    real, near = roles["disc"].seen
    assert float(logs["disc"]) == pytest.approx(
        float(losses.gan_disc_loss(real[:, None], of_fake[:, None])) / 2, rel=1e-12
    )
    assert float(logs["r1"]) == pytest.approx(float(losses.r1_loss(real, near)), rel=1e-12)
    assert float(total) == pytest.approx(float(logs["disc"] + 0.7 * logs["r1"]), rel=1e-12)


class Recorded(nn.Module):
    """A network whose answers are kept."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.seen = net, []

    def forward(self, *given: Any) -> Tensor:
        self.seen.append(self.net(*given))
        return self.seen[-1]
