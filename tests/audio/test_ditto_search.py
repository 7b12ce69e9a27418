"""The search of DITTO-2 over the initial noise, and the distance that judges what it finds."""

from __future__ import annotations

import math

import pytest
import torch

from fewstep.protocol import Key
from fewstep_audio.ditto2.measures import distance as frechet
from fewstep_audio.ditto2.optimise import Search, cosines_of, energy, optimise, turned, turned_back


def test_the_search_keeps_the_best_of_each_row_and_stops_when_nothing_improves() -> None:
    target = torch.tensor([[1.0], [-1.0]])
    found = optimise(
        lambda z: z, lambda x: (x - target).square().mean(1), torch.zeros(2, 1), Search(500, 0.1, patience=5)
    )
    assert len(found.losses) < 300
    torch.testing.assert_close(found.noise, target, atol=0.1, rtol=0)
    assert torch.equal(found.best, found.losses.amin(0))
    again = (found.noise - target).square().mean(1)
    torch.testing.assert_close(again, found.best)


def test_the_search_stops_when_it_is_good_enough() -> None:
    found = optimise(
        lambda z: z, lambda x: x.square().mean(1), torch.ones(1, 4), Search(100, 0.05, enough=0.5)
    )
    assert 0.4 < float(found.best) <= 0.5
    assert len(found.losses) < 16


def test_noise_as_waves_is_noise_and_comes_back() -> None:
    z = Key(0).normal(torch.zeros(2, 5, 7))
    waves = cosines_of(z)
    there = turned(z, waves)
    torch.testing.assert_close(turned_back(there, waves), z)
    torch.testing.assert_close(there.norm(), z.norm())
    torch.testing.assert_close(there[:, 0, 0], z.sum((1, 2)) / math.sqrt(35))


def test_one_step_of_the_search_moves_the_mean_by_its_rate_not_by_that_of_all_coordinates() -> None:
    size = 64 * 64
    z = torch.zeros(1, 64, 64)
    found = optimise(lambda z: z, lambda x: 100 - x.sum((1, 2)), z, Search(1, lr=0.05))
    assert float(found.noise.sum()) / math.sqrt(size) == pytest.approx(0.05, rel=1e-3)


def test_noise_lies_on_its_shell() -> None:
    assert energy(Key(0).normal(torch.zeros(3, 192, 64))).tolist() == pytest.approx([1, 1, 1], abs=0.05)


def test_the_frechet_distance_of_shifted_and_widened_samples_is_known() -> None:
    x = Key(3).normal(torch.zeros(4000, 3, dtype=torch.float64))
    assert float(frechet(x, x)) == pytest.approx(0, abs=1e-9)
    assert float(frechet(x + 2, x)) == pytest.approx(12, rel=1e-6)
    assert float(frechet(3 * x, x)) == pytest.approx(
        4 * float(x.T.cov().trace()) + float((2 * x.mean(0)).square().sum())
    )
