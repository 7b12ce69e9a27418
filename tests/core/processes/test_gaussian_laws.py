"""Laws of Gaussian processes over random times, shapes and both precisions."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fewstep.processes import Gaussian, Uniform, cosine, ddpm, edm, flow, trig, vp
from fewstep.protocol import Batch, Centered, Cond, Estimate, Euclidean, Flow, Key, Process, Step

PROCESSES: dict[str, Callable[..., Gaussian]] = {
    "vp": vp,
    "edm": edm,
    "flow": flow,
    "trig": trig,
    "cosine": cosine,
    "ddpm": ddpm,
}
UNIT = {"vp", "cosine", "ddpm"}
PRECISIONS = [(torch.float64, 1e-9), (torch.float32, 2e-3)]
PREDICTIONS = ["x0", "eps", "flow", "trig", "edm", "boundary"]

every_process = pytest.mark.parametrize("name", sorted(PROCESSES))
every_precision = pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
shares = st.floats(0.02, 0.98)
seeds = st.integers(0, 2**31)


def middle(process: Gaussian, share: float, rows: int) -> Tensor:
    """The same relative time for every row, spaced as the process spaces its grid."""
    high, low = process.t_max ** (1 / process.rho), process.t_min ** (1 / process.rho)
    return torch.full((rows,), (low + share * (high - low)) ** process.rho, dtype=torch.float64)


def normal(seed: int, name: str, dtype: torch.dtype, shape: tuple[int, ...] = (5, 3, 2)) -> Tensor:
    return Key(seed).at(name).normal(torch.zeros(shape, dtype=dtype))


@every_process
def test_a_gaussian_process_satisfies_the_protocols(name: str) -> None:
    assert isinstance(PROCESSES[name](), Process)
    assert isinstance(PROCESSES[name](), Flow)


@every_process
@every_precision
def test_corruption_at_the_cleanest_time_returns_the_data(
    name: str, dtype: torch.dtype, tolerance: float
) -> None:
    process = PROCESSES[name]()
    x0, noise = normal(0, "x", dtype), normal(0, "e", dtype)
    t = torch.full((5,), process.t_min, dtype=torch.float64)
    assert (process.corrupt(x0, noise, t) - x0).abs().max() < 0.1


@every_process
@every_precision
@given(share=shares, seed=seeds)
def test_every_prediction_inverts_exactly(
    name: str, dtype: torch.dtype, tolerance: float, share: float, seed: int
) -> None:
    process = PROCESSES[name]()
    t = middle(process, share, 5)
    x0 = normal(seed, "x", dtype)
    xt = process.corrupt(x0, normal(seed, "e", dtype), t)
    ratio = float((process.sigma(t) / process.alpha(t)).max())
    for prediction in PREDICTIONS:
        back = process.x0(process.raw(x0, xt, t, prediction), xt, t, prediction)
        assert (back - x0).abs().max() < tolerance * max(1.0, ratio), prediction


@given(share=shares, seed=seeds)
def test_the_v_prediction_inverts_where_variance_is_preserved(share: float, seed: int) -> None:
    process = vp()
    t, x0 = middle(process, share, 5), normal(seed, "x", torch.float64)
    noise = normal(seed, "e", torch.float64)
    xt = process.corrupt(x0, noise, t)
    v = process.alpha(t).reshape(-1, 1, 1) * noise - process.sigma(t).reshape(-1, 1, 1) * x0
    assert (process.x0(v, xt, t, "v") - x0).abs().max() < 1e-9


def test_the_v_prediction_is_refused_where_variance_is_not_preserved() -> None:
    with pytest.raises(ValueError, match="variance-preserving"):
        edm().prediction("v", torch.tensor([1.0]))


def test_an_unknown_prediction_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="boundary"):
        vp().prediction("noise", torch.tensor([0.5]))


@every_process
@every_precision
@given(share=shares, seed=seeds)
def test_a_jump_with_the_truth_keeps_the_noise(
    name: str, dtype: torch.dtype, tolerance: float, share: float, seed: int
) -> None:
    process = PROCESSES[name]()
    x0, noise = normal(seed, "x", dtype), normal(seed, "e", dtype)
    t, s = middle(process, share, 5), middle(process, share / 2, 5)
    got = process.jump(process.corrupt(x0, noise, t), Estimate(x0), t, s)
    scale = max(1.0, float(process.sigma(t).max()))
    assert (got - process.corrupt(x0, noise, s)).abs().max() < tolerance * scale


@every_process
@given(share=shares, seed=seeds)
def test_the_velocity_is_the_time_derivative_of_the_path(name: str, share: float, seed: int) -> None:
    process, h = PROCESSES[name](), 1e-6
    x0, noise = normal(seed, "x", torch.float64), normal(seed, "e", torch.float64)
    t = middle(process, share, 5)
    slope = (process.corrupt(x0, noise, t + h) - process.corrupt(x0, noise, t - h)) / (2 * h)
    got = process.velocity(process.corrupt(x0, noise, t), Estimate(x0), t)
    assert (got - slope).abs().max() < 1e-4 * max(1.0, float(slope.abs().max()))


@every_process
@given(share=shares)
def test_corrupting_in_two_moves_has_the_law_of_one(name: str, share: float) -> None:
    """Coefficients of x0 and total variance agree exactly: 0 -> s -> t equals 0 -> t."""
    process = PROCESSES[name]()
    t, s = middle(process, share, 1), middle(process, share / 2, 1)
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    signal = process.corrupt(process.corrupt(one, zero, s), zero, t, since=s)
    first = process.corrupt(process.corrupt(zero, one, s), zero, t, since=s)
    second = process.corrupt(zero, one, t, since=s)
    assert torch.allclose(signal, process.alpha(t).reshape(1, 1), rtol=1e-9)
    assert torch.allclose(first**2 + second**2, (process.sigma(t) ** 2).reshape(1, 1), rtol=1e-9)


@every_process
@given(share=shares)
def test_the_posterior_of_the_truth_has_the_marginal_law(name: str, share: float) -> None:
    process = PROCESSES[name]()
    t, s = middle(process, share, 1), middle(process, share / 2, 1)
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)

    def draw(x0: Tensor, first: Tensor, second: Tensor) -> Tensor:
        return process.posterior(process.corrupt(x0, first, t), Estimate(x0), t, s, second)

    variance = draw(zero, one, zero) ** 2 + draw(zero, zero, one) ** 2
    assert torch.allclose(draw(one, zero, zero), process.alpha(s).reshape(1, 1), rtol=1e-8)
    assert torch.allclose(variance, (process.sigma(s) ** 2).reshape(1, 1), rtol=1e-8)


@every_process
def test_corruption_matches_its_schedule_in_mean_and_spread(name: str) -> None:
    process, rows = PROCESSES[name](), 200_000
    t = middle(process, 0.6, rows)
    noise = Key(3).normal(torch.zeros(rows, 1, dtype=torch.float64))
    xt = process.corrupt(torch.full((rows, 1), 0.7, dtype=torch.float64), noise, t)
    alpha, sigma = float(process.alpha(t)[0]), float(process.sigma(t)[0])
    # Five standard errors of a mean and of a standard deviation.
    assert abs(float(xt.mean()) - 0.7 * alpha) < 5 * sigma / rows**0.5
    assert abs(float(xt.std()) - sigma) < 5 * sigma / (2 * rows) ** 0.5


@every_process
@given(share=shares, seed=seeds)
def test_the_posterior_mean_minimizes_the_scoring_rule(name: str, share: float, seed: int) -> None:
    """For Gaussian data the closed-form E[x0 | xt] beats every shifted estimate on average."""
    process, rows, mean, spread = PROCESSES[name](), 4096, 0.7, 0.6
    x0 = mean + spread * normal(seed, "x", torch.float64, (rows, 1))
    t = middle(process, share, rows)
    xt = process.corrupt(x0, normal(seed, "e", torch.float64, (rows, 1)), t)
    alpha, total = process.alpha(t), (process.alpha(t) * spread) ** 2 + process.sigma(t) ** 2
    best = mean + (alpha * spread**2 / total).reshape(-1, 1) * (xt - mean * alpha.reshape(-1, 1))
    score = process.geometry.nll(Estimate(best), x0).mean()
    for shift in (-0.1, 0.1):
        assert process.geometry.nll(Estimate(best + shift), x0).mean() > score


@every_process
def test_the_jump_is_first_order_and_lands_on_the_closed_form_flow(name: str) -> None:
    """Flow map of N(m, s^2): alpha_r m + sqrt(V_r / V_t) (x - alpha_t m)."""
    process, mean, spread = PROCESSES[name]() if name in UNIT else PROCESSES[name](sigma_data=0.6), 0.7, 0.6
    high, low = middle(process, 0.7, 1), middle(process, 0.3, 1)
    x = torch.tensor([[1.3]], dtype=torch.float64)

    def total(t: Tensor) -> Tensor:
        return (process.alpha(t) * spread) ** 2 + process.sigma(t) ** 2

    def estimate(xt: Tensor, t: Tensor) -> Estimate:
        alpha = process.alpha(t).reshape(-1, 1)
        gain = (process.alpha(t) * spread**2 / total(t)).reshape(-1, 1)
        return Estimate(mean + gain * (xt - alpha * mean))

    scale = (total(low) / total(high)).sqrt()
    exact = process.alpha(low) * mean + scale * (x - process.alpha(high) * mean)

    def error(steps: int) -> float:
        times, state = torch.linspace(float(high), float(low), steps + 1, dtype=torch.float64), x
        for a, b in itertools.pairwise(times):
            state = process.jump(state, estimate(state, a.reshape(1)), a.reshape(1), b.reshape(1))
        return float((state - exact).abs())

    assert error(400) < 5e-2 * max(1.0, float(exact.abs()))
    assert 1.7 < error(200) / error(400) < 2.3


@every_process
@given(seed=seeds, share=shares)
def test_rows_of_a_batch_do_not_mix(name: str, seed: int, share: float) -> None:
    process, order = PROCESSES[name](), torch.tensor([3, 1, 4, 0, 2])
    x0, noise = normal(seed, "x", torch.float64), normal(seed, "e", torch.float64)
    t = middle(process, share, 5) * torch.linspace(0.5, 1, 5, dtype=torch.float64)
    turned = process.corrupt(x0[order], noise[order], t[order])
    assert torch.equal(turned, process.corrupt(x0, noise, t)[order])


@every_process
def test_corruption_is_differentiable_in_the_data(name: str) -> None:
    process = PROCESSES[name]()
    x0 = normal(0, "x", torch.float64).requires_grad_()
    t = middle(process, 0.5, 5)
    noise = normal(0, "e", torch.float64)
    assert torch.autograd.gradcheck(lambda x: process.corrupt(x, noise, t), (x0,))


@every_process
def test_the_boundary_prediction_returns_its_input_at_the_cleanest_time(name: str) -> None:
    process = PROCESSES[name]()
    t = torch.full((5,), process.t_min, dtype=torch.float64)
    xt, raw = normal(0, "x", torch.float64), normal(0, "raw", torch.float64)
    scaled = xt / process.alpha(t).reshape(-1, 1, 1)
    assert (process.x0(raw, xt, t, "boundary") - scaled).abs().max() < 1e-12


def test_the_boundary_prediction_is_the_published_one() -> None:
    """Song et al. 2023 eq. 5 and appendix C at sigma = 2, sigma_data = 0.5, sigma_min = 0.002."""
    a, b = edm().prediction("boundary", torch.tensor([2.0]))
    assert float(a) == pytest.approx(0.25 / (1.998**2 + 0.25), rel=1e-12)
    assert float(b) == pytest.approx(0.5 * 1.998 / (0.25 + 4.0) ** 0.5, rel=1e-12)


def test_the_natural_edm_grid_is_the_published_one() -> None:
    """Karras et al. 2022 eq. 5 with rho = 7: the middle of 18 intervals."""
    grid = edm().grid(18)
    expected = (80 ** (1 / 7) + 0.5 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    assert float(grid[9]) == pytest.approx(expected, rel=1e-12)
    assert float(grid[0]) == 80.0
    assert float(grid[-1]) == 0.002


@every_process
def test_the_difference_of_equal_estimates_is_zero_and_of_gaussians_is_the_score_gap(name: str) -> None:
    process, (mean, spread), (a, b) = PROCESSES[name](), (0.7, 0.6), (0.9, -0.4)
    t = middle(process, 0.5, 5)
    xt = normal(1, "x", torch.float64, (5, 1))
    alpha, sigma2 = process.alpha(t).reshape(-1, 1), process.sigma(t).reshape(-1, 1) ** 2

    def believed(center: float, width: float) -> tuple[Estimate, Tensor]:
        total = (alpha * width) ** 2 + sigma2
        score = -(xt - alpha * center) / total
        return Estimate((xt + sigma2 * score) / alpha), score

    (real, score_real), (fake, score_fake) = believed(mean, spread), believed(b, a)
    gap = process.geometry.difference(fake, real, xt)
    assert torch.equal(process.geometry.difference(real, real, xt), torch.zeros_like(xt))
    assert torch.allclose(gap, sigma2 / alpha * (score_fake - score_real), atol=1e-9)


def test_masked_means_ignore_the_padding() -> None:
    mask = torch.tensor([[True, True, False], [True, False, False]]).unsqueeze(-1)
    geometry = Euclidean().on(mask)
    x = torch.tensor([[[1.0], [3.0], [99.0]], [[5.0], [99.0], [99.0]]])
    assert torch.equal(geometry.inner(x, torch.ones_like(x)), torch.tensor([2.0, 5.0]))


def test_centered_noise_has_no_mean_over_real_points_and_none_on_padding() -> None:
    mask = torch.tensor([[True] * 4 + [False] * 2, [True] * 6]).unsqueeze(-1)
    process = flow(geometry=Centered())
    noise = process.on(mask).noise(Batch(torch.zeros(2, 6, 3), cond=Cond(mask=mask)), Key(0))
    assert noise.sum(1).abs().max() < 1e-5
    assert torch.equal(noise[0, 4:], torch.zeros(2, 3))


def test_a_time_law_never_leaves_its_range() -> None:
    times = Uniform(0.2, 0.4)((1000,), Step(0, 1, Key(0)), Key(1))
    assert float(times.min()) >= 0.2
    assert float(times.max()) <= 0.4


@every_process
def test_noise_never_touches_the_global_generator(name: str) -> None:
    before = torch.get_rng_state()
    PROCESSES[name]().noise(Batch(torch.zeros(4, 2)), Key(0))
    assert torch.equal(before, torch.get_rng_state())
