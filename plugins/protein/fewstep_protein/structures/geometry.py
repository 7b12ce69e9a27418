"""Numbers that describe CA chains. Chains are (N, 3) or (B, N, 3) in nanometers; masks are bound by the caller.

All functions are differentiable where that means anything, and none assumes a particular network or process.
"""

from __future__ import annotations

import torch
from torch import Tensor

BOND_RANGE = (0.36, 0.40)
"""Bond lengths in nanometers that count as valid."""
CLASH = 0.38
"""Residues at least three apart along the chain that are closer than this clash, in nanometers."""
TURN = 0.60
"""Distance i to i + 3 in nanometers below which four residues form a turn."""


def bonds(x: Tensor) -> Tensor:
    """(..., N - 1) distances between consecutive residues."""
    return (x[..., 1:, :] - x[..., :-1, :]).norm(dim=-1)


def valid_bonds(x: Tensor) -> Tensor:
    """(..., N - 1) bool, which distances between consecutive residues lie in BOND_RANGE."""
    length = bonds(x)
    return (length >= BOND_RANGE[0]) & (length <= BOND_RANGE[1])


def gyration_radius(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """(...,) root mean squared distance from the center; padding is left out by ``mask`` (..., N, 1)."""
    real = torch.ones_like(x[..., :1]) if mask is None else mask.to(x.dtype)
    count = real.sum((-2, -1)).clamp(min=1)
    center = (x * real).sum(-2, keepdim=True) / count[..., None, None]
    return (((x - center) * real).square().sum((-2, -1)) / count).sqrt()


def compact_radius(length: int) -> float:
    """0.22 n^0.38 nanometers: the gyration radius of a globular chain of n residues (Skolnick et al. 1997)."""
    return 0.22 * length**0.38


def angles(x: Tensor) -> Tensor:
    """(..., N - 2) angle at each inner residue between its two bonds, in radians."""
    first, second = x[..., :-2, :] - x[..., 1:-1, :], x[..., 2:, :] - x[..., 1:-1, :]
    cosine = (first * second).sum(-1) / (first.norm(dim=-1) * second.norm(dim=-1)).clamp(min=1e-9)
    return torch.acos(cosine.clamp(-1, 1))


def dihedrals(x: Tensor) -> Tensor:
    """(..., N - 3) pseudo-dihedral of four consecutive residues in (-pi, pi]; a right-handed helix has about +50 degrees."""
    a, b, c = (x[..., i + 1 : x.shape[-2] - 2 + i, :] - x[..., i : x.shape[-2] - 3 + i, :] for i in range(3))
    left, right = torch.linalg.cross(a, b), torch.linalg.cross(b, c)
    sine = (a * right).sum(-1) * b.norm(dim=-1)
    return torch.atan2(sine, (left * right).sum(-1))


def clashes(x: Tensor) -> Tensor:
    """(...,) pairs at least three residues apart and closer than CLASH, per residue."""
    count = x.shape[-2]
    far = torch.ones(count, count, device=x.device).triu(3).bool()
    return ((distances(x) < CLASH) & far).sum((-2, -1)).to(x.dtype) / count


def distances(x: Tensor) -> Tensor:
    """(..., N, N) of all residues, without the loss of digits that a product of coordinates brings."""
    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")


def turns(x: Tensor) -> tuple[Tensor, Tensor]:
    """(...,) counts of right-handed and of all turns: four residues in a row whose ends are closer than TURN."""
    near = (x[..., 3:, :] - x[..., :-3, :]).norm(dim=-1) < TURN
    return (near & (dihedrals(x) > 0)).sum(-1), near.sum(-1)


def pair_distances(x: Tensor, apart: int = 3) -> Tensor:
    """(..., P) distances of all pairs at least ``apart`` residues from one another."""
    row, column = torch.triu_indices(x.shape[-2], x.shape[-2], apart)
    return (x[..., row, :] - x[..., column, :]).norm(dim=-1)


def chain_size(shortest: int, longest: int) -> float:
    """Root mean squared coordinate in nanometers of real chains in a range of lengths.

    A compact chain of n residues has a gyration radius of about 0.22 n^0.38 nm; per axis that is 1 / sqrt(3) of it,
    and short fragments are stretched, hence the larger constant.
    """
    return round(0.33 * ((shortest + longest) / 2) ** 0.38 / 3**0.5, 3)
