"""Metrics of backbones: perfect on real chains, bad on broken ones, with intervals over whole chains."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fewstep.protocol import Batch, Key, Score
from fewstep_protein.metrics import backbones, statistics
from fewstep_protein.structures import segments, sources

METRICS = {metric.name: metric for metric in backbones.backbone_metrics()}
CHEAP = sorted(set(METRICS) - {"pairwise_tm", "clusters", "training_tm"})
"""Without alignments, which have a file of tests of their own."""


@pytest.fixture(scope="module")
def real() -> Batch:
    return sources.Windows(segments.split(held_out=True), 24, 16, 24).batch(0, Key(0))


def measure(name: str, x: Tensor, batch: Batch) -> Score:
    return METRICS[name].fn(x, batch, Key(1))


def test_quality_is_never_reported_without_diversity() -> None:
    assert {
        "valid_bonds",
        "clashes",
        "rg_distance",
        "helix",
        "pairwise_tm",
        "clusters",
        "training_tm",
    } <= set(METRICS)


@pytest.mark.parametrize(
    "name",
    [
        "bond_distance",
        "bond_mean_error",
        "bond_std_error",
        "rg_distance",
        "rg_ratio_distance",
        "pair_distance",
        "dihedral_distance",
        "secondary_distance",
        "exploded",
    ],
)
def test_real_chains_are_at_distance_zero_from_themselves(name: str, real: Batch) -> None:
    assert measure(name, real.x, real).value == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ["bond_distance", "bond_mean_error", "rg_distance", "pair_distance"])
def test_chains_ten_percent_too_large_are_told_by_every_distance_of_sizes(name: str, real: Batch) -> None:
    score = measure(name, 1.1 * real.x, real)
    assert score.low <= score.value <= score.high
    assert score.low > 0.3


def test_a_size_over_that_of_a_globule_is_off_by_the_factor_of_the_chains(real: Batch) -> None:
    ratio = measure("rg_ratio_distance", 1.1 * real.x, real).value
    mean = float(backbones.bonds.Ensemble(list(_chains(real))).columns["rg_ratio"].mean())
    assert ratio == pytest.approx(0.1 * mean, rel=1e-4)


def test_the_mean_and_the_spread_of_bonds_are_those_of_stretched_chains(real: Batch) -> None:
    assert measure("bond_mean_error", 1.1 * real.x, real).value == pytest.approx(0.38, abs=0.003)
    noisy = real.x + 0.03 * Key(3).normal(real.x) * real.mask
    # A bond of length b between points off by s per axis has variance 2 s^2 along itself.
    assert measure("bond_std_error", noisy, real).value == pytest.approx(0.3 * math.sqrt(2), abs=0.05)


@pytest.mark.parametrize(
    ("name", "rises"),
    [
        ("valid_bonds", False),
        ("bond_distance", True),
        ("bond_std_error", True),
        ("clashes", True),
        ("dihedral_distance", True),
        ("secondary_distance", True),
        ("frechet_geometry", True),
    ],
)
def test_more_noise_on_real_chains_never_looks_better(name: str, rises: bool, real: Batch) -> None:
    noise = Key(3).normal(real.x) * real.mask
    found = [measure(name, real.x + size * noise, real).value for size in (0.0, 0.02, 0.06, 0.18)]
    assert found == sorted(found, reverse=not rises)
    assert abs(found[-1] - found[0]) > 0.05


def test_real_bonds_are_valid_and_shrunken_ones_are_not(real: Batch) -> None:
    assert measure("valid_bonds", real.x, real).value > 0.99
    assert measure("valid_bonds", 0.9 * real.x, real).value < 0.05


def test_one_broken_bond_spoils_one_chain(real: Batch) -> None:
    x = real.x.clone()
    x[0, :1] += 0.1
    assert measure("valid_chains", real.x, real).value == 1
    assert measure("valid_chains", x, real).value == pytest.approx(23 / 24)


def test_a_mirror_image_is_told_by_handedness_and_by_the_dihedrals(real: Batch) -> None:
    mirrored = real.x * torch.tensor([1.0, 1.0, -1.0])
    hands = [measure(name, real.x, real).value for name in ("right_handed", "right_handed_helix")]
    turned = [measure(name, mirrored, real).value for name in ("right_handed", "right_handed_helix")]
    assert min(hands) > 0.9
    assert turned == pytest.approx([1 - share for share in hands], abs=1e-9)
    assert measure("dihedral_distance", mirrored, real).value > 0.3
    assert measure("frechet_geometry", mirrored, real).value > 0.1
    assert measure("bond_distance", mirrored, real).value == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), 1e6])
def test_chains_that_exploded_are_counted_as_failures_by_every_number(broken: float, real: Batch) -> None:
    x = real.x.clone()
    x[::2, ::3] = broken
    scores = {name: measure(name, x, real) for name in CHEAP}
    assert scores["exploded"].value == 0.5
    assert scores["valid_bonds"].value < 0.7
    for name in ("bond_distance", "bond_mean_error", "rg_distance", "secondary_distance", "frechet_geometry"):
        assert scores[name].value > 2 * measure(name, real.x + 0.01, real).value + 0.03
    assert all(math.isfinite(score.value) for score in scores.values())


@pytest.mark.parametrize("name", CHEAP)
def test_turning_and_moving_chains_changes_no_number(name: str, real: Batch) -> None:
    turn, _ = torch.linalg.qr(Key(4).normal(torch.zeros(3, 3).double()))
    turn = turn * torch.linalg.det(turn)
    moved = ((real.x.double() @ turn.T + 1.5) * real.mask).float()
    here, there = measure(name, real.x, real), measure(name, moved, real)
    # Angles and angstroms near an edge of a bin may change sides in single precision.
    assert there.value == pytest.approx(here.value, abs=0.01)


@pytest.mark.parametrize("name", CHEAP)
def test_padding_does_not_change_a_number(name: str, real: Batch) -> None:
    wide = Batch(
        like=torch.nn.functional.pad(real.like, (0, 0, 0, 5)),
        x=torch.nn.functional.pad(real.x, (0, 0, 0, 5)),
        cond=type(real.cond)(mask=torch.nn.functional.pad(real.mask, (0, 0, 0, 5))),
    )
    assert measure(name, wide.x, wide) == measure(name, real.x, real)


def test_the_interval_of_a_mean_holds_it_and_says_how_many_chains(real: Batch) -> None:
    score = measure("helix", real.x, real)
    assert score.low <= score.value <= score.high
    assert score.n == 24


def test_samples_that_were_written_over_are_measured_again(real: Batch) -> None:
    x = real.x.clone()
    assert measure("valid_bonds", x, real).value > 0.99
    x *= 0.9
    assert measure("valid_bonds", x, real).value < 0.05


def test_the_area_between_distributions_is_that_of_sorted_values() -> None:
    made = [Key(0).at(i).normal(torch.zeros(40)) for i in range(6)]
    real = [0.5 + 2 * Key(1).at(i).normal(torch.zeros(40)) for i in range(6)]
    exact = (torch.cat(made).double().sort().values - torch.cat(real).double().sort().values).abs().mean()
    assert statistics.earth_movers(made, real, Key(2)).value == pytest.approx(float(exact), rel=1e-9)


def test_an_interval_covers_other_draws_of_the_same_chains() -> None:
    true = [torch.linspace(-3, 3, 2001)]
    scores = [
        statistics.earth_movers([0.6 + Key(k).at(i).normal(torch.zeros(5)) for i in range(60)], true, Key(2))
        for k in range(12)
    ]
    middle = sum(score.value for score in scores) / len(scores)
    assert sum(score.low <= middle <= score.high for score in scores) >= 9


def test_a_share_is_of_all_things_not_a_mean_of_shares() -> None:
    score = statistics.ratio(torch.tensor([9, 0, 0]), torch.tensor([9, 1, 0]), Key(0))
    assert score.value == pytest.approx(0.9)
    assert statistics.ratio(torch.zeros(3), torch.zeros(3), Key(0)).value == 0.5


def _chains(batch: Batch) -> list[Tensor]:
    return [chain[real[:, 0]] for chain, real in zip(batch.x, batch.mask, strict=True)]
