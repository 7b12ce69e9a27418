"""The Rouse chain: a Gaussian chain whose law, denoiser and distance to samples have closed forms.

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


def wasserstein(covariance_a: Tensor, covariance_b: Tensor) -> Tensor:
    """(..., ) W2 of two centered Gaussians, divided by the root trace of the second (Gelbrich 1990).

    W2^2 = tr A + tr B - 2 tr (B^1/2 A B^1/2)^1/2.
    """
    values, vectors = torch.linalg.eigh(covariance_b)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.mT
    inner = torch.linalg.eigvalsh(root @ covariance_a @ root).clamp(min=0).sqrt().sum(-1)
    trace = _trace(covariance_b)
    squared = _trace(covariance_a) + trace - 2 * inner
    return (squared.clamp(min=0) / trace).sqrt()


def roll_variances(
    gains: Sequence[Tensor], alphas: Sequence[float], sigmas: Sequence[float], scale: float = 1.0
) -> list[Tensor]:
    """Mode variances of every prefix of a linear student's roll.

    V_0 = 0 and V_{k+1} = g_k^2 (sigma_k^2 scale^2 + alpha_k^2 V_k): renoise to time k, then multiply by gain g_k.

    Args:
        gains: per step, (modes,) gains of the clean estimate.
        alphas: signal coefficient of each step's time; the first has no signal yet.
        sigmas: noise coefficient.
        scale: noise scale; every variance is proportional to its square.
    """
    variance = torch.zeros_like(gains[0])
    found = []
    for gain, alpha, sigma in zip(gains, alphas, sigmas, strict=True):
        variance = gain.square() * (sigma**2 * scale**2 + alpha**2 * variance)
        found.append(variance)
    return found


def _trace(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)
