"""Chains, grids and single steps agree with the schedulers of diffusers, number by number.

Their tables are float32, ours float64: they agree to a relative 2e-5 (the rounding of a thousand products). Steps are made
from *their* tables (``chain``), so that what is compared is the formula in float32. Other differences stand in the tests.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.processes import Chain, Gaussian, ddpm, edm, flow
from fewstep.protocol import Estimate, Key

diffusers = pytest.importorskip("diffusers")

ROWS = 3
PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}


def draw(name: str) -> Tensor:
    return Key(0).at(name).normal(torch.zeros(ROWS, 2, 4))


def at(value: float) -> Tensor:
    return torch.full((ROWS,), float(value), dtype=torch.float64)


def scheduler(kind: str, **settings: Any) -> Any:
    plain = {"clip_sample": False, "thresholding": False}
    made = getattr(diffusers, kind)
    accepted = inspect.signature(made.__init__).parameters
    known = {name: value for name, value in plain.items() if name in accepted}
    return made(**{**known, **settings})


def chain(theirs: Any) -> Gaussian:
    """Our process over their table."""
    table = tuple(theirs.alphas_cumprod.double().tolist())
    final = float(getattr(theirs, "final_alpha_cumprod", torch.tensor(1.0)))
    return Gaussian(Chain(table, final), 0.0, len(table) - 1.0, whole=True)


def patched_noise(monkeypatch: pytest.MonkeyPatch, kind: str, noise: Tensor) -> None:
    """Their schedulers draw noise themselves: hand them ours."""
    module = importlib.import_module(getattr(diffusers, kind).__module__)
    monkeypatch.setattr(module, "randn_tensor", lambda *args, **kwargs: noise)


@pytest.mark.parametrize(
    ("betas", "ends", "steps", "rescale"),
    [
        ("linear", (1e-4, 2e-2), 1000, False),
        ("linear", (1e-3, 3e-2), 200, False),
        ("scaled_linear", (0.00085, 0.012), 1000, False),
        ("scaled_linear", (0.00085, 0.012), 1000, True),
    ],
)
def test_tables_are_theirs(betas: Any, ends: tuple[float, float], steps: int, rescale: bool) -> None:
    theirs = scheduler(
        "DDIMScheduler",
        beta_schedule=betas,
        beta_start=ends[0],
        beta_end=ends[1],
        num_train_timesteps=steps,
        rescale_betas_zero_snr=rescale,
    )
    ours = ddpm(betas, steps=steps, beta_start=ends[0], beta_end=ends[1], zero_terminal_snr=rescale)
    n = torch.arange(steps, dtype=torch.float64)
    assert torch.allclose(ours.alpha(n).square(), theirs.alphas_cumprod.double(), rtol=2e-5, atol=1e-7)
    other = ddpm(betas, steps=steps, beta_start=ends[0], beta_end=2 * ends[1], zero_terminal_snr=rescale)
    assert float((other.alpha(n).square() - theirs.alphas_cumprod).abs().max()) > 0.05


def test_the_end_of_the_last_step_is_theirs() -> None:
    for to_one in (True, False):
        theirs = scheduler("DDIMScheduler", beta_schedule="scaled_linear", set_alpha_to_one=to_one)
        ours = ddpm("scaled_linear", beta_start=1e-4, beta_end=2e-2, set_alpha_to_one=to_one)
        assert float(ours.alpha(at(-1)).square()[0]) == pytest.approx(
            float(theirs.final_alpha_cumprod), abs=1e-7
        )


@pytest.mark.parametrize("n", [0, 1, 500, 999])
def test_corruption_is_their_add_noise(n: int) -> None:
    theirs = scheduler("DDPMScheduler")
    x, noise = draw("x"), draw("noise")
    expected = theirs.add_noise(x, noise, torch.full((ROWS,), n))
    assert torch.allclose(ddpm().corrupt(x, noise, at(n)), expected, atol=2e-6)
    velocity = theirs.get_velocity(x, noise, torch.full((ROWS,), n))
    assert torch.allclose(ddpm().raw(x, expected, at(n), "v"), velocity, atol=2e-4)


@pytest.mark.parametrize("named", PREDICTIONS)
@pytest.mark.parametrize("n", [20, 500, 980])
def test_the_posterior_is_their_ancestral_step(monkeypatch: pytest.MonkeyPatch, named: str, n: int) -> None:
    """variance_type "fixed_small" is the posterior variance of Ho et al. 2020 eq. 7; 50 of 1000 steps."""
    theirs = scheduler("DDPMScheduler", prediction_type=named, variance_type="fixed_small")
    theirs.set_timesteps(50)
    noise, raw, xt = draw("noise"), draw("raw"), draw("xt")
    patched_noise(monkeypatch, "DDPMScheduler", noise)
    expected = theirs.step(raw, n, xt)
    ours = chain(theirs)
    est = Estimate(ours.x0(raw, xt, at(n), PREDICTIONS[named]))
    got = ours.posterior(xt, est, at(n), at(n - 20), noise)
    assert torch.allclose(est.x0, expected.pred_original_sample, atol=1e-5, rtol=1e-5)
    assert torch.allclose(got, expected.prev_sample, atol=2e-5)
    assert not torch.allclose(
        ours.posterior(xt, est, at(n), at(n - 19), noise), expected.prev_sample, atol=1e-3
    )


@pytest.mark.parametrize("named", PREDICTIONS)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_the_jump_is_their_ddim_step(monkeypatch: pytest.MonkeyPatch, named: str, eta: float) -> None:
    """eta = 0 is ``jump``, eta = 1 ``posterior``; between them DDIM eq. 16 replaces eta times the posterior's noise."""
    theirs = scheduler(
        "DDIMScheduler", prediction_type=named, beta_schedule="scaled_linear", set_alpha_to_one=False
    )
    theirs.set_timesteps(50)
    noise, raw, xt, n = draw("noise"), draw("raw"), draw("xt"), 500
    expected = theirs.step(raw, n, xt, eta=eta, variance_noise=noise if eta else None)
    ours = chain(theirs)
    t, s = at(n), at(n - 20)
    est = Estimate(ours.x0(raw, xt, t, PREDICTIONS[named]))
    if eta == 0.5:
        fresh = 0.5 * _posterior_width(ours, t, s)
        kept = (ours.sigma(s).square() - fresh.square()).sqrt()
        got = (
            ours.corrupt(est.x0, ours.eps(xt, est, t) * (kept / ours.sigma(s))[:, None, None].float(), s)
            + fresh[:, None, None].float() * noise
        )
    else:
        got = ours.jump(xt, est, t, s) if eta == 0 else ours.posterior(xt, est, t, s, noise)
    assert torch.allclose(got, expected.prev_sample, atol=5e-6)


