"""How far apart two Gaussians are: the form behind every Frechet distance, and an exact Wasserstein-2 distance of itself.

What the rows are, and how a Gaussian is fitted to them, is for whoever measures to say; a distance is named after that.
"""

from __future__ import annotations

import torch
from torch import Tensor


def frechet(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> Tensor:
    """|m - m'|^2 + tr(C + C' - 2 (C'^1/2 C C'^1/2)^1/2) (Dowson & Landau 1982 eq. 4; Heusel et al. 2017 eq. 6)."""
    return (mean - other_mean).square().sum(-1) + bures(covariance, other_covariance)


def bures(covariance: Tensor, other: Tensor) -> Tensor:
    """(...) squared Wasserstein-2 distance of centered Gaussians with covariances (..., d, d) (Gelbrich 1990).

    By eigenvalues, in the dtype that is given: float64 is what differences of nearly equal traces need.
    """
    values, vectors = torch.linalg.eigh(other)
    root = (vectors * values.clamp(min=0).sqrt().unsqueeze(-2)) @ vectors.mT
    shared = torch.linalg.eigvalsh(root @ covariance @ root).clamp(min=0).sqrt().sum(-1)
    traces = covariance.diagonal(dim1=-2, dim2=-1).sum(-1) + other.diagonal(dim1=-2, dim2=-1).sum(-1)
    return (traces - 2 * shared).clamp(min=0)
