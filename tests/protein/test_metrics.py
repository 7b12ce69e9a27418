"""Metrics: perfect on real chains, bad on broken ones, with intervals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fewstep.protocol import Batch, Key, Score
from fewstep_protein.metrics import backbones as metrics
from fewstep_protein.structures import segments, sources


@pytest.fixture(scope="module")
def real() -> Batch:
    return sources.Windows(segments.split(held_out=True), 24, 16, 24).batch(0, Key(0))


def measure(name: str, x: Tensor, batch: Batch) -> Score:
    metric = next(m for m in metrics.backbone_metrics() if m.name == name)
    return metric.fn(x, batch, Key(1))


@pytest.mark.parametrize("name", ["bond_distance", "rg_distance", "pair_distance", "dihedral_distance"])
def test_real_chains_are_at_distance_zero_from_themselves(name: str, real: Batch) -> None:
    assert measure(name, real.x, real).value == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", ["bond_distance", "rg_distance", "pair_distance"])
def test_chains_ten_percent_too_large_are_told_by_every_distance(name: str, real: Batch) -> None:
    score = measure(name, 1.1 * real.x, real)
    assert score.low <= score.high
    assert score.low > 0.3


def test_real_bonds_are_valid_and_shrunken_ones_are_not(real: Batch) -> None:
    assert measure("valid_bonds", real.x, real).value > 0.99
    assert measure("valid_bonds", 0.9 * real.x, real).value < 0.05


def test_a_mirror_image_is_told_by_handedness_and_by_the_dihedrals(real: Batch) -> None:
    mirrored = real.x * torch.tensor([1.0, 1.0, -1.0])
    # Real windows were right-handed in 0.83 to 0.96 of the draws of 24 that were tried; a mirror turns the share over.
    assert measure("right_handed", real.x, real).value > 0.6
    assert measure("right_handed", mirrored, real).value < 0.4
    assert measure("dihedral_distance", mirrored, real).value > 0.3
    assert measure("bond_distance", mirrored, real).value == pytest.approx(0, abs=1e-5)


def test_padding_does_not_change_a_number(real: Batch) -> None:
    wide = Batch(
        like=torch.nn.functional.pad(real.like, (0, 0, 0, 5)),
        x=torch.nn.functional.pad(real.x, (0, 0, 0, 5)),
        cond=type(real.cond)(mask=torch.nn.functional.pad(real.mask, (0, 0, 0, 5))),
    )
    for metric in metrics.backbone_metrics():
        here, there = metric.fn(real.x, real, Key(1)), metric.fn(wide.x, wide, Key(1))
        assert there == here


def test_the_interval_of_a_mean_holds_it_and_says_how_many_chains(real: Batch) -> None:
    score = measure("helix", real.x, real)
    assert score.low <= score.value <= score.high
    assert score.n == 24
