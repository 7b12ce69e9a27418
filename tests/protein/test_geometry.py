"""Chain geometry on shapes whose numbers are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fewstep_protein.structures import geometry


def test_an_ideal_helix_has_the_bond_angle_and_dihedral_of_textbooks(helix: Callable[..., Tensor]) -> None:
    chain = helix(12)
    torch.testing.assert_close(geometry.bonds(chain), torch.full((11,), 0.3831).double(), atol=1e-3, rtol=0)
    assert geometry.angles(chain).rad2deg().mean() == pytest.approx(91, abs=2)
    assert geometry.dihedrals(chain).rad2deg().mean() == pytest.approx(50, abs=2)


def test_a_mirror_image_changes_the_sign_of_dihedrals_and_nothing_else(helix: Callable[..., Tensor]) -> None:
    right, left = helix(12), helix(12, -1)
    torch.testing.assert_close(geometry.dihedrals(left), -geometry.dihedrals(right))
    torch.testing.assert_close(geometry.angles(left), geometry.angles(right))
    assert geometry.turns(right) == (9, 9)
    assert geometry.turns(left) == (0, 9)


def test_the_gyration_radius_of_a_straight_rod_is_its_formula() -> None:
    rod = torch.zeros(10, 3).double()
    rod[:, 0] = torch.arange(10).double() * 0.38
    expected = 0.38 * math.sqrt((10**2 - 1) / 12)
    assert float(geometry.gyration_radius(rod)) == pytest.approx(expected, rel=1e-9)


def test_the_gyration_radius_leaves_padding_out(helix: Callable[..., Tensor]) -> None:
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


def test_geometry_does_not_change_when_a_chain_is_turned_and_moved(helix: Callable[..., Tensor]) -> None:
    chain = helix(12)
    angle = torch.tensor(0.7).double()
    turn = torch.eye(3).double()
    turn[0, 0] = turn[1, 1] = angle.cos()
    turn[0, 1], turn[1, 0] = -angle.sin(), angle.sin()
    moved = chain @ turn.T + 5.0
    for number in (geometry.bonds, geometry.angles, geometry.dihedrals, geometry.pair_distances):
        torch.testing.assert_close(number(moved), number(chain), atol=1e-9, rtol=1e-9)


def test_valid_bonds_are_those_between_three_point_six_and_four_angstrom() -> None:
    rod = torch.zeros(5, 3).double()
    rod[:, 0] = torch.tensor([0.0, 0.355, 0.716, 1.115, 1.52]).double()
    assert geometry.valid_bonds(rod).tolist() == [False, True, True, False]


def test_a_compact_chain_of_a_hundred_residues_has_the_radius_of_the_formula() -> None:
    assert geometry.compact_radius(100) == pytest.approx(0.22 * 100**0.38)
    assert geometry.compact_radius(100) == pytest.approx(1.27, abs=0.01)


def test_turns_are_counted_for_a_whole_batch_at_once(helix: Callable[..., Tensor]) -> None:
    right, turn = geometry.turns(torch.stack([helix(12), helix(12, -1)]))
    assert (right.tolist(), turn.tolist()) == ([9, 0], [9, 9])
