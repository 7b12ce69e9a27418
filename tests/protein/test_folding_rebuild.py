"""N, C and O from a CA trace: near the real ones, whatever the frame, with the geometry of peptides."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fewstep.errors import FewstepError
from fewstep.protocol import Key
from fewstep_protein.folding.rebuild import TO_AMINE, TO_CARBONYL, TO_OXYGEN, prolonged, rebuild
from fewstep_protein.structures.segments import Structure, split


@pytest.fixture(scope="module")
def held_out() -> list[Structure]:
    return [s for s in split(held_out=True) if s.backbone is not None][:12]


def gap(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).norm(dim=-1)


def test_nitrogen_and_carbon_of_unseen_folds_lie_within_a_third_of_an_angstrom(
    held_out: list[Structure],
) -> None:
    made = torch.cat([rebuild(s.coordinates) for s in held_out])
    real = torch.cat([s.backbone for s in held_out if s.backbone is not None])
    for mine, theirs in ((0, 0), (2, 2)):
        error = gap(made[:, mine], real[:, theirs])
        assert float(error.square().mean().sqrt()) < 0.035
        assert float(error.median()) < 0.012
    # Without the neighbours a peptide's turn is unknown, and its atoms lie 0.05 nm or more from their mean place.
    middle = (real[:-1, 1] + real[1:, 1]) / 2
    assert float(gap(real[:-1, 2], middle).square().mean().sqrt()) > 0.05


def test_peptides_are_flat_and_have_the_lengths_of_bonds(held_out: list[Structure]) -> None:
    n, ca, c, o = torch.cat([rebuild(s.coordinates)[:-1] for s in held_out]).double().unbind(1)
    after = torch.cat([rebuild(s.coordinates)[1:] for s in held_out]).double()
    torch.testing.assert_close(gap(n, ca), torch.full_like(n[:, 0], TO_AMINE), atol=1e-5, rtol=0)
    torch.testing.assert_close(gap(c, ca), torch.full_like(n[:, 0], TO_CARBONYL), atol=1e-5, rtol=0)
    torch.testing.assert_close(gap(c, o), torch.full_like(n[:, 0], TO_OXYGEN), atol=1e-5, rtol=0)
    assert float((gap(c, after[:, 0]) - 0.133).abs().median()) < 0.002
    normal = torch.linalg.cross(ca - c, after[:, 0] - c)
    assert float(((o - c) * normal).sum(-1).abs().max()) < 1e-6
    assert bool((gap(o, ca) > 0.2).all())


def test_the_backbone_turns_with_the_trace_and_keeps_its_atoms(held_out: list[Structure]) -> None:
    chain = held_out[0].coordinates.double()
    turn = torch.linalg.qr(Key(0).normal(torch.zeros(3, 3, dtype=torch.float64)))[0]
    turn = turn * torch.linalg.det(turn)
    torch.testing.assert_close(rebuild(chain @ turn.T + 2), rebuild(chain) @ turn.T + 2)
    assert torch.equal(rebuild(chain)[:, 1], chain)


def test_an_ideal_helix_gets_the_hydrogen_bonds_of_one(helix: Callable[..., Tensor]) -> None:
    made = rebuild(helix(24))
    bond = gap(made[2:-6, 3], made[6:-2, 0]) * 10
    assert float(bond.min()) > 2.6
    assert float(bond.max()) < 3.4


def test_a_chain_goes_on_with_its_turn_at_both_ends(helix: Callable[..., Tensor]) -> None:
    torch.testing.assert_close(prolonged(helix(20)[2:-2]), helix(20), atol=1e-9, rtol=0)


def test_the_shortest_chains_are_rebuilt_and_shorter_ones_refused(helix: Callable[..., Tensor]) -> None:
    assert rebuild(helix(4).float()).shape == (4, 4, 3)
    assert bool(rebuild(torch.arange(12.0).reshape(4, 3)).isfinite().all())
    for chain in (helix(3), helix(8) * math.nan):
        with pytest.raises(FewstepError, match="cannot be rebuilt"):
            rebuild(chain)
