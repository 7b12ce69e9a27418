"""ProDiff in closed form: its chain, its rounds of two steps in one, and what its released sampler makes of them.

Data are Gaussian, N(0, lambda) in every direction, so that a perfect teacher, a student that has learned perfectly and
every sampler are products of numbers. Std ratio: standard deviation of the samples over that of the data.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from fewstep.objectives import halved
from fewstep.objectives.progressive import landing
from fewstep.processes import Gaussian, cosine, edm
from fewstep.protocol import Batch, Cond, Denoiser, Estimate, Key, Step
from fewstep.samplers import student_times
from fewstep.testing.analytic import GaussianTeacher
from fewstep_audio.prodiff.loss import CleanPrediction, Likeness, ssim
from fewstep_audio.prodiff.process import vpsde
from fewstep_audio.prodiff.recipe import walk

LAMBDAS = torch.tensor([1e-3, 1e-2, 5e-2, 2.5e-1, 1.0], dtype=torch.float64)
"""Variances of the data, from the narrowest direction to the widest."""


def at(*times: float) -> list[Tensor]:
    return [torch.tensor([t], dtype=torch.float64) for t in times]


def alphas(process: Gaussian, levels: int) -> tuple[Tensor, Tensor]:
    index = torch.arange(levels, dtype=torch.float64)
    return process.alpha(index), process.sigma(index)


def gains(process: Gaussian, t: Tensor) -> Tensor:
    """E[x0 | x_t] / x_t for every lambda."""
    alpha, sigma = process.alpha(t), process.sigma(t)
    return alpha * LAMBDAS / (alpha**2 * LAMBDAS + sigma**2)


def teacher_of(process: Gaussian) -> GaussianTeacher:
    return GaussianTeacher(process, 0.0, LAMBDAS.sqrt())


def walked(process: Gaussian, times: Sequence[float], x: Tensor | None = None) -> Tensor:
    """Where a perfect teacher's calls at ``times`` lead, ending clean; from one standard deviation of noise."""
    grid = torch.tensor([*times, process.t_min], dtype=torch.float64)
    start = process.sigma(grid[:1]) * torch.ones(1, len(LAMBDAS), dtype=torch.float64) if x is None else x
    *_, last = walk(teacher_of(process), start, grid, Cond())
    return last.x[0]


def distilled(process: Gaussian, times: Sequence[float], rounds: int) -> list[Tensor]:
    """Gains of a student of ``times`` that has learned its rounds perfectly: x~ / x_t of each step."""
    if rounds == 0:
        return [gains(process, t) for t in at(*times)]
    half = halved(process, times)
    before = distilled(process, half, rounds - 1)
    grid = at(*half, process.t_min)
    found = []
    for i in range(len(times)):
        x = torch.ones(1, len(LAMBDAS), dtype=torch.float64)
        (t, u, s), (first, second) = grid[2 * i : 2 * i + 3], before[2 * i : 2 * i + 2]
        y = process.jump(x, Estimate(first * x), t, u)
        last = i == len(times) - 1
        found.append(
            (second * y if last else landing(process, x, process.jump(y, Estimate(second * y), u, s), t, s))[
                0
            ]
        )
    return found


def rolled(process: Gaussian, times: Sequence[float], learned: Sequence[Tensor]) -> Tensor:
    """A student's DDIM jumps from one standard deviation of noise; the last call's estimate is the sample."""
    x = process.sigma(at(times[0])[0]) * torch.ones(1, len(LAMBDAS), dtype=torch.float64)
    for i, (t, s) in enumerate(itertools.pairwise(at(*times))):
        x = process.jump(x, Estimate(learned[i] * x), t, s)
    return (learned[-1] * x)[0]


# The chain


