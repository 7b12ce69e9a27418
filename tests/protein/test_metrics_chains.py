"""Numbers of single chains, on shapes for which they can be worked out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fewstep_protein.metrics.chains import describe, describe_all
from fewstep_protein.structures import segments


def test_an_ideal_helix_is_all_that_a_helix_should_be(helix: Callable[..., Tensor]) -> None:
    count, radius, rise, turn = 24, 2.3, 1.5, math.radians(100)
    found = describe(helix(count))
    # Points on a helix: r^2 (1 - |mean of e^(i turn k)|^2) + rise^2 (n^2 - 1) / 12.
    off_axis = (math.sin(count * turn / 2) / (count * math.sin(turn / 2))) ** 2
    size = math.sqrt(radius**2 * (1 - off_axis) + rise**2 * (count**2 - 1) / 12)
    bond = math.sqrt((2 * radius * math.sin(turn / 2)) ** 2 + rise**2)
    assert found["length"] == count
    assert found["bond_mean"] == pytest.approx(bond, rel=1e-9)
    assert found["bond_std"] == pytest.approx(0, abs=1e-6)
    assert found["rg"] == pytest.approx(size, rel=1e-9)
    assert found["rg_ratio"] == pytest.approx(size / (2.2 * count**0.38), rel=1e-9)
    assert (found["valid_bonds"], found["right_handed"], found["exploded"], found["clashes"]) == (1, 1, 0, 0)
    assert found["helix"] > 0.9
    assert found["strand"] == 0


def test_an_ideal_strand_is_strand_without_turns(strand: Callable[[int], Tensor]) -> None:
    found = describe(strand(20))
    assert found["strand"] >= 0.8
    assert found["helix"] == 0
    assert math.isnan(found["right_handed"])
    assert found["contact_order"] == found["longest_contact"] == 0


def test_the_contacts_of_a_ring_reach_around_the_chain() -> None:
    count = 30
    angle = 2 * math.pi * torch.arange(count).double() / count
    ring = 0.38 / (2 * math.sin(math.pi / count)) * torch.stack([angle.cos(), angle.sin(), 0 * angle], -1)
    # Within 8 angstrom are neighbors by one or two around the ring: |i - j| of 28 (twice) and 29 (once) on the chain.
    found = describe(ring)
    assert found["longest_contact"] == pytest.approx(29 / 30)
    assert found["contact_order"] == pytest.approx((2 * 28 + 29) / 3 / 30)


def test_a_mirrored_helix_is_left_handed_though_its_distances_are_those_of_a_helix(
    helix: Callable[..., Tensor],
) -> None:
    found = describe(helix(24, -1))
    assert found["right_handed"] == 0
    assert found["helix"] > 0.8


def test_what_a_broken_chain_lacks_passes_no_filter() -> None:
    found = describe(torch.full((20, 3), float("nan")))
    assert (found["exploded"], found["valid_bonds"], found["helix"]) == (1, 0, 0)
    for name in ("bond_mean", "clashes", "rg", "rg_ratio", "contact_order"):
        assert not found[name] <= 1e9
        assert not found[name] >= -1e9


def test_a_chain_wider_than_two_hundred_angstrom_exploded(strand: Callable[[int], Tensor]) -> None:
    assert describe(strand(40))["exploded"] == 0
    assert describe(3 * strand(40))["exploded"] == 1


def test_points_on_one_point_have_no_structure() -> None:
    found = describe(torch.zeros(12, 3))
    assert (found["valid_bonds"], found["helix"], found["strand"]) == (0, 0, 0)
    assert found["clashes"] == pytest.approx((9 + 8 + 7 + 6 + 5 + 4 + 3 + 2 + 1) / 12)


def test_a_table_has_the_rows_of_its_chains_whatever_their_lengths_and_order() -> None:
    chains = [s.coordinates[:n] for s, n in zip(segments.structures(), (40, 24, 40, 31, 24), strict=False)]
    table = describe_all(chains)
    for i, chain in enumerate(chains):
        alone = describe(chain)
        for name, column in table.items():
            assert float(column[i]) == pytest.approx(alone[name], abs=1e-9, nan_ok=True)


def test_no_chain_is_no_row() -> None:
    assert all(len(column) == 0 for column in describe_all([]).values())


def test_a_thousand_chains_take_seconds() -> None:
    chains = [s.coordinates[:120] for s in segments.structures() if len(s.coordinates) >= 120]
    many = [chains[i % len(chains)] for i in range(1000)]
    begin = time.process_time()
    assert len(describe_all(many)["rg"]) == 1000
    # Measured: 0.8 seconds of a busy core; one call of P-SEA for each chain alone would take 4 seconds.
    assert time.process_time() - begin < 4
