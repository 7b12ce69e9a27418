"""Brownian motion on rotations against the series of the heat kernel, the law of Maxwell, and uniform rotations.

Distribution function of the angle at variance v, from characters:
pi F(a) = a - sin a + sum_l (2 l + 1) exp(-l (l + 1) v / 2) (sin(l a) / l - sin((l + 1) a) / (l + 1)).
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fewstep.processes import SO3, GeodesicFlow, HeatFlow, Product, flow
from fewstep.processes.heat import carried_angle, outward
from fewstep.processes.rotations import log
from fewstep.protocol import Batch, Cond, Estimate, Flow, Key
from fewstep.testing.checks import run_checks
from fewstep.testing.components import check_process

PROCESS = HeatFlow()


def turns(*shape: int, seed: int = 0) -> Tensor:
    return PROCESS.noise(Batch(torch.zeros(*shape, 3, 3, dtype=torch.float64)), Key(seed))


def at(value: float, rows: int) -> Tensor:
    return torch.full((rows,), value, dtype=torch.float64)


def series(angle: Tensor, variance: float) -> Tensor:
    """The distribution function above."""
    l = torch.arange(1, 600, dtype=torch.float64)  # noqa: E741 - the degree of a representation
    a = angle.unsqueeze(-1)
    waves = (l * a).sin() / l - ((l + 1) * a).sin() / (l + 1)
    total = ((2 * l + 1) * torch.exp(-l * (l + 1) * variance / 2) * waves).sum(-1)
    return (angle - angle.sin() + total) / math.pi


def uniform_angles(shares: Tensor) -> Tensor:
    """Angles of uniform rotations with these values of their distribution function, by bisection."""
    low, high = torch.zeros_like(shares), torch.full_like(shares, math.pi)
    for _ in range(60):
        middle = (low + high) / 2
        below = (middle - middle.sin()) / math.pi < shares
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


@pytest.mark.parametrize("t", [0.05, 0.3, 0.6, 0.8, 0.9])
def test_the_flow_carries_uniform_angles_to_the_heat_kernel(t: float) -> None:
    shares = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    start, end = PROCESS.variance(at(1.0, 50)), PROCESS.variance(at(t, 50))
    angle = carried_angle(uniform_angles(shares), start, end)
    assert float((series(angle, float(end[0])) - shares).abs().max()) < 5e-6
    assert float((series(angle, 1.1 * float(end[0])) - shares).abs().max()) > 1e-4


def test_small_spreads_have_the_law_of_maxwell_and_large_ones_are_uniform() -> None:
    shares = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    start = PROCESS.variance(at(1.0, 50))
    small = carried_angle(uniform_angles(shares), start, PROCESS.variance(at(0.0, 50))) / PROCESS.sigma_min
    maxwell = torch.erf(small / math.sqrt(2)) - math.sqrt(2 / math.pi) * small * torch.exp(
        -small.square() / 2
    )
    assert float((maxwell - shares).abs().max()) < 1e-4
    large = series(uniform_angles(shares), PROCESS.sigma_max**2)
    assert float((large - shares).abs().max()) < 1e-6


@pytest.mark.parametrize("variance", [0.05, 0.5, 3.0])
def test_the_outward_speed_is_minus_half_the_slope_of_the_log_density(variance: float) -> None:
    """And so moves every share of the mass with the series: dF/dv + speed dF/da = 0."""
    angle, v = torch.linspace(0.1, 3.0, 30, dtype=torch.float64), variance
    h = 2e-5 * v
    by_variance = (series(angle, v + h) - series(angle, v - h)) / (2 * h)
    density = (series(angle + h, v) - series(angle - h, v)) / (2 * h)
    speed = outward(angle, torch.full_like(angle, v))
    assert torch.allclose(by_variance + speed * density, torch.zeros_like(angle), atol=1e-7)


@pytest.mark.parametrize("t", [0.2, 0.7])
def test_corruption_and_its_transitions_have_the_law_of_the_heat_kernel(t: float) -> None:
    """In one move and in two; Kolmogorov's bound at 1e-6."""
    rows = 4000
    clean, variance = turns(1, seed=1).expand(rows, 3, 3), float(PROCESS.variance(at(t, 1)))
    once = PROCESS.corrupt(clean, turns(rows, seed=2), at(t, rows))
    half = PROCESS.corrupt(clean, turns(rows, seed=3), at(t - 0.05, rows))
    twice = PROCESS.corrupt(half, turns(rows, seed=4), at(t, rows), since=at(t - 0.05, rows))
    level = 2.7 / math.sqrt(rows)
    empirical = (torch.arange(rows) + 0.5) / rows
    for state, fits in ((once, True), (twice, True), (half, False)):
        angle = log(clean.mT @ state).norm(dim=-1).sort().values
        assert (float((series(angle, variance) - empirical).abs().max()) < level) is fits


def test_a_heat_flow_obeys_the_laws_alone_and_beside_places() -> None:
    assert isinstance(PROCESS, Flow)
    mask = torch.ones(4, 5, 1, 1, dtype=torch.bool)
    mask[1, 3:] = False
    clean = SO3().on(mask).project(turns(4, 5))
    pair = {"place": Key(9).normal(torch.zeros(4, 5, 3)), "turn": turns(4, 5)}
    both = Product({"place": flow(), "turn": PROCESS})
    for process, batch in ((PROCESS, Batch(clean, clean, Cond(mask=mask))), (both, Batch(pair, pair))):
        broken = [o for o in run_checks(check_process(process, batch)) if not o.ok]
        assert not broken, broken


def test_jumps_compose_and_derivatives_reach_the_estimate() -> None:
    clean, rows = turns(6), 6
    xt = PROCESS.corrupt(clean, turns(6, seed=1), at(0.8, rows))
    through = PROCESS.jump(
        PROCESS.jump(xt, Estimate(clean), at(0.8, 6), at(0.5, 6)), Estimate(clean), at(0.5, 6), at(0.2, 6)
    )
    assert torch.allclose(through, PROCESS.jump(xt, Estimate(clean), at(0.8, 6), at(0.2, 6)), atol=1e-5)
    raw = Key(3).normal(torch.zeros(6, 3, dtype=torch.float64)).requires_grad_()
    est = Estimate(PROCESS.x0(raw, xt, at(0.8, 6), "tangent"))
    (gradient,) = torch.autograd.grad(
        PROCESS.jump(xt, est, at(0.8, 6), at(0.3, 6)).square().sum() + est.x0.sum(), raw
    )
    assert bool(torch.isfinite(gradient).all())
    assert float(gradient.abs().max()) > 0.1


def test_a_heat_flow_is_not_the_geodesic_flow_and_refuses_its_velocities() -> None:
    clean, noise, t = turns(6), turns(6, seed=1), at(0.5, 6)
    straight = GeodesicFlow().corrupt(clean, noise, t)
    assert float(log(straight.mT @ PROCESS.corrupt(clean, noise, t)).norm(dim=-1).max()) > 0.1
    with pytest.raises(ValueError, match="predict x0 or tangent"):
        PROCESS.x0(torch.zeros(6, 3), straight, t, "flow")
