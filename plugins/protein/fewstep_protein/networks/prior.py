"""What is known of a backbone before any network looks at it: how much it varies at each wavelength along the chain.

Chains are treated as Gaussian in their Rouse modes (Rouse 1953), the cosines along the chain (discrete cosine transform
II). Noise of every strength then has an exact best guess, mode by mode: smooth waves are believed, sharp ones are not.
Shape legend: B chains, N residues, P = N modes; mode 0, the center, is left out. Nanometers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

WAVES = (
    (0.002, 90.0),
    (0.0039, 80.0),
    (0.0078, 60.0),
    (0.0156, 28.0),
    (0.031, 9.5),
    (0.047, 6.5),
    (0.062, 4.5),
    (0.094, 1.75),
    (0.125, 0.6),
    (0.188, 0.11),
    (0.25, 0.047),
    (0.312, 0.030),
    (0.375, 0.0185),
    (0.44, 0.0176),
    (0.5, 0.034),
    (0.625, 0.0155),
    (0.75, 0.0068),
    (0.875, 0.0059),
    (1.0, 0.0065),
)
"""(half-waves per residue, variance per axis in nm^2) of the training chains; nearly the same for windows of 16 to 128.

An ideal chain has b^2 / 12 / sin^2(pi f / 2). Real ones are up to 3.7 times wider at 0.06 (folds), 1.4 times at 0.5 (the
helix, whose turn is 3.6 residues), half as wide elsewhere (angles are stiff), and bounded for the longest waves (globules).
"""


class Modes(NamedTuple):
    """Rouse modes of chains of several lengths.

    Args:
        basis: (B, N, P), orthonormal columns; zero for padding and for modes that a chain does not have.
        variance: (B, P, 1) nm^2 per axis of clean chains.
    """

    basis: Tensor
    variance: Tensor

    def scaled(self, x: Tensor, factor: Tensor) -> Tensor:
        """(B, N, 3) with each mode multiplied by ``factor`` (B, P, 1)."""
        with torch.autocast(x.device.type, enabled=False):  # a bond may be off by a thousandth of the chain
            return self.basis @ (factor * (self.basis.mT @ x))


def modes(real: Tensor, dtype: torch.dtype = torch.float32) -> Modes:
    """The modes of chains whose first residues are ``real`` (B, N)."""
    place = torch.arange(real.shape[1], device=real.device, dtype=dtype)
    count = real.sum(1).to(dtype)[:, None]
    frequency = place / count
    there = (place > 0) & (place < count)
    waves = torch.cos(math.pi * frequency[:, None] * (place[:, None] + 0.5))
    basis = waves * (2 / count[:, None]).sqrt() * real[..., None] * there[:, None]
    return Modes(basis, variance(frequency)[..., None])


def variance(frequency: Tensor) -> Tensor:
    """Variance per axis at these half-waves per residue, interpolated in logarithms."""
    known, values = torch.tensor(WAVES, device=frequency.device, dtype=frequency.dtype).log().T.contiguous()
    place = frequency.clamp(WAVES[0][0], 1.0).log()
    # Counted, not searched for: ONNX has no torch.searchsorted.
    above = (known <= place[..., None]).sum(-1).clamp(1, len(known) - 1)
    share = (place - known[above - 1]) / (known[above] - known[above - 1])
    return torch.exp(values[above - 1] + share * (values[above] - values[above - 1]))


def best_guess(variance: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Factor on x_t = alpha x + sigma noise that gives the posterior mean of a Gaussian with this variance."""
    return alpha * variance / (alpha.square() * variance + sigma.square())
