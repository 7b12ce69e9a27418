"""Exact flows and samplers of exact teachers, on every process, against formulas and numbers.

Data N(.7, .6^2) unless said otherwise, V_t = alpha^2 s^2 + sigma^2. Flow map t -> r:
alpha_r mu + sqrt(V_r / V_t) (x - alpha_t mu).
DDIM multiplier: (alpha_r alpha_t s^2 + sigma_r sigma_t) / V_t. For a covariance, in every principal direction.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.processes import Gaussian, cosine, ddpm, edm, flow, trig, vp
from fewstep.protocol import Cond, Key
from fewstep.samplers import ddim, heun
from fewstep.testing.analytic import CovarianceTeacher, GaussianTeacher, MixtureTeacher

MEAN, STD = 0.7, 0.6
PROCESSES: dict[str, Gaussian] = {
    "vp": vp(),
    "edm": edm(),
    "flow": flow(),
    "trig": trig(),
    "cosine": cosine(),
    "ddpm": ddpm(),
}
every_process = pytest.mark.parametrize("name", PROCESSES)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return Key(seed).normal(torch.zeros(shape, dtype=torch.float64))


def ladder(process: Gaussian, high: float, low: float, steps: int) -> Tensor:
    """Times whose sigma / alpha falls geometrically."""
    ends = torch.tensor([high, low], dtype=torch.float64).log()
    share = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return process.law.time_of_ratio((ends[0] + share * (ends[1] - ends[0])).exp())


def runge_kutta(teacher: Any, x: Tensor, times: Tensor) -> Tensor:
    """The classical fourth-order method along the teacher's velocity."""

    def slope(state: Tensor, t: Tensor) -> Tensor:
        now = t.expand(len(state))
        return teacher.process.velocity(state, teacher(state, now), now)

    for t, s in itertools.pairwise(times):
        h, middle = s - t, (t + s) / 2
        a = slope(x, t)
        b = slope(x + h / 2 * a, middle)
        c = slope(x + h / 2 * b, middle)
        x = x + h / 6 * (a + 2 * b + 2 * c + slope(x + h * c, s))
    return x


def rotated(dimensions: int = 3) -> tuple[Tensor, Tensor]:
    """A covariance with unequal axes that point nowhere in particular, and its square root's inverse."""
    axes = torch.linalg.qr(draw(dimensions, dimensions, seed=5)).Q
    values = torch.linspace(0.1, 1.5, dimensions, dtype=torch.float64)
    return axes @ values.diag() @ axes.T, axes


def teachers(process: Gaussian) -> dict[str, Any]:
    return {
        "line": GaussianTeacher(process, MEAN, STD),
        "diagonal": GaussianTeacher(process, MEAN, torch.tensor([0.3, 0.6, 1.2], dtype=torch.float64)),
        "rotated": CovarianceTeacher(process, rotated()[0], torch.tensor([0.7, -0.2, 0.1])),
    }


@every_process
@pytest.mark.parametrize("law", ["line", "diagonal", "rotated"])
def test_integration_ends_where_the_flow_map_says(name: str, law: str) -> None:
    """Integrated in 100 steps. A chain has kinks, which the slopes of one step see from two sides: 1e-3 there, else 1e-6."""
    teacher = teachers(PROCESSES[name])[law]
    times = ladder(PROCESSES[name], 5.0, 0.2, 100)
    x = PROCESSES[name].corrupt(draw(4, 3), draw(4, 3, seed=1), times[:1].expand(4))
    exact = teacher.flow_map(x, times[:1].expand(4), times[-1:].expand(4))
    error = float((runge_kutta(teacher, x, times) - exact).abs().max())
    assert error < (1e-3 if name == "ddpm" else 1e-6)
    wrong = GaussianTeacher(PROCESSES[name], MEAN, 0.8)
    assert float((runge_kutta(wrong, x, times[::10]) - exact).abs().max()) > 1e-2


@every_process
@pytest.mark.parametrize("law", ["line", "diagonal", "rotated"])
def test_the_flow_map_composes_and_stands_still(name: str, law: str) -> None:
    teacher = teachers(PROCESSES[name])[law]
    t, s, r = (time.expand(4) for time in ladder(PROCESSES[name], 5.0, 0.1, 2)[:, None])
    x = draw(4, 3)
    assert torch.allclose(teacher.flow_map(x, t, t), x, atol=1e-13)
    there = teacher.flow_map(teacher.flow_map(x, t, s), s, r)
    assert torch.allclose(there, teacher.flow_map(x, t, r), atol=1e-12)


