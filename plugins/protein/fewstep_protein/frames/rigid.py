"""Residues as rigid bodies: frames of real atoms, and the atoms N, CA, C, O of frames.

A residue's frame stands at its CA; its first axis points to C, and N lies in the plane of the first two (Jumper et al.
2021 algorithm 21). Shape legend: ... any dimensions, N residues. Lengths are nanometers, rotations (..., 3, 3) have
the axes as columns.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

N_CA, CA_C, C_N, C_O = 0.1459, 0.1525, 0.1329, 0.1231
"""Bond lengths (Engh & Huber 1991, table 3)."""
N_CA_C, CA_C_N, C_N_CA = math.radians(111.0), math.radians(117.2), math.radians(121.7)
"""Bond angles of the same table."""
CA_N = math.sqrt(CA_C**2 + C_N**2 - 2 * CA_C * C_N * math.cos(CA_C_N))
C_CA = math.sqrt(C_N**2 + N_CA**2 - 2 * C_N * N_CA * math.cos(C_N_CA))
CA_CA = 0.381
"""Distances that these fix across a peptide bond; the last one if it is trans."""
DISTANCES = (((C_N, CA_N), (C_N, C_CA)), ((C_CA, CA_CA), (CA_N, CA_CA)))
"""From N or C, then from CA; to the residue before, then to the one after; to its C or N, then to its CA."""
LAST_PSI = math.radians(140.0)
"""Psi of the last residue, which no next N shows: only its O depends on it."""


def ideal_residue(dtype: torch.dtype = torch.float32) -> Tensor:
    """(3, 3) N, CA, C in a residue's own frame."""
    n = [N_CA * math.cos(N_CA_C), N_CA * math.sin(N_CA_C), 0.0]
    return torch.tensor([n, [0.0, 0.0, 0.0], [CA_C, 0.0, 0.0]], dtype=dtype)


def frames_of(backbone: Tensor) -> tuple[Tensor, Tensor]:
    """Places (..., N, 3) and rotations (..., N, 3, 3) of atoms N, CA, C (..., N, 3, 3), by Gram-Schmidt."""
    nitrogen, place, carbon = backbone.unbind(-2)
    first = _unit(carbon - place)
    second = nitrogen - place
    second = _unit(second - (second * first).sum(-1, keepdim=True) * first)
    return place, torch.stack([first, second, torch.linalg.cross(first, second)], -1)


def atoms_of(place: Tensor, turn: Tensor) -> Tensor:
    """(..., N, 4, 3) N, CA, C, O of frames; O lies in the plane of CA, C and the next N, away from both."""
    three = place.unsqueeze(-2) + ideal_residue(place.dtype).to(place.device) @ turn.mT
    return torch.cat([three, _oxygens(three).unsqueeze(-2)], -2)


def _oxygens(three: Tensor) -> Tensor:
    """(..., N, 3)."""
    alpha, carbon, following = three[..., 1, :], three[..., 2, :], three[..., 1:, 0, :]
    last = extend(three[..., -1, 0, :], alpha[..., -1, :], carbon[..., -1, :], (C_N, CA_C_N, LAST_PSI))
    following = torch.cat([following, last.unsqueeze(-2)], -2)
    return carbon - C_O * _unit(_unit(alpha - carbon) + _unit(following - carbon))


def extend(a: Tensor, b: Tensor, c: Tensor, internal: tuple[float, float, float | Tensor]) -> Tensor:
    """(..., 3) the atom d bonded to c, given (length c-d, angle b-c-d, dihedral a-b-c-d)."""
    length, angle, twist = internal
    twist = torch.as_tensor(twist, dtype=c.dtype, device=c.device).unsqueeze(-1)
    along = _unit(c - b)
    normal = _unit(torch.linalg.cross(b - a, along))
    beside = torch.linalg.cross(normal, along)
    bent = torch.cos(twist) * beside + torch.sin(twist) * normal
    return c + length * (-math.cos(angle) * along + math.sin(angle) * bent)


def chain_of(phi: Tensor, psi: Tensor) -> tuple[Tensor, Tensor]:
    """Frames (..., N, 3), (..., N, 3, 3) of an ideal backbone with trans peptides and these torsions (..., N), radians.

    Phi of the first and psi of the last residue have no meaning.
    """
    atoms = [atom.expand(*phi.shape[:-1], 3) for atom in ideal_residue(phi.dtype)]
    for i in range(1, phi.shape[-1]):
        atoms.append(extend(*atoms[-3:], (C_N, CA_C_N, psi[..., i - 1])))
        atoms.append(extend(*atoms[-3:], (N_CA, C_N_CA, math.pi)))
        atoms.append(extend(*atoms[-3:], (CA_C, N_CA_C, phi[..., i])))
    return frames_of(torch.stack(atoms, -2).unflatten(-2, (-1, 3)))


def dihedral(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """(...) the angle in (-pi, pi] between the planes a, b, c and b, c, d, seen along b-c."""
    first, axis, last = b - a, c - b, d - c
    left, right = torch.linalg.cross(first, axis), torch.linalg.cross(axis, last)
    return torch.atan2((first * right).sum(-1) * axis.norm(dim=-1), (left * right).sum(-1))


def torsions(atoms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Phi, psi and omega (..., N - 1) at the N - 1 peptide bonds of (..., N, A, 3): phi is that of the residue after it."""
    n, alpha, c = atoms[..., 0, :], atoms[..., 1, :], atoms[..., 2, :]
    phi = dihedral(c[..., :-1, :], n[..., 1:, :], alpha[..., 1:, :], c[..., 1:, :])
    psi = dihedral(n[..., :-1, :], alpha[..., :-1, :], c[..., :-1, :], n[..., 1:, :])
    omega = dihedral(alpha[..., :-1, :], c[..., :-1, :], n[..., 1:, :], alpha[..., 1:, :])
    return phi, psi, omega


def _unit(v: Tensor) -> Tensor:
    return v / v.norm(dim=-1, keepdim=True).clamp(min=1e-9)
