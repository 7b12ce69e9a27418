"""Who is near a residue in space although far along the chain: what a chain must know not to run through itself.

Shape legend: B chains, N residues, P ways of weighing a distance. Coordinates are (B, N, 3) in nm.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fewstep_protein.networks.bumps import bumps

NEAR = tuple((0.2 + 0.1 * i, 0.1) for i in range(6))
"""(center, width) of the bumps in which distances of such residues are read; nm."""
APART = 3
"""Residues along the chain below which two cannot help being near."""
TOUCH = 0.40
"""Distance in nm at which they touch; 3 pairs in 1,000 residues of real chains are nearer."""
SOFT = (0.5, 1.5)
"""Widths, in units of the noise, of the soft steps at TOUCH."""
COUNT = len(NEAR) + len(SOFT)
"""P."""


def contacts(x: Tensor, gap: Tensor, real: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """How crowded each residue is, invariants (B, N, 2 P), and where the crowd is, vectors (B, N, P, 3) shorter than 1.

    Args:
        x: (B, N, 3) coordinates.
        gap: (B, N, N) their distances.
        real: (B, N).
        noise: (B, 1, 1) sigma / alpha in nm: a contact that noise made is told from one that is there.
    """
    place = torch.arange(x.shape[1], device=x.device)
    counts = real[:, None] & real[:, :, None] & ((place[None] - place[:, None]).abs() >= APART)
    far = gap[..., None]
    touching = [torch.sigmoid((TOUCH - far) / (wide * noise[..., None] + 0.01)) for wide in SOFT]
    weight = torch.cat([bumps(gap, NEAR), torch.cat(touching, -1) * (-((far / 0.6) ** 2)).exp()], -1)
    # One product of matrices sums both the ways to all others and, by the ones beside them, how many there are.
    ways = torch.cat([(x[:, None] - x[:, :, None]) / (far + 0.02), torch.ones_like(far)], -1)
    toward, number = ((weight * counts[..., None]).mT @ ways).split([3, 1], -1)
    square = toward.square().sum(-1, keepdim=True)
    crowd = torch.cat([torch.tanh(number / 2), square.add(1e-6).sqrt().tanh()], -1).transpose(2, 3).flatten(2)
    return crowd, toward / (square + 0.25).sqrt()
