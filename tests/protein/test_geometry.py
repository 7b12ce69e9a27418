"""Chain geometry on shapes whose numbers are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fewstep_protein.structures import geometry


def helix(count: int, hand: float = 1.0) -> Tensor:
    """An ideal alpha helix of CA atoms: radius 2.3, rise 1.5 angstrom, 100 degrees per residue; hand -1 mirrors it."""
    turn = torch.arange(count, dtype=torch.float64) * math.radians(100)
    place = torch.stack([2.3 * turn.cos(), hand * 2.3 * turn.sin(), 1.5 * torch.arange(count).double()], -1)
    return place / 10


def test_an_ideal_helix_has_the_bond_angle_and_dihedral_of_textbooks() -> None:
    chain = helix(12)
    torch.testing.assert_close(geometry.bonds(chain), torch.full((11,), 0.3831).double(), atol=1e-3, rtol=0)
    assert geometry.angles(chain).rad2deg().mean() == pytest.approx(91, abs=2)
    assert geometry.dihedrals(chain).rad2deg().mean() == pytest.approx(50, abs=2)


def test_a_mirror_image_changes_the_sign_of_dihedrals_and_nothing_else() -> None:
    right, left = helix(12), helix(12, -1)
    torch.testing.assert_close(geometry.dihedrals(left), -geometry.dihedrals(right))
    torch.testing.assert_close(geometry.angles(left), geometry.angles(right))
    assert geometry.turns(right) == (9, 9)
    assert geometry.turns(left) == (0, 9)


def test_only_the_right_hand_counts_as_helix() -> None:
    assert float(geometry.helix_share(helix(12))) == 1
    assert float(geometry.helix_share(helix(12, -1))) == 0


def test_the_gyration_radius_of_a_straight_rod_is_its_formula() -> None:
    rod = torch.zeros(10, 3).double()
    rod[:, 0] = torch.arange(10).double() * 0.38
    expected = 0.38 * math.sqrt((10**2 - 1) / 12)
    assert float(geometry.gyration_radius(rod)) == pytest.approx(expected, rel=1e-9)


def test_the_gyration_radius_leaves_padding_out() -> None:
    chain = helix(10)
    padded = torch.cat([chain, torch.full((6, 3), 9.0)])
    mask = torch.arange(16)[:, None] < 10
    torch.testing.assert_close(geometry.gyration_radius(padded, mask), geometry.gyration_radius(chain))


def test_clashes_count_pairs_at_least_three_apart() -> None:
    rod = torch.zeros(6, 3)
    rod[:, 0] = torch.arange(6) * 0.38
    assert float(geometry.clashes(rod)) == 0
    rod[5] = rod[0] + torch.tensor([0.0, 0.01, 0.0])
    assert float(geometry.clashes(rod)) == pytest.approx(1 / 6)


def test_geometry_does_not_change_when_a_chain_is_turned_and_moved() -> None:
    chain = helix(12)
    angle = torch.tensor(0.7).double()
    turn = torch.eye(3).double()
    turn[0, 0] = turn[1, 1] = angle.cos()
    turn[0, 1], turn[1, 0] = -angle.sin(), angle.sin()
    moved = chain @ turn.T + 5.0
    for number in (geometry.bonds, geometry.angles, geometry.dihedrals, geometry.pair_distances):
        torch.testing.assert_close(number(moved), number(chain), atol=1e-9, rtol=1e-9)
