"""Distances of Gaussians against closed forms and against scipy."""

from __future__ import annotations

import pytest
import torch
from scipy.linalg import sqrtm

from fewstep.protocol import Key
from fewstep.runs.frechet import bures, frechet


def test_the_distance_of_two_gaussians_on_a_line_is_its_formula() -> None:
    mean, other = torch.tensor([1.0]).double(), torch.tensor([-2.0]).double()
    found = frechet(mean, torch.tensor([[4.0]]).double(), other, torch.tensor([[9.0]]).double())
    assert float(found) == pytest.approx(3**2 + (2 - 3) ** 2)


def test_covariances_that_commute_are_compared_axis_by_axis() -> None:
    turn, _ = torch.linalg.qr(Key(0).normal(torch.zeros(5, 5).double()))
    first, second = torch.arange(1, 6).double(), torch.tensor([2.0, 0.0, 1.0, 5.0, 3.0]).double()
    found = bures(turn * first @ turn.T, turn * second @ turn.T)
    assert float(found) == pytest.approx(float((first.sqrt() - second.sqrt()).square().sum()), abs=1e-6)


def test_covariances_that_do_not_commute_agree_with_scipy() -> None:
    draw = torch.Generator().manual_seed(1)
    first, second = (torch.randn(9, 6, generator=draw).double() for _ in range(2))
    one, two = first.T @ first, second.T @ second
    shared = torch.from_numpy(sqrtm((one @ two).numpy()).real)
    expected = float((one + two - 2 * shared).trace())
    assert float(frechet(torch.zeros(6), one, torch.zeros(6), two)) == pytest.approx(expected, rel=1e-7)


def test_many_covariances_are_compared_at_once_in_either_order() -> None:
    roots = Key(2).normal(torch.zeros(3, 4, 4, dtype=torch.float64))
    many, one = roots @ roots.mT, torch.eye(4, dtype=torch.float64)
    found = bures(many, one)
    torch.testing.assert_close(found, torch.stack([bures(each, one) for each in many]))
    torch.testing.assert_close(found, bures(one.expand_as(many), many))
    expected = (torch.linalg.eigvalsh(many).sqrt() - 1).square().sum(-1)
    torch.testing.assert_close(found, expected)
    assert float(bures(one, one)) == pytest.approx(0, abs=1e-12)
