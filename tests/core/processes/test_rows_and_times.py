"""Rows of the process table, their inverses, shifted grids, and laws of times that are laws of sigma / alpha."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch import Tensor

from fewstep.config.times import TimesConfig
from fewstep.processes import (
    Chain,
    Gaussian,
    LogitNormal,
    LogNormal,
    LogStudent,
    Masked,
    OfRatio,
    PerGroup,
    Shifted,
    Uniform,
    cosine,
    ddpm,
    edm,
    flow,
    trig,
    vp,
)
from fewstep.protocol import Batch, Key, Step
from fewstep.testing.checks import run_checks
from fewstep.testing.components import check_process

PROCESSES = {
    "vp": vp(),
    "edm": edm(),
    "flow": flow(),
    "trig": trig(),
    "cosine": cosine(),
    "ddpm": ddpm(),
    "scaled": ddpm("scaled_linear", set_alpha_to_one=False),
    "terminal": ddpm(zero_terminal_snr=True),
}
STEP, KEY = Step(0, 1, Key(0)), Key(1)


def inside(process: Gaussian, count: int = 41) -> Tensor:
    share = torch.linspace(0, 1, count, dtype=torch.float64)
    high, low = process.t_max ** (1 / process.rho), process.t_min ** (1 / process.rho)
    return (low + share * (high - low)) ** process.rho


@pytest.mark.parametrize("name", PROCESSES)
def test_every_law_knows_the_time_of_a_ratio(name: str) -> None:
    process = PROCESSES[name]
    t = inside(process)
    found = process.law.time_of_ratio(process.sigma(t) / process.alpha(t))
    assert torch.allclose(found, t, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", PROCESSES)
def test_every_row_obeys_the_laws_of_processes(name: str) -> None:
    x = Key(2).normal(torch.zeros(4, 3))
    broken = [o for o in run_checks(check_process(PROCESSES[name], Batch(x, x))) if not o.ok]
    assert not broken, broken


@pytest.mark.parametrize("name", ["flow", "trig", "cosine", "terminal"])
def test_no_signal_at_all_is_the_noisiest_time(name: str) -> None:
    process = PROCESSES[name]
    assert float(process.alpha(torch.tensor(process.t_max))) < 1e-15
    found = process.law.time_of_ratio(torch.tensor(math.inf, dtype=torch.float64))
    assert float(found) == pytest.approx(process.t_max, abs=1e-12)


@pytest.mark.parametrize("name", PROCESSES)
def test_slopes_are_the_derivatives_of_the_coefficients(name: str) -> None:
    process, h = PROCESSES[name], 1e-6
    t = inside(process)[2:-2] * (1 + 1e-4)
    for value, slope in ((process.alpha, process.law.alpha_slope), (process.sigma, process.law.sigma_slope)):
        measured = (value(t + h) - value(t - h)) / (2 * h)
        assert torch.allclose(slope(t), measured, rtol=2e-4, atol=1e-8)


def test_a_chain_has_its_table_at_whole_times_and_is_log_linear_between() -> None:
    law = Chain((0.9, 0.5, 0.1))
    t = torch.tensor([-1.0, 0.0, 1.0, 2.0, 0.5], dtype=torch.float64)
    expected = torch.tensor([1.0, 0.9, 0.5, 0.1, math.sqrt(0.45)], dtype=torch.float64)
    assert torch.allclose(law.alpha(t).square(), expected, atol=1e-15)
    assert torch.allclose(law.sigma(t).square(), 1 - expected, atol=1e-15)


def test_at_a_whole_time_the_slope_of_a_chain_looks_toward_the_clean_end() -> None:
    law, t = Chain((0.9, 0.5, 0.1)), torch.tensor([1.0], dtype=torch.float64)
    below = (law.alpha(t) - law.alpha(t - 1e-7)) / 1e-7
    above = (law.alpha(t + 1e-7) - law.alpha(t)) / 1e-7
    assert torch.allclose(law.alpha_slope(t), below, rtol=1e-5)
    assert not torch.allclose(law.alpha_slope(t), above, rtol=0.1)


def test_below_its_first_step_a_chain_ends_clean_or_stays() -> None:
    end = torch.tensor([-1.0], dtype=torch.float64)
    assert float(ddpm().sigma(end)) == 0
    stays = ddpm("scaled_linear", set_alpha_to_one=False)
    assert float(stays.sigma(end)) == pytest.approx(math.sqrt(0.00085), rel=1e-12)


def test_a_chain_of_any_length_has_whole_times_and_refuses_more_steps_than_it_has() -> None:
    short = ddpm(steps=10)
    assert short.grid(3).tolist() == [9, 6, 3, 0]
    assert ddpm().grid(4).tolist() == [999, 749, 500, 250, 0]
    with pytest.raises(ValueError, match="no grid of 10"):
        short.grid(10)


def test_a_shifted_grid_is_the_published_one() -> None:
    """Esser et al. 2024 eq. 23: s t / (1 + (s - 1) t); both ends stay."""
    plain, moved = flow().grid(4), flow(shift=3.0).grid(4)
    assert torch.allclose(moved[1:-1], (3 * plain / (1 + 2 * plain))[1:-1], atol=1e-15)
    assert (float(moved[0]), float(moved[-1])) == (1.0, 1e-3)
    assert bool((moved[1:-1] > plain[1:-1] + 0.05).all())


def test_a_shift_is_one_thing_on_every_process_that_reaches_pure_noise() -> None:
    for made in (trig(sigma_data=1.0, shift=3.0), cosine(shift=3.0)):
        unshifted = trig(sigma_data=1.0) if made.t_max > 1 else cosine()
        ratio, moved = (p.law.sigma(p.grid(5)) / p.law.alpha(p.grid(5)) for p in (unshifted, made))
        assert torch.allclose(moved[1:-1], 3 * ratio[1:-1], rtol=1e-9)
    with pytest.raises(ValueError, match="cannot shift"):
        Gaussian(vp().law, 1e-3, 1.0, shift=3.0)


def test_shifted_times_are_shifted_one_by_one() -> None:
    plain = Uniform(0.0, 1.0)
    t, moved = plain((1000,), STEP, KEY), Shifted(plain, 5.0)((1000,), STEP, KEY)
    assert torch.allclose(moved, 5 * t / (1 + 4 * t), atol=1e-14)


def test_a_lognormal_ratio_is_the_published_law_of_every_process() -> None:
    """TrigFlow: tan t = e^n / sigma_data (Lu & Song 2025). Rectified flow: the logit-normal law (Esser et al. 2024)."""
    ratios = LogNormal(-1.0, 1.4, 0.0, math.inf)
    r = ratios((1000,), STEP, KEY)
    assert torch.allclose(OfRatio(ratios, trig().law)((1000,), STEP, KEY).tan() * 0.5, r, rtol=1e-12)
    assert torch.equal(OfRatio(ratios, edm().law)((1000,), STEP, KEY), r)
    logit = LogitNormal(-1.0, 1.4)((1000,), STEP, KEY)
    assert torch.allclose(OfRatio(ratios, flow().law)((1000,), STEP, KEY), logit, rtol=1e-12)


@pytest.mark.parametrize("freedom", [0.01, 1.0, 5.0])
def test_log_student_times_have_their_law(freedom: float) -> None:
    """Distribution function of Student's t from scipy, cut to the range; the bound is Kolmogorov's at 1e-6."""
    law, count = LogStudent(0.0, 0.2, 0.01, 80.0, freedom), 20_000
    t = law((count,), STEP, KEY).sort().values
    low, high, at = (
        stats.t.cdf(value / 0.2, freedom) for value in (math.log(0.01), math.log(80.0), t.log().numpy())
    )
    expected = torch.as_tensor((at - low) / (high - low))
    empirical = (torch.arange(count) + 0.5) / count
    assert float((expected - empirical).abs().max()) < 2.7 / math.sqrt(count)
    normal = LogNormal(0.0, 0.2, 0.01, 80.0)((count,), STEP, KEY).sort().values
    assert float((normal.log() - t.log()).abs().max()) > 0.1


def test_settings_of_times_build_the_laws() -> None:
    shape = (64,)
    lognormal = TimesConfig(kind="lognormal", mean=-1.0, std=1.4).build(trig())
    assert float(lognormal(shape, STEP, KEY).max()) <= trig().t_max
    heavy = TimesConfig(kind="log-student-t", mean=0.0, std=0.2).build(edm())
    assert isinstance(heavy, OfRatio)
    assert isinstance(heavy.ratios, LogStudent)
    moved = TimesConfig(shift=5.0).build(flow())
    t = TimesConfig().build(flow())(shape, STEP, KEY)
    assert torch.allclose(moved(shape, STEP, KEY), 5 * t / (1 + 4 * t), atol=1e-12)
    with pytest.raises(ValueError, match=r"times\.shift needs a Gaussian"):
        TimesConfig(shift=5.0).build(Masked(5))


@pytest.mark.parametrize("kind", ["lognormal", "log-student-t"])
def test_laws_of_the_ratio_stay_inside_every_process(kind: str) -> None:
    for process in PROCESSES.values():
        t = TimesConfig(kind=kind).build(process)((500,), STEP, KEY)
        assert float(t.min()) >= process.t_min * (1 - 1e-9) - 1e-9
        assert float(t.max()) <= process.t_max * (1 + 1e-9)


@pytest.mark.parametrize("stays", [False, True])
def test_a_chain_has_a_slope_at_its_cleanest_time(stays: bool) -> None:
    """Of the last step where it leads to clean states; where it stays, of the interval above."""
    law, t = ddpm("scaled_linear", set_alpha_to_one=not stays).law, torch.zeros(1, dtype=torch.float64)
    other = torch.ones_like(t) if stays else -torch.ones_like(t)
    expected = law.alpha(t) * (law.alpha(t).log() - law.alpha(other).log()) / (t - other)
    assert torch.allclose(law.alpha_slope(t), expected, rtol=1e-9)
    assert float(law.sigma_slope(t)) > 0


@pytest.mark.parametrize(("rows", "levels"), [(4, 3), (5, 3), (0, 1), (1, 12)])
def test_rows_of_a_group_have_one_time_and_groups_have_their_own(rows: int, levels: int) -> None:
    t = PerGroup(Uniform(0.0, 1.0), rows)((12,), STEP, KEY)
    assert t.shape == (12,)
    assert len(t.unique_consecutive()) == len(t.unique()) == levels
    assert len(t[: rows or 12].unique()) == 1


def test_groups_are_drawn_from_the_law_and_the_same_on_one_process_and_on_two() -> None:
    law = PerGroup(Uniform(0.2, 0.7), 2)
    whole = law((4000,), STEP, KEY)
    parts = [law((2000,), STEP, replace(KEY, shard=(rank, 2))) for rank in (0, 1)]
    assert torch.equal(torch.cat(parts), whole)
    assert stats.kstest(whole[::2].numpy(), stats.uniform(0.2, 0.5).cdf).pvalue > 0.01
