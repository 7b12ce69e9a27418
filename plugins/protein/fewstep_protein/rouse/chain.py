"""The Rouse chain: a Gaussian chain whose law and denoiser, and so its distance to samples, have closed forms.

Beads are linked by independent N(0, b^2 / 3 I) bond vectors and the chain is centered (Rouse 1953; Doi & Edwards 1986
section 4.1), so that its cosine modes are independent; :func:`fewstep.testing.analytic.rouse_modes` has them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fewstep.testing.analytic import rouse_modes

BOND = 0.38
"""Root mean squared bond length b in nanometers: that of CA atoms."""


def covariance(beads: int, bond: float = BOND) -> Tensor:
    """(beads, beads) float64 covariance per axis, rank beads - 1."""
    variances, basis = rouse_modes(beads, bond)
    return (basis * variances) @ basis.T


def draw_chains(lengths: Sequence[int], width: int, noise: Tensor, bond: float = BOND) -> Tensor:
    """Exact samples (B, width, 3), zero in the padding.

    Args:
        lengths: beads of each chain.
        width: padded length.
        noise: (B, width, 3) standard normal numbers; the first beads - 1 rows of each chain are used.
        bond: root mean squared bond length.
    """
    out = torch.zeros_like(noise)
    for beads in sorted(set(lengths)):
        rows = [i for i, n in enumerate(lengths) if n == beads]
        variances, basis = rouse_modes(beads, bond)
        root = basis * variances.sqrt()
        out[rows, :beads] = root.to(noise.dtype) @ noise[rows, : beads - 1]
    return out
