"""Numbers of single chains, as a table of designs shows them: one value for each chain, no reference needed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fewstep_protein.metrics import contacts, secondary
from fewstep_protein.structures import geometry
from fewstep_protein.structures.files import ANGSTROM

TOGETHER = 2_000_000
"""Residue pairs that are held at once."""


def describe(chain: Tensor) -> dict[str, float]:
    """What can be said about one chain (n, 3) in nanometers; see :func:`describe_all`."""
    return {name: float(column[0]) for name, column in describe_all([chain]).items()}


def describe_all(chains: Sequence[Tensor]) -> dict[str, Tensor]:
    """Columns (B,) float64 of these chains, each (n, 3) in nanometers.

    - ``length``: residues.
    - ``exploded``: 1 if a coordinate is not finite, or the chain reaches further than 200 angstrom; else 0.
    - ``valid_bonds``: share of CA-CA distances in 3.6 to 4.0 angstrom.
    - ``bond_mean``, ``bond_std``: of the CA-CA distances, in angstrom.
    - ``clashes``: pairs three or more residues apart and closer than 3.8 angstrom, per residue.
    - ``rg``: gyration radius in angstrom; ``rg_ratio``: the same over 2.2 n^0.38, that of a compact chain.
    - ``helix``, ``strand``: shares of residues by P-SEA.
    - ``right_handed``: share of right-handed turns among those within 6 angstrom; not a number without a turn.
    - ``contact_order``: mean separation of contacts within 8 angstrom, over the length; ``longest_contact``: the largest.

    What a chain that is not finite lacks is not a number, so that no filter ``column <= bound`` lets it through.
    """
    groups = _by_length(chains)
    share = secondary.shares(secondary.secondary_structure(chains)) if chains else torch.zeros(0, 3)
    parts = [
        (rows, _columns(torch.stack([chains[i] for i in rows]).detach().cpu().double())) for rows in groups
    ]
    found = {name: torch.zeros(len(chains), dtype=torch.float64) for name in (parts[0][1] if parts else ())}
    for rows, columns in parts:
        for name, values in columns.items():
            found[name][rows] = values.double()
    return {**found, "helix": share[:, secondary.HELIX], "strand": share[:, secondary.STRAND]}


def _by_length(chains: Sequence[Tensor]) -> list[list[int]]:
    """Row numbers of equally long chains, in groups that fit into memory."""
    lengths = [len(chain) for chain in chains]
    groups = []
    for length in sorted(set(lengths)):
        rows = [i for i, n in enumerate(lengths) if n == length]
        size = max(1, TOGETHER // max(1, length**2))
        groups += [rows[start : start + size] for start in range(0, len(rows), size)]
    return groups


def _columns(x: Tensor) -> dict[str, Tensor]:
    """Chains (B, n, 3) of one length."""
    count, length = x.shape[:2]
    bond = geometry.bonds(x) * ANGSTROM
    size = geometry.gyration_radius(x) * ANGSTROM
    separation = contacts.separations(x)
    right, turn = geometry.turns(x)
    return {
        "length": torch.full((count,), length),
        "exploded": torch.tensor([secondary.exploded(chain) for chain in x]),
        "valid_bonds": geometry.valid_bonds(x).double().mean(-1),
        "bond_mean": bond.mean(-1),
        "bond_std": bond.std(-1, correction=0),
        "clashes": _where_finite(x, geometry.clashes(x)),
        "rg": size,
        "rg_ratio": size / geometry.compact_radius(length) / ANGSTROM,
        "right_handed": torch.where(turn > 0, right / turn.clamp(min=1), math.nan),
        "contact_order": _where_finite(x, separation.mean / length),
        "longest_contact": _where_finite(x, separation.largest / length),
    }


def _where_finite(x: Tensor, values: Tensor) -> Tensor:
    return torch.where(x.isfinite().all(-1).all(-1), values.double(), math.nan)