def _posterior_width(process: Gaussian, t: Tensor, s: Tensor) -> Tensor:
    """What the posterior multiplies its noise with."""
    zero, one = torch.zeros(ROWS, 1).double(), torch.ones(ROWS, 1).double()
    return process.posterior(zero, Estimate(zero), t, s, one)[:, 0]


def test_the_last_ddim_step_ends_where_theirs_does() -> None:
    for to_one in (True, False):
        theirs = scheduler("DDIMScheduler", set_alpha_to_one=to_one)
        theirs.set_timesteps(50)
        raw, xt, ours = draw("raw"), draw("xt"), chain(theirs)
        est = Estimate(ours.x0(raw, xt, at(0), "eps"))
        assert torch.allclose(
            ours.jump(xt, est, at(0), at(-1)), theirs.step(raw, 0, xt).prev_sample, atol=1e-6
        )


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
def test_a_jump_and_fresh_noise_are_their_tcd_step(monkeypatch: pytest.MonkeyPatch, gamma: float) -> None:
    """TCD (Zheng et al. 2024 algorithm 4): jump to floor((1 - gamma) s), then the transition back to s.

    The floor is theirs: network times of a chain are whole numbers. For gamma = 0 they add nothing.
    """
    theirs = scheduler("TCDScheduler", beta_schedule="scaled_linear")
    theirs.set_timesteps(4)
    t, s = (int(n) for n in theirs.timesteps[:2])
    noise, raw, xt = draw("noise"), draw("raw"), draw("xt")
    patched_noise(monkeypatch, "TCDScheduler", noise)
    expected = theirs.step(raw, theirs.timesteps[0], xt, eta=gamma)
    ours, middle = chain(theirs), int((1 - gamma) * s)
    est = Estimate(ours.x0(raw, xt, at(t), "eps"))
    there = ours.jump(xt, est, at(t), at(middle))
    assert torch.allclose(there, expected.pred_noised_sample, atol=2e-5)
    got = ours.corrupt(there, noise, at(s), since=at(middle))
    assert torch.allclose(got, expected.prev_sample, atol=2e-5)