def test_the_four_step_chain_has_the_levels_of_the_released_code() -> None:
    alpha, sigma = alphas(vpsde(4), 5)
    assert alpha.tolist() == pytest.approx([0.6643, 0.1987, 0.02676, 0.00162, 0.00004], abs=5e-5)
    assert sigma.tolist() == pytest.approx([0.7475, 0.9801, 0.9996, 1.0, 1.0], abs=5e-5)
    assert student_times(vpsde(4), 4) == (3.0, 2.0, 1.0, 0.0)
    assert student_times(vpsde(4), 2) == (3.0, 1.0)


def test_a_chain_of_any_length_ends_clean_and_is_halved_level_by_level() -> None:
    process = vpsde(16)
    assert process.alpha(at(-1)[0]).item() == 1.0
    assert process.sigma(at(-1)[0]).item() == 0.0
    assert halved(process, student_times(process, 8)) == student_times(process, 16)
    assert process.prediction("x0", at(3)[0])[0].item() == 0.0


@pytest.mark.parametrize("steps", [4, 16])
def test_one_jump_of_the_chain_is_one_step_of_diffusers_ddim(steps: int) -> None:
    alpha_bars = torch.tensor(vpsde(steps).law.alpha_bars, dtype=torch.float64)  # type: ignore[attr-defined]
    betas = 1 - alpha_bars / torch.cat([torch.ones(1, dtype=torch.float64), alpha_bars[:-1]])
    theirs = DDIMScheduler(
        num_train_timesteps=steps + 1,
        trained_betas=betas.numpy(),
        prediction_type="sample",
        clip_sample=False,
        set_alpha_to_one=True,
    )
    theirs.alphas_cumprod = alpha_bars
    theirs.num_inference_steps = steps + 1  # strides of one level
    x, x0 = (Key(1).at(name).normal(torch.zeros(1, 6, dtype=torch.float64)) for name in ("x", "x0"))
    for level in range(steps, -1, -1):
        t, s = at(level, level - 1)
        ours = vpsde(steps).jump(x, Estimate(x0), t, s)
        assert torch.allclose(ours, theirs.step(x0, level, x).prev_sample, atol=1e-7)


# One round


@pytest.mark.parametrize(("t", "u", "s"), [(4, 3, 2), (3, 2, 1), (2, 1, 0)])
def test_one_student_step_with_the_distilled_estimate_equals_two_teacher_steps(
    t: int, u: int, s: int
) -> None:
    process, (t_, u_, s_) = vpsde(4), at(t, u, s)
    x, first, second = (
        Key(2).at(name).normal(torch.zeros(1, 400, dtype=torch.float64)) for name in ("x", "first", "second")
    )
    two = process.jump(process.jump(x, Estimate(first), t_, u_), Estimate(second), u_, s_)
    one = process.jump(x, Estimate(landing(process, x, two, t_, s_)), t_, s_)
    assert (one - two).abs().max() < 1e-12


def test_the_distilled_estimate_is_a_weighted_mean_of_the_two_that_the_teacher_gave() -> None:
    # x~ = (g1 p1 + k g0 p0) / (g1 + k g0), all weights positive: no large numbers cancel, however fine the schedule.
    process, (t, u, s) = vpsde(16), at(12, 11, 10)
    first, second = torch.full((1, 1), 2.0, dtype=torch.float64), torch.full((1, 1), 3.0, dtype=torch.float64)
    gain = [
        process.alpha(b) - process.sigma(b) / process.sigma(a) * process.alpha(a) for a, b in ((t, u), (u, s))
    ]
    kept = process.sigma(s) / process.sigma(u) * gain[0]
    assert bool((gain[0] > 0) & (gain[1] > 0))
    mean = (gain[1] * second + kept * first) / (gain[1] + kept)
    x = torch.full((1, 1), 0.7, dtype=torch.float64)
    two = process.jump(process.jump(x, Estimate(first), t, u), Estimate(second), u, s)
    assert torch.allclose(landing(process, x, two, t, s), mean, atol=1e-12)
    assert 2.0 < mean.item() < 3.0


