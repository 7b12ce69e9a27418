"""P-SEA: ideal shapes are what they are, whatever else is annotated in the same call."""

from __future__ import annotations

from collections.abc import Callable

import biotite.structure
import numpy as np
import pytest
import torch
from torch import Tensor

from fewstep_protein.metrics.secondary import COIL, HELIX, STRAND, exploded, secondary_structure, shares
from fewstep_protein.structures import segments


def test_ideal_shapes_are_what_they_are_but_for_their_ends(
    helix: Callable[..., Tensor], strand: Callable[[int], Tensor]
) -> None:
    coiled, straight = secondary_structure([helix(20), strand(20)])
    assert set(coiled[1:-1].tolist()) == {HELIX}
    assert set(straight[1:-2].tolist()) == {STRAND}


def test_a_bent_chain_is_coil(strand: Callable[[int], Tensor]) -> None:
    walk = torch.nn.functional.normalize(
        torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    (found,) = secondary_structure([0.38 * walk.cumsum(0)])
    assert (found == COIL).double().mean() > 0.85


def test_chains_of_one_call_do_not_touch_one_another() -> None:
    chains = [s.coordinates for s in segments.structures()[:70]]
    together = secondary_structure(chains)
    for i in (0, 33, 63, 64, 69):
        assert together[i].tolist() == alone(chains[i])


def alone(chain: Tensor) -> list[int]:
    """The library's own answer for one chain."""
    atoms = biotite.structure.AtomArray(len(chain))
    atoms.atom_name[:], atoms.res_name[:], atoms.element[:] = "CA", "GLY", "C"
    atoms.res_id, atoms.coord = np.arange(len(chain)), 10 * chain.numpy()
    return ["abc".index(letter) for letter in biotite.structure.annotate_sse(atoms)]


def test_a_chain_that_exploded_is_coil_and_spoils_no_other(helix: Callable[..., Tensor]) -> None:
    far, strange = helix(20) * 1000, helix(20) * float("nan")
    found = secondary_structure([far, helix(20), strange])
    assert exploded(far)
    assert exploded(strange)
    assert not exploded(helix(20))
    assert set(found[0].tolist()) == set(found[2].tolist()) == {COIL}
    assert found[1].tolist() == secondary_structure([helix(20)])[0].tolist()


@pytest.mark.parametrize("count", [1, 3, 5])
def test_chains_of_at_most_five_residues_are_coil(count: int, helix: Callable[..., Tensor]) -> None:
    assert set(secondary_structure([helix(count)])[0].tolist()) == {COIL}


def test_shares_of_a_chain_sum_to_one(helix: Callable[..., Tensor], strand: Callable[[int], Tensor]) -> None:
    found = shares(secondary_structure([helix(20), strand(20)]))
    torch.testing.assert_close(found.sum(1), torch.ones(2).double())
    assert found[0, HELIX] == 0.9
    assert found[1, STRAND] >= 0.8


def test_real_chains_have_the_shares_of_real_proteins() -> None:
    mean = shares(secondary_structure([s.coordinates for s in segments.split(held_out=True)])).mean(0)
    assert 0.2 < float(mean[HELIX]) < 0.45
    assert 0.08 < float(mean[STRAND]) < 0.3