@pytest.mark.parametrize("n", [0, 1, 20, 999])
def test_the_lcm_prediction_is_their_boundary_scaling(n: int) -> None:
    """c_skip x + c_out x0 with c_out = s / sqrt(s^2 + sd^2), s = 10 n: without the factor sd of Song et al. 2023.

    That is right for what it multiplies, an estimate in units of the data: with the factor (their issue 8547) noisy
    estimates would be halved, which the control shows.
    """
    theirs = scheduler("LCMScheduler")
    theirs.set_timesteps(4)
    raw, xt, ours = draw("raw"), draw("xt"), chain(theirs)
    c_skip, c_out = theirs.get_scalings_for_boundary_condition_discrete(n)
    plain = ours.x0(raw, xt, at(n), "eps")
    got = ours.x0(raw, xt, at(n), "lcm")
    assert torch.allclose(got, c_skip * xt + c_out * plain, atol=1e-5, rtol=1e-5)
    if n == 0:
        assert torch.equal(got, xt)
    if n == 999:
        assert torch.allclose(got, plain, rtol=1e-5)
        assert not torch.allclose(c_skip * xt + 0.5 * c_out * plain, plain, rtol=0.3)


def test_renoising_an_lcm_estimate_is_their_step(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = scheduler("LCMScheduler")
    theirs.set_timesteps(4)
    noise, raw, xt = draw("noise"), draw("raw"), draw("xt")
    patched_noise(monkeypatch, "LCMScheduler", noise)
    t, s = (int(n) for n in theirs.timesteps[:2])
    expected = theirs.step(raw, theirs.timesteps[0], xt)
    ours = chain(theirs)
    clean = ours.x0(raw, xt, at(t), "lcm")
    assert torch.allclose(clean, expected.denoised, atol=2e-4, rtol=1e-5)
    assert torch.allclose(ours.corrupt(clean, noise, at(s)), expected.prev_sample, atol=2e-4, rtol=1e-5)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_shifted_grid_is_that_of_their_flow_matching(shift: float) -> None:
    """They end at 0 where we end at t_min, and by default shift the clean end twice; given its times, they do so once."""
    theirs = scheduler("FlowMatchEulerDiscreteScheduler", shift=shift)
    plain = flow().grid(8)
    theirs.set_timesteps(sigmas=plain[:-1].tolist())
    ours = flow(shift=shift).grid(8)
    assert torch.allclose(ours[:-1], theirs.sigmas[:-1].double(), atol=1e-6)
    assert torch.allclose(flow().network_time(ours[:-1]), theirs.timesteps.double(), atol=1e-3)


def test_an_euler_step_of_flow_matching_is_theirs() -> None:
    """On straight lines Euler and the jump are one."""
    theirs, ours = scheduler("FlowMatchEulerDiscreteScheduler", shift=3.0), flow(shift=3.0)
    theirs.set_timesteps(sigmas=flow().grid(8)[:-1].tolist())
    raw, xt = draw("raw"), draw("xt")
    expected = theirs.step(raw, theirs.timesteps[2], xt).prev_sample
    t, s = (at(float(v)) for v in ours.grid(8)[2:4])
    est = Estimate(ours.x0(raw, xt, t, "flow"))
    assert torch.allclose(ours.jump(xt, est, t, s), expected, atol=1e-6)
    assert torch.allclose(ours.velocity(xt, est, t), raw, atol=1e-5)


def test_the_edm_grid_input_and_step_are_theirs() -> None:
    """Their grid ends at sigma_min and appends 0, so that n of theirs are our n - 1 intervals and a clean estimate."""
    theirs = scheduler("EDMEulerScheduler")
    theirs.set_timesteps(9)
    ours = edm()
    assert torch.allclose(ours.grid(8), theirs.sigmas[:-1].double(), rtol=1e-5)
    raw, xt = draw("raw"), draw("xt")
    t, s = (at(float(v)) for v in theirs.sigmas[:2])
    shown = theirs.scale_model_input(xt, theirs.timesteps[0])
    assert torch.allclose(shown, ours.network_input(xt, t), atol=1e-6)
    assert float(theirs.timesteps[0]) == pytest.approx(float(ours.network_time(t)[0]), abs=1e-6)
    expected = theirs.step(raw, theirs.timesteps[0], xt)
    est = Estimate(ours.x0(raw, xt, t, "edm"))
    assert torch.allclose(est.x0, expected.pred_original_sample, atol=1e-6)
    assert torch.allclose(ours.jump(xt, est, t, s), expected.prev_sample, atol=2e-5)