@every_process
def test_the_flow_from_pure_noise_has_the_closed_form_bias(name: str) -> None:
    """N(0, sigma_T^2) arrives as N(mu (1 - s alpha_T / sqrt V_T), s^2 sigma_T^2 / V_T), in every principal direction."""
    process = PROCESSES[name]
    clean, noisy = process.law.time_of_ratio(torch.tensor([0.0, 5.0], dtype=torch.float64))
    alpha, sigma = process.alpha(noisy), process.sigma(noisy)
    covariance, axes = rotated()
    mean = torch.tensor([0.7, -0.2, 0.1], dtype=torch.float64)
    teacher = CovarianceTeacher(process, covariance, mean)
    starts = torch.cat([torch.zeros(1, 3).double(), sigma * torch.eye(3)])
    landed = teacher.flow_map(starts, noisy.expand(4), clean.expand(4))
    values = torch.linspace(0.1, 1.5, 3, dtype=torch.float64)
    total = alpha.square() * values + sigma.square()
    spread = (landed[1:] - landed[:1]).T
    expected = axes @ (values * sigma.square() / total).diag() @ axes.T
    assert torch.allclose(spread @ spread.T, expected, atol=1e-12)
    bias = axes @ ((1 - values.sqrt() * alpha / total.sqrt()) * (axes.T @ mean))
    assert torch.allclose(landed[0], bias, atol=1e-12)
    assert float((landed[0] - mean).norm()) > 0.01


WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)
MEANS = torch.tensor([-2.0, 1.5], dtype=torch.float64)
STDS = torch.tensor([0.5, 0.4], dtype=torch.float64)
QUOTED = (
    -2.511849, -2.273157, -1.987532, -1.552974, 0.949070, 1.253199, 1.454659, 1.625992, 1.783437, 1.933239, 2.078386,
)  # fmt: skip


def distribution(x: Tensor, alpha: Tensor, sigma: Tensor, stds: Tensor = STDS) -> Tensor:
    """Of the mixture on the line, corrupted."""
    spread = ((alpha * stds).square() + sigma.square()).sqrt()
    return (WEIGHTS * torch.special.ndtr((x[:, None] - alpha * MEANS) / spread)).sum(1)


def rearranged(x: Tensor, process: Gaussian, t: Tensor, r: Tensor, stds: Tensor = STDS) -> Tensor:
    """CDF_r^-1(CDF_t(x)) by bisection; from the upper tail where that is smaller."""
    sign = torch.where(x > 0, -1.0, 1.0)

    def tail(at: Tensor, time: Tensor) -> Tensor:
        alpha, sigma = process.alpha(time), process.sigma(time)
        spread = ((alpha * stds).square() + sigma.square()).sqrt()
        return (WEIGHTS * torch.special.ndtr(sign[:, None] * (at[:, None] - alpha * MEANS) / spread)).sum(1)

    wanted, low, high = tail(x, t), torch.full_like(x, -30.0), torch.full_like(x, 30.0)
    for _ in range(100):
        middle = (low + high) / 2
        below = sign * (tail(middle, r) - wanted) < 0
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def test_on_a_line_the_flow_of_a_mixture_is_the_monotone_rearrangement() -> None:
    """Numbers for sigma from 15 to .001 and x = -25, -20, ..., 25; integrated along the exact velocity."""
    process = edm(sigma_min=0.001, sigma_max=15.0)
    teacher = MixtureTeacher(process, WEIGHTS, MEANS[:, None], STDS)
    x = torch.arange(-25, 26, 5).double()
    t, r = torch.tensor([15.0, 0.001], dtype=torch.float64)
    exact = rearranged(x, process, t, r)
    assert torch.allclose(exact, torch.tensor(QUOTED, dtype=torch.float64), atol=6e-7)
    found = runge_kutta(teacher, x[:, None], ladder(process, 15.0, 0.001, 300))[:, 0]
    assert float((found - exact).abs().max()) < 1e-6
    assert float((found - x / 15).abs().max()) > 0.1


@every_process
def test_the_rearrangement_is_the_flow_of_every_process(name: str) -> None:
    process = PROCESSES[name]
    times = ladder(process, 8.0, 0.1, 100)
    x = 8 * process.alpha(times[0]) * torch.linspace(-2, 2, 9, dtype=torch.float64)
    teacher = MixtureTeacher(process, WEIGHTS, MEANS[:, None], STDS)
    found = runge_kutta(teacher, x[:, None], times)[:, 0]
    exact = rearranged(x, process, times[0], times[-1])
    assert float((found - exact).abs().max()) < (1e-2 if name == "ddpm" else 1e-4)


