"""Denoisers made from data are exact: against a direct sum, against numbers, and against what they are called after."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from fewstep.processes import edm, flow, vp
from fewstep.protocol import Cond, Key
from fewstep.samplers import heun
from fewstep.testing.analytic import CovarianceTeacher, EmpiricalTeacher, MixtureTeacher

PROCESSES = {"vp": vp(), "edm": edm(), "flow": flow()}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return Key(seed).normal(torch.zeros(shape, dtype=torch.float64))


def at(value: float, rows: int) -> Tensor:
    return torch.full((rows,), value, dtype=torch.float64)


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    found = load_digits()
    return torch.as_tensor(found.data) / 8 - 1, torch.as_tensor(found.target)


def wiener(data: Tensor) -> CovarianceTeacher:
    """The best linear denoiser of any data: exact for a Gaussian with their mean and covariance (Wiener 1949)."""
    return CovarianceTeacher(edm(), torch.cov(data.T, correction=0), data.mean(0))


def test_the_best_linear_error_on_digits_is_what_it_has_when_measured(digits: tuple[Tensor, Tensor]) -> None:
    """tr(C - A C) / d with A = C (C + sigma^2 I)^-1 at sigma = .7; the Monte Carlo error bar is 5 standard errors."""
    data, _ = digits
    teacher, process, noise = wiener(data), edm(), 0.7**2
    closed = (teacher.values * noise / (teacher.values + noise)).mean()
    assert float(closed) == pytest.approx(0.107145, abs=1e-6)
    clean = data.repeat(2, 1)
    t = at(0.7, len(clean))
    xt = process.corrupt(clean, draw(*clean.shape), t)
    each = (teacher(xt, t).x0 - clean).square().mean(1)
    assert abs(float(each.mean()) - 0.107145) < 5 * float(each.std()) / len(each) ** 0.5
    identity = (xt - clean).square().mean()
    assert float(identity) > 0.4


def test_no_linear_denoiser_is_better_on_the_digits(digits: tuple[Tensor, Tensor]) -> None:
    """Least squares on corrupted digits finds the same matrix, up to its own noise."""
    clean = digits[0].repeat(40, 1)
    teacher, t = wiener(digits[0]), at(0.7, len(clean))
    xt = edm().corrupt(clean, draw(*clean.shape), t)
    found = torch.linalg.lstsq(xt - teacher.mean, clean - teacher.mean).solution.T
    exact = teacher.covariance @ torch.linalg.inv(teacher.covariance + 0.49 * torch.eye(64).double())
    assert float((found - exact).abs().max()) < 0.02
    assert float((exact - exact.diag().diag()).abs().max()) > 0.1


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("std", [0.0, 0.3])
def test_the_denoiser_of_stored_points_is_that_of_their_mixture(name: str, std: float) -> None:
    process, data = PROCESSES[name], draw(7, 3)
    xt, t = draw(5, 3, seed=1), torch.linspace(0.2, 0.9, 5, dtype=torch.float64)
    even, width = (torch.full((7,), value, dtype=torch.float64) for value in (1 / 7, std))
    mixture = MixtureTeacher(process, even, data, width)
    found = EmpiricalTeacher(process, data, std=std)
    assert torch.allclose(found(xt, t).x0, mixture(xt, t).x0, atol=1e-11)
    single = EmpiricalTeacher(process, data.float(), std=std)(xt.float(), t).x0
    assert torch.allclose(single.double(), mixture(xt, t).x0, atol=1e-4)


def test_the_exact_flow_of_stored_points_ends_on_stored_points(digits: tuple[Tensor, Tensor]) -> None:
    data, labels = digits
    process = edm(sigma_min=0.02, sigma_max=20, sigma_data=0.7)
    teacher = EmpiricalTeacher(process, data.float(), labels)
    wanted = torch.arange(10).repeat(2)
    start = process.corrupt(None, draw(20, 64).float(), at(20, 20))
    *_, last = heun(teacher, start, process.grid(20), Cond(data=wanted))
    gap, nearest = torch.cdist(last.x.double(), data).min(1)
    assert float(gap.max()) < 0.05
    assert torch.equal(labels[nearest], wanted)


def test_a_class_restricts_the_sum_and_a_negative_class_does_not() -> None:
    data, labels = draw(8, 3), torch.arange(8) % 2
    teacher, xt, t = EmpiricalTeacher(flow(), data, labels), draw(4, 3, seed=1), at(0.6, 4)
    odd = teacher(xt, t, Cond(data=torch.ones(4, dtype=torch.int64))).x0
    assert torch.allclose(odd, EmpiricalTeacher(flow(), data[1::2])(xt, t).x0, atol=1e-12)
    free = teacher(xt, t, Cond(data=torch.full((4,), -1))).x0
    assert torch.allclose(free, EmpiricalTeacher(flow(), data)(xt, t).x0, atol=1e-12)
    assert float((free - odd).abs().max()) > 0.05


def test_a_masked_sum_compares_real_elements_only() -> None:
    data, mask = draw(8, 4), torch.tensor([[True, True, False, False]])
    xt, t = draw(4, 4, seed=1), at(0.6, 4)
    found = EmpiricalTeacher(flow(), data)(xt * mask, t, Cond(mask=mask)).x0
    assert torch.allclose(found[:, :2], EmpiricalTeacher(flow(), data[:, :2])(xt[:, :2], t).x0, atol=1e-12)


def test_draws_have_the_moments_of_blurred_points() -> None:
    data, rows = draw(6, 2), 100_000
    teacher = EmpiricalTeacher(flow(), data, std=0.5)
    drawn = teacher.draw(Key(3).uniform((rows,)), draw(rows, 2, seed=4))
    expected = torch.cov(data.T, correction=0) + 0.25 * torch.eye(2)
    assert float((torch.cov(drawn.T) - expected).abs().max()) < 0.03