def test_targets_stay_accurate_in_single_precision_where_hardly_any_signal_is_left() -> None:
    # Between the two noisiest levels of 17 the denominator is 1e-4: float32 would lose four of its seven digits.
    process, (t, s) = vpsde(16), at(15, 14)
    x, truth = (Key(3).at(name).normal(torch.zeros(1, 4000)) for name in ("x", "truth"))
    there = process.jump(x.double(), Estimate(truth.double()), t, s)
    found = landing(process, x, there, t, s)
    assert found.dtype == torch.float32
    assert (found - truth).abs().max() < 1e-6


# Standard deviations


def test_four_steps_return_a_mean_that_is_sharpened_a_little_and_no_samples() -> None:
    ratio = walked(vpsde(4), (3, 2, 1, 0)) / LAMBDAS.sqrt()
    assert ratio.tolist() == pytest.approx([0.028, 0.088, 0.193, 0.384, 0.566], abs=5e-4)


def test_two_learned_steps_are_the_teachers_four_and_two_steps_of_the_teacher_are_not() -> None:
    process = vpsde(4)
    four = walked(process, (3, 2, 1, 0))
    student = rolled(process, (3, 1), distilled(process, (3, 1), rounds=1))
    control = walked(process, (3, 1))
    assert torch.allclose(student, four, rtol=1e-12)
    assert (control / LAMBDAS.sqrt()).tolist() == pytest.approx([0.006, 0.020, 0.045, 0.100, 0.195], abs=5e-4)


@pytest.mark.parametrize(
    ("process", "narrow", "wide"),
    [(cosine(), 0.83, 0.21), (edm(sigma_min=0.04, sigma_max=40.0, sigma_data=1.0), 0.83, 0.08)],
    ids=["cosine", "edm"],
)
def test_three_rounds_from_sixteen_steps_keep_the_spread_that_two_teacher_steps_lose(
    process: Gaussian, narrow: float, wide: float
) -> None:
    sixteen = walked(process, student_times(process, 16))
    student = rolled(
        process, student_times(process, 2), distilled(process, student_times(process, 2), rounds=3)
    )
    control = walked(process, student_times(process, 2))
    assert torch.allclose(student, sixteen, rtol=1e-9)
    assert (sixteen / LAMBDAS.sqrt())[2].item() == pytest.approx(narrow, abs=0.01)
    assert (control / LAMBDAS.sqrt())[2].item() == pytest.approx(wide, abs=0.01)


# The released sampler


def released(process: Gaussian, x: Tensor, noise: Tensor) -> Tensor:
    """Two calls as the released code makes them, from x at level 4.

    The student has learned jumps 4 -> 2 -> 0 and is told 2 and 0. Its sampler takes these for the levels of the state: it
    draws q(x_1 | x_2, x0) with the coefficients of one step from level 2, where the state is at 4 and must go to 2.
    """
    learned = []
    for t, u, s in ((4, 3, 2), (2, 1, 0)):
        t_, u_, s_ = at(t, u, s)
        y = process.jump(
            torch.ones(1, len(LAMBDAS), dtype=torch.float64), Estimate(gains(process, t_)), t_, u_
        )
        there = process.jump(y, Estimate(gains(process, u_) * y), u_, s_)
        learned.append(landing(process, torch.ones_like(there), there, t_, s_))
    two, one = at(2, 1)
    moved = process.posterior(x, Estimate(learned[0] * x), two, one, noise)
    return learned[1] * moved


def test_the_released_indices_lose_what_the_student_has_learned_and_ours_do_not() -> None:
    process, rows = vpsde(4), 4000
    x, noise = (
        Key(4).at(name).normal(torch.zeros(rows, len(LAMBDAS), dtype=torch.float64))
        for name in ("x", "noise")
    )
    theirs = released(process, x, noise)
    student = rolled(process, (3, 1), distilled(process, (3, 1), rounds=1)) / process.sigma(at(3)[0])
    wanted = walked(process, (3, 2, 1, 0), process.sigma(at(3)[0]) * x[:1]) / x[0]  # of the same noise
    ratio = theirs.std(0) / LAMBDAS.sqrt()
    assert ratio[-1].item() == pytest.approx(0.158, abs=0.01)  # the teacher's is 0.566
    assert torch.allclose(student * process.sigma(at(3)[0]), wanted, rtol=1e-9)
    correlation = (theirs * (wanted * x)).mean(0) / (theirs.std(0) * (wanted * x).std(0))
    assert bool((correlation < 0.2).all())  # and its fresh noise says something else


