"""One denoiser in every process: the same estimate at the same sigma / alpha, and paths that coincide."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewstep.processes import (
    Converted,
    Gaussian,
    carried,
    cosine,
    ddpm,
    edm,
    flow,
    same_noise,
    trig,
    vp,
    within,
)
from fewstep.protocol import Centered, Cond, Denoiser, Estimate, Guided, Key
from fewstep.samplers import ddim
from fewstep.testing.analytic import CovarianceTeacher, MixtureTeacher, RouseTeacher, ar1_covariance, ring

PROCESSES: dict[str, Gaussian] = {
    "vp": vp(),
    "edm": edm(),
    "flow": flow(),
    "trig": trig(),
    "cosine": cosine(),
    "ddpm": ddpm("scaled_linear"),
}
PAIRS = list(itertools.permutations(PROCESSES, 2))
RATIOS = torch.tensor([0.05, 0.3, 1.0, 4.0, 12.0], dtype=torch.float64)
PREDICTIONS = ["x0", "eps", "v", "flow", "trig", "edm", "boundary"]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return Key(seed).normal(torch.zeros(shape, dtype=torch.float64))


def state(process: Gaussian, clean: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    t = process.law.time_of_ratio(RATIOS)
    return process.corrupt(clean, noise, t), t


@pytest.mark.parametrize("name", PROCESSES)
def test_one_law_has_one_estimate_at_one_ratio(name: str) -> None:
    """A mixture and a rotated Gaussian in three dimensions, formula by formula."""
    clean, noise, root = draw(5, 3), draw(5, 3, seed=1), draw(3, 3, seed=2)
    weights, means = torch.tensor([0.3, 0.7]), draw(2, 3, seed=3)
    for law in (
        lambda p: MixtureTeacher(p, weights, means, torch.tensor([0.5, 0.4])),
        lambda p: CovarianceTeacher(p, root @ root.T, means[0]),
    ):
        here, there = law(PROCESSES[name]), law(edm())
        xt, t = state(PROCESSES[name], clean, noise)
        reference = there(*state(edm(), clean, noise)).x0
        assert torch.allclose(here(xt, t).x0, reference, atol=1e-12)
        assert not torch.allclose(here(xt, t * 0.9).x0, reference, atol=1e-3)


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_a_converted_denoiser_is_the_denoiser_of_the_other_process(a: str, b: str) -> None:
    xt, t = state(PROCESSES[a], draw(5, 2), draw(5, 2, seed=1))
    found = Converted(ring(PROCESSES[b]), PROCESSES[a])(xt, t)
    assert torch.allclose(found.x0, ring(PROCESSES[a])(xt, t).x0, atol=1e-12)


@pytest.mark.parametrize("name", PROCESSES)
def test_paths_of_both_processes_coincide(name: str) -> None:
    """DDIM in this process through a teacher of another one, against DDIM in that one at the same ratios."""
    process, start = PROCESSES[name], draw(4, 2)
    base = ring(edm())
    ratios = torch.tensor([12.0, 4.0, 1.0, 0.3, 0.05], dtype=torch.float64)
    times = process.law.time_of_ratio(ratios)
    first = times[:1].expand(4)
    x = process.corrupt(torch.zeros_like(start), start, first)
    there, _ = carried(process, x, first, base.process)
    ours = list(ddim(Converted(base, process), x, times, Cond()))
    theirs = list(ddim(base, there, ratios, Cond()))
    for own, other in zip(ours[:-1], theirs[:-1], strict=True):
        moved, _ = carried(process, own.x, own.t, base.process)
        assert torch.allclose(moved, other.x, atol=1e-11)
    assert torch.allclose(ours[-1].x, theirs[-1].x, atol=1e-11)


class Telling(nn.Module):
    """Writes down what it is told."""

    accepts = frozenset({"to", "guidance", "features"})

    def forward(self, x: Tensor, time: Tensor, cond: Cond, **asked: Any) -> Any:
        self.told = (x, time, asked)
        return (0.3 * x, [x]) if asked.get("features") else 0.3 * x


def test_optional_inputs_pass_through_in_the_units_of_the_base() -> None:
    base, net = flow(), Telling()
    view = Converted(Denoiser(net, base, "flow"), trig(sigma_data=1.0), "trig")
    t, to, scale = (torch.full((3,), v, dtype=torch.float64) for v in (math.pi / 3, math.pi / 4, 2.5))
    est = view(draw(3, 2), t, to=to, guidance=scale, features=(1,))
    _, time, asked = net.told
    assert torch.allclose(time, torch.full_like(time, 1000 * math.sqrt(3) / (1 + math.sqrt(3))))
    assert torch.allclose(asked["to"], torch.full_like(time, 500.0))
    assert torch.equal(asked["guidance"], scale)
    assert len(est.features) == 1
    assert view.accepts == net.accepts


def test_a_converted_network_speaks_the_published_preconditioning() -> None:
    """A flow net on trig times: c_skip = c_in = 1 / (cos + sin), c_out = -sin / (cos + sin) (Chen et al. 2025, rCM)."""
    net = Telling()
    view = Converted(Denoiser(net, flow(sigma_data=1.0), "flow"), trig(sigma_data=1.0))
    t, x = torch.tensor([0.2, 0.7, 1.3], dtype=torch.float64), draw(3, 2)
    total = (t.cos() + t.sin())[:, None]
    unit = flow().network_input(x / total, t.tan() / (1 + t.tan()))
    expected = x / total - t.sin()[:, None] / total * 0.3 * unit
    assert torch.allclose(view(x, t).x0, expected, atol=1e-12)


@pytest.mark.parametrize("name", PROCESSES)
def test_forward_mode_goes_through_a_conversion(name: str) -> None:
    """Continuous-time objectives differentiate along the path: state and time together."""
    view, t = Converted(ring(PROCESSES[name]), trig()), torch.full((4,), 0.8, dtype=torch.float64)
    x, change, h = draw(4, 2), draw(4, 2, seed=1), 1e-6
    _, forward = torch.func.jvp(lambda x, t: view(x, t).x0, (x, t), (change, torch.ones_like(t)))
    measured = (view(x + h * change, t + h).x0 - view(x - h * change, t - h).x0) / (2 * h)
    assert torch.allclose(forward, measured, atol=1e-7)


def test_a_flow_map_stays_one() -> None:
    """An estimate told ``to`` lands, converted, where the base lands: jumps keep the predicted noise."""
    a, b = trig(), flow()
    xt, t = state(a, draw(5, 2), draw(5, 2, seed=1))
    s = a.law.time_of_ratio(RATIOS / 3)
    est = Estimate(draw(5, 2, seed=2))
    there, tb = carried(a, xt, t, b)
    landed, _ = carried(a, a.jump(xt, est, t, s), s, b)
    assert torch.allclose(landed, b.jump(there, est, tb, same_noise(a, s, b)), atol=1e-12)


def test_masks_and_guidance_are_respected() -> None:
    mask = torch.tensor([[True] * 4 + [False] * 2]).unsqueeze(-1).expand(5, 6, 1)
    base = flow(geometry=Centered())
    teacher = RouseTeacher(base)
    clean = base.geometry.on(mask).project(draw(5, 6, 3))
    process = edm(geometry=Centered())
    xt, t = state(process, clean, base.geometry.on(mask).project(draw(5, 6, 3, seed=1)))
    found = Converted(teacher, process)(xt, t, Cond(mask=mask)).x0
    assert torch.allclose(found, RouseTeacher(process)(xt, t, Cond(mask=mask)).x0, atol=1e-12)
    assert float(found[:, 4:].abs().max()) == 0
    net = Telling()
    guided = Guided(Denoiser(net, flow(), "x0"), 3.0, lambda cond: cond)
    xt, t = state(vp(), draw(5, 2), draw(5, 2, seed=1))
    assert torch.allclose(Converted(guided, vp())(xt, t).x0, guided(*carried(vp(), xt, t, flow())).x0)


def test_casts_reach_the_base_and_its_network_is_registered_once() -> None:
    view = Converted(ring(flow()), trig()).float()
    assert view.base.means.dtype == torch.float32
    plain = Denoiser(nn.Linear(2, 2), flow(), "x0")
    assert set(Converted(plain, trig()).state_dict()) == set(plain.state_dict())
    assert Converted(plain, trig()).double().net.weight.dtype == torch.float64


def test_a_time_per_position_is_legal() -> None:
    a, b = flow(), vp()
    xt, t = draw(1, 4, 2), torch.tensor([[0.1, 0.4, 0.7, 0.9]], dtype=torch.float64)
    found = Converted(CovarianceTeacher(b, ar1_covariance(4, 0.8)), a)(xt, t).x0
    assert torch.allclose(found, CovarianceTeacher(a, ar1_covariance(4, 0.8))(xt, t).x0, atol=1e-12)


def test_a_time_that_the_base_does_not_know_is_refused_or_replaced_by_the_nearest() -> None:
    base = ring(edm())
    pure = torch.full((4,), math.pi / 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="no time with sigma / alpha"):
        Converted(base, trig())(draw(4, 2), pure)
    x = 0.5 * draw(4, 2)
    nearest = Converted(base, trig(), strict=False)(x, pure).x0
    assert torch.allclose(nearest, base(80 * x / 0.5, torch.full_like(pure, 80)).x0, atol=0.05)
    assert bool(torch.isfinite(nearest).all())


def test_a_process_within_another_has_a_twin_for_every_time() -> None:
    cut = within(trig(), edm())
    assert cut.t_max == pytest.approx(math.atan(80 / 0.5), rel=1e-12)
    grid = cut.grid(8)
    found = same_noise(cut, grid, edm())
    assert float(found[0]) == pytest.approx(80, rel=1e-9)
    assert within(vp(), flow()).t_max == vp().t_max


def test_two_processes_without_signal_at_the_end_meet_there() -> None:
    t = torch.full((4,), math.pi / 2, dtype=torch.float64)
    moved, s = carried(trig(sigma_data=0.5), 0.5 * draw(4, 2), t, flow())
    assert torch.allclose(s, torch.ones_like(s), atol=1e-12)
    assert torch.allclose(moved, draw(4, 2), atol=1e-12)


@pytest.mark.parametrize("name", PROCESSES)
def test_predictions_translate_there_and_back(name: str) -> None:
    process, worst = PROCESSES[name], 0.0
    unit = name in ("vp", "cosine", "ddpm")
    names = PREDICTIONS if unit else [p for p in PREDICTIONS if p != "v"]
    inner = torch.linspace(0.02, 0.98, 13, dtype=torch.float64)
    high, low = process.t_max ** (1 / process.rho), process.t_min ** (1 / process.rho)
    t = (low + inner * (high - low)) ** process.rho
    xt, raw = process.corrupt(draw(13, 3), draw(13, 3, seed=1), t), draw(13, 3, seed=2)
    for a, b in itertools.permutations(names, 2):
        there = process.translate(raw, xt, t, a, b)
        back = process.translate(there, xt, t, b, a)
        size = torch.maximum(raw.norm(dim=1), xt.norm(dim=1))
        worst = max(worst, float(((back - raw).norm(dim=1) / size).max()))
    assert worst < 1e-9


def test_a_translation_keeps_the_estimate_and_is_refused_where_it_says_nothing() -> None:
    process, t = flow(), torch.tensor([0.2, 0.8], dtype=torch.float64)
    xt, raw = draw(2, 3), draw(2, 3, seed=1)
    eps = process.translate(raw, xt, t, "flow", "eps")
    assert torch.allclose(process.x0(eps, xt, t, "eps"), process.x0(raw, xt, t, "flow"), atol=1e-13)
    end = torch.ones(2, dtype=torch.float64)
    with pytest.raises(ValueError, match="does not follow"):
        process.translate(raw, xt, end, "eps", "flow")
    with pytest.raises(ValueError, match="does not follow"):
        process.translate(raw, xt, 0 * end, "x0", "eps")
    assert torch.equal(process.translate(raw, xt, end, "eps", "eps"), raw)