def test_in_space_a_mixture_along_a_line_is_rearranged_along_it_and_scaled_across() -> None:
    """Equal widths, means on a line that points nowhere in particular: the density factors along and across."""
    process, axis = flow(), draw(3, seed=9) / draw(3, seed=9).norm()
    even = torch.full((2,), 0.45, dtype=torch.float64)
    teacher = MixtureTeacher(process, WEIGHTS, MEANS[:, None] * axis, even)
    times, x = ladder(process, 8.0, 0.1, 100), draw(12, 3)
    along = x @ axis
    found = runge_kutta(teacher, x, times)
    ratio = [(process.alpha(t) * 0.45).square() + process.sigma(t).square() for t in (times[0], times[-1])]
    across = (ratio[1] / ratio[0]).sqrt() * (x - along[:, None] * axis)
    exact = rearranged(along, process, times[0], times[-1], even)[:, None] * axis + across
    assert float((found - exact).abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("solver", "quoted"),
    [
        (ddim, {4: 0.276326, 8: 0.424373, 16: 0.504665, 32: 0.550258, 64: 0.574584}),
        (heun, {4: 1.384555, 8: 0.758279, 16: 0.635684, 32: 0.608347}),
    ],
)
def test_samplers_miss_the_spread_by_known_numbers(
    solver: Callable[..., Any], quoted: dict[int, float]
) -> None:
    """EDM grid .002 ... 80, data of spread .6, from N(0, 80^2): DDIM shrinks too much, Heun too little; exact .599986."""
    process = edm()
    teacher = GaussianTeacher(process, 0.0, STD)
    start = torch.full((1, 1), 80.0, dtype=torch.float64)
    ends = (torch.tensor([v], dtype=torch.float64) for v in (80.0, 0.002))
    assert float(teacher.flow_map(start, *ends)) == pytest.approx(0.599986, abs=1e-6)
    for steps, expected in quoted.items():
        *_, last, _ = solver(teacher, start, process.grid(steps), Cond())
        assert float(last.x) == pytest.approx(expected, abs=1e-6)


@every_process
def test_ddim_multiplies_every_principal_direction_by_its_own_product(name: str) -> None:
    process, (covariance, axes) = PROCESSES[name], rotated(4)
    times = ladder(process, 8.0, 0.05, 7)
    *_, last, _ = ddim(CovarianceTeacher(process, covariance), torch.eye(4).double(), times, Cond())
    values = torch.linspace(0.1, 1.5, 4, dtype=torch.float64)
    steps = [
        GaussianTeacher(process, 0.0, values.sqrt()).step_factor(t[None], s[None])
        for t, s in itertools.pairwise(times)
    ]
    expected = axes @ torch.stack(steps).prod(0).diag() @ axes.T
    assert torch.allclose(last.x, expected, atol=1e-12)
    exact = (process.alpha(times[-1]).square() * values + process.sigma(times[-1]).square()) / (
        process.alpha(times[0]).square() * values + process.sigma(times[0]).square()
    )
    assert float((torch.stack(steps).prod(0) - exact.sqrt()).abs().max()) > 1e-3


def law_on(process: Gaussian, kind: str) -> tuple[Any, Callable[[Tensor, Tensor, Tensor], Tensor]]:
    """A teacher of (B, 1) or (B, 3) states and its exact flow map."""
    if kind == "covariance":
        teacher = CovarianceTeacher(process, rotated()[0], torch.tensor([0.7, -0.2, 0.1]))
        return teacher, lambda x, t, s: teacher.flow_map(x, t.expand(len(x)), s.expand(len(x)))
    mixture = MixtureTeacher(process, WEIGHTS, MEANS[:, None], STDS)
    return mixture, lambda x, t, s: rearranged(x[:, 0], process, t, s)[:, None]


@pytest.mark.parametrize(
    ("name", "solver", "rate"),
    [(name, ddim, 2.0) for name in PROCESSES] + [(name, heun, 4.0) for name in PROCESSES if name != "ddpm"],
)
@pytest.mark.parametrize("kind", ["covariance", "mixture"])
def test_errors_fall_with_the_order_of_the_solver(
    name: str, kind: str, solver: Callable[..., Any], rate: float
) -> None:
    """DDIM's error halves, Heun's quarters when steps double, where the path is smooth.

    The slope of a chain is not: Heun stays with an error of 2e-4 there, as any method that reads slopes between kinks.
    """
    process = PROCESSES[name]
    teacher, exact = law_on(process, kind)
    dimensions = 3 if kind == "covariance" else 1
    ends = ladder(process, 3.0, 0.5, 1)
    x = process.corrupt(draw(6, dimensions), draw(6, dimensions, seed=1), ends[:1].expand(6))
    wanted = exact(x, ends[0], ends[1])

    def error(steps: int) -> float:
        *_, last, _ = solver(teacher, x, ladder(process, 3.0, 0.5, steps), Cond())
        return float((last.x - wanted).norm())

    errors = [error(steps) for steps in (16, 32, 64)]
    for coarse, fine in itertools.pairwise(errors):
        assert 0.85 * rate < coarse / fine < 1.15 * rate
    assert errors[0] > 1e-6
