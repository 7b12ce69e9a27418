"""Secondary structure of CA chains by P-SEA (Labesse et al. 1997), as biotite implements it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import biotite.structure as structure
import numpy as np
import torch
from torch import Tensor

from fewstep_protein.structures.files import ANGSTROM

LARGEST = 20.0
"""Nanometers: a chain that reaches further in some direction has exploded."""
TOGETHER = 64
"""Chains annotated in one call, which costs a twelfth of one call each."""
APART = 10.0
"""Angstrom between the chains of one call: beyond every contact that P-SEA counts."""
HELIX, STRAND, COIL = 0, 1, 2
_CODES = {"a": HELIX, "b": STRAND, "c": COIL}


def exploded(chain: Tensor) -> bool:
    """Whether a chain (n, 3) is not finite, or reaches further than LARGEST: no secondary structure is sought in it."""
    if not bool(chain.isfinite().all()):
        return True
    return bool((chain.amax(0) - chain.amin(0)).max() > LARGEST)


def secondary_structure(chains: Sequence[Tensor]) -> list[Tensor]:
    """(n,) HELIX, STRAND or COIL of each residue of each chain (n, 3) in nanometers.

    An exploded chain, and one of at most five residues, is all coil.
    """
    found = [torch.full((len(chain),), COIL) for chain in chains]
    whole = [i for i, chain in enumerate(chains) if len(chain) > 5 and not exploded(chain)]
    for start in range(0, len(whole), TOGETHER):
        rows = whole[start : start + TOGETHER]
        for i, codes in zip(rows, _annotated([chains[i] for i in rows]), strict=True):
            found[i] = codes
    return found


def shares(codes: Sequence[Tensor]) -> Tensor:
    """(B, 3) float64 shares of helix, strand and coil in each chain."""
    return torch.stack([torch.bincount(c, minlength=3).double() / max(1, len(c)) for c in codes])


def _annotated(chains: Sequence[Tensor]) -> Iterator[Tensor]:
    """P-SEA of several chains in one call: side by side in space, with a gap in the numbering between them."""
    places, left = [], 0.0
    for chain in chains:
        place = (chain - chain.amin(0)).double().numpy() * ANGSTROM
        place[:, 0] += left
        left = float(place[:, 0].max()) + APART
        places.append(place)
    lengths = [len(chain) for chain in chains]
    with np.errstate(
        invalid="ignore", divide="ignore"
    ):  # residues on one point have no angle, and no structure
        codes = [_CODES[letter] for letter in structure.annotate_sse(_atoms(places, lengths))]
    yield from torch.tensor(codes).split(lengths)


def _atoms(places: Sequence[np.ndarray], lengths: Sequence[int]) -> structure.AtomArray:
    atoms = structure.AtomArray(sum(lengths))
    atoms.atom_name[:], atoms.res_name[:], atoms.element[:] = "CA", "GLY", "C"
    atoms.res_id = np.arange(sum(lengths)) + 2 * np.repeat(np.arange(len(lengths)), lengths)
    atoms.coord = np.concatenate(places).astype(np.float32)
    return atoms