# What a prediction is compared with


def by_hand(mine: np.ndarray, true: np.ndarray, span: float) -> float:
    """Wang et al. 2004 eq. 13 window by window."""
    axis = np.arange(11) - 5
    window = np.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    values = []
    for i, j in itertools.product(range(mine.shape[0] - 10), range(mine.shape[1] - 10)):
        a, b = mine[i : i + 11, j : j + 11], true[i : i + 11, j : j + 11]
        ma, mb = (window * a).sum(), (window * b).sum()
        va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
        ab = (window * (a - ma) * (b - mb)).sum()
        values.append((2 * ma * mb + c1) * (2 * ab + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return float(np.mean(values))


def test_structural_similarity_is_the_formula_of_its_paper() -> None:
    true = 5 + Key(5).at("true").normal(torch.zeros(2, 14, 17, dtype=torch.float64))
    mine = true + 0.5 * Key(5).at("mine").normal(true)
    found = ssim(mine, true, 10.0)
    assert found.tolist() == pytest.approx(
        [by_hand(m.numpy(), t.numpy(), 10.0) for m, t in zip(mine, true, strict=True)]
    )
    assert ssim(true, true, 10.0).tolist() == pytest.approx([1.0, 1.0])


def test_similarity_prefers_a_sharp_picture_where_squared_error_prefers_a_blurred_one() -> None:
    true = 5 + Key(6).at("true").normal(torch.zeros(1, 40, 40, dtype=torch.float64))
    blurred = 5 + 0.3 * (true - 5)
    sharp = true + 0.75 * Key(6).at("noise").normal(true)
    assert (blurred - true).square().mean() < (sharp - true).square().mean()
    assert ssim(blurred, true, 10.0) < ssim(sharp, true, 10.0)


def test_pictures_smaller_than_a_window_are_refused() -> None:
    with pytest.raises(ValueError, match="smaller than the 11 cells"):
        ssim(torch.zeros(1, 80, 10), torch.zeros(1, 80, 10), 10.0)


def test_the_teachers_loss_is_the_weighted_sum_of_its_parts_and_zero_for_the_truth() -> None:
    x = Key(7).normal(torch.zeros(3, 20, 20, dtype=torch.float64))
    batch, process = Batch(like=x, x=x), cosine()
    asked = {"l1": 0.5, "l2": 0.25, "ssim": 2.0}

    def loss(net: torch.nn.Module, **weights: float) -> float:
        objective = CleanPrediction(
            lambda *_: torch.full((3,), 0.5, dtype=torch.float64), role="net", distance=Likeness(**weights)
        )
        return float(
            objective.loss(
                objective.phases(0)[0], {"net": Denoiser(net, process, "x0")}, batch, Step(0, 1, Key(8))
            ).total
        )

    class Off(torch.nn.Module):
        def forward(self, xt: Tensor, time: Tensor, cond: Cond) -> Tensor:
            return x + 0.1

    class Knows(torch.nn.Module):
        def forward(self, xt: Tensor, time: Tensor, cond: Cond) -> Tensor:
            return x

    none = {"l1": 0.0, "l2": 0.0, "ssim": 0.0}
    each = {name: loss(Off(), **{**none, name: 1.0}) for name in asked}
    assert each["l1"] == pytest.approx(0.1)
    assert each["l2"] == pytest.approx(0.01)
    assert loss(Off(), **asked) == pytest.approx(sum(asked[name] * each[name] for name in asked))
    assert loss(Knows(), **asked) == pytest.approx(0.0, abs=1e-9)
