"""Which residues touch: clashes, and how far along the chain contacts reach."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fewstep_protein.structures import geometry

CONTACT = 0.8
"""Nanometers between the CA atoms of residues in contact."""
SEPARATE = 3
"""Residues along the chain below which nearness is no contact."""


class Separations(NamedTuple):
    """Of the contacts of each chain: how many residues lie between their ends, (B,) each; 0 without a contact."""

    mean: Tensor
    largest: Tensor


def separations(x: Tensor) -> Separations:
    """Mean and largest separation |i - j| of the contacts of chains (B, n, 3).

    The mean over the length is the relative contact order (Plaxco et al. 1998), here of CA atoms.
    """
    place = torch.arange(x.shape[-2], device=x.device)
    apart = (place[:, None] - place).abs()
    touching = (geometry.distances(x) < CONTACT) & (apart >= SEPARATE)
    between = touching * apart
    mean = between.sum((-2, -1)).double() / touching.sum((-2, -1)).clamp(min=1)
    return Separations(mean, between.amax((-2, -1)).double())
