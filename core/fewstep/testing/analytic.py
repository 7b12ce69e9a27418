"""Closed-form teachers: exact denoisers of laws that are known, the oracles of every objective.

All are denoisers without parameters, exact in float64, and follow their batch's mask.
Shape legend: B batch, L positions of a chain, d dimensions, M mixture components.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fewstep.processes import Gaussian
from fewstep.protocol import Cond
from fewstep.testing.empirical import EmpiricalTeacher
from fewstep.testing.exact import Exact
from fewstep.testing.gaussians import CovarianceTeacher, GaussianTeacher, ar1_covariance
from fewstep.testing.markov import (
    MarkovTeacher,
    all_sequences,
    divergence,
    entropy,
    sampler_law,
    sequence_law,
    stationary_law,
    total_correlation,
)

__all__ = [
    "CovarianceTeacher",
    "EmpiricalTeacher",
    "Exact",
    "GaussianTeacher",
    "MarkovTeacher",
    "MixtureTeacher",
    "ProjectedTeacher",
    "RouseTeacher",
    "all_sequences",
    "ar1_covariance",
    "chain_lengths",
    "divergence",
    "entropy",
    "project_points",
    "ring",
    "rouse_modes",
    "sampler_law",
    "sequence_law",
    "stationary_law",
    "total_correlation",
]


class MixtureTeacher(Exact):
    """A mixture of isotropic Gaussians over events (B, d).

    D = sum_m p(m | x_t) D_m with D_m the denoiser of one component.

    Args:
        process: a Gaussian process.
        weights: (M,), summing to 1.
        means: (M, d).
        stds: (M,).
    """

    def __init__(self, process: Gaussian, weights: Tensor, means: Tensor, stds: Tensor) -> None:
        """Keep the law."""
        super().__init__(process)
        self.register_buffer("weights", weights.double())
        self.register_buffer("means", means.double())
        self.register_buffer("stds", stds.double())

    weights: Tensor
    means: Tensor
    stds: Tensor

    def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """Eq. above."""
        alpha, sigma = self.process.alpha(t)[:, None], self.process.sigma(t)[:, None]
        total = (alpha * self.stds).square() + sigma.square()
        residual = xt.double().unsqueeze(1) - alpha.unsqueeze(-1) * self.means
        log = self.weights.log() - residual.square().sum(-1) / (2 * total) - 0.5 * xt.shape[1] * total.log()
        gain = alpha * self.stds.square() / total
        each = self.means + gain.unsqueeze(-1) * residual
        return (torch.softmax(log, 1).unsqueeze(-1) * each).sum(1).to(xt.dtype)

    def draw(self, uniform: Tensor, normal: Tensor) -> Tensor:
        """(B, d) exact samples from (B,) uniform and (B, d) normal numbers."""
        which = torch.searchsorted(self.weights.cumsum(0), uniform.double()).clamp(max=len(self.weights) - 1)
        return self.means[which] + self.stds[which].unsqueeze(-1) * normal


def ring(process: Gaussian, modes: int = 8, radius: float = 2.0, std: float = 0.15) -> MixtureTeacher:
    """The usual toy: equal Gaussians on a circle in the plane."""
    angle = 2 * math.pi * torch.arange(modes, dtype=torch.float64) / modes
    means = radius * torch.stack([angle.cos(), angle.sin()], -1)
    even = torch.full((modes,), 1 / modes, dtype=torch.float64)
    return MixtureTeacher(process, even, means, torch.full((modes,), std, dtype=torch.float64))


class RouseTeacher(Exact):
    """Ideal bead-and-spring chains (B, N, d) without their center of mass; lengths differ within a batch.

    Per coordinate the covariance is bond^2 / d times the pseudo-inverse of the path graph's Laplacian (Rouse 1953).
    A chain of n beads is the first n of N; the mask (B, N, 1) says which are real.

    Args:
        process: a Gaussian process on a centered geometry.
        bond: root mean square bond length.
        dimensions: d.
    """

    def __init__(self, process: Gaussian, bond: float = 1.0, dimensions: int = 3) -> None:
        """Keep the law."""
        super().__init__(process)
        self.bond = bond
        self.dimensions = dimensions

    def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """Each length by its own eigenvectors, so that padding cannot matter."""
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        lengths = chain_lengths(xt, cond)
        found = torch.zeros_like(xt, dtype=torch.float64)
        for length in sorted(set(lengths.tolist())):
            mine = lengths == length
            modes_of = rouse_modes(length, self.bond, self.dimensions)
            values, vectors = (found_of.to(xt.device) for found_of in modes_of)
            gain = (
                alpha[mine, None]
                * values
                / (alpha[mine, None].square() * values + sigma[mine, None].square())
            )
            modes = torch.einsum("nk,bnd->bkd", vectors, xt[mine, :length].double())
            inside = torch.einsum("nk,bkd->bnd", vectors, gain.unsqueeze(-1) * modes)
            found = found.index_put((mine,), nn.functional.pad(inside, (0, 0, 0, xt.shape[1] - length)))
        return found.to(xt.dtype)


def rouse_modes(length: int, bond: float = 1.0, dimensions: int = 3) -> tuple[Tensor, Tensor]:
    """(n - 1,) variances and (n, n - 1) orthonormal modes of a Rouse chain, the center of mass left out."""
    place = torch.arange(length, dtype=torch.float64) + 0.5
    mode = torch.arange(1, length, dtype=torch.float64)
    vectors = math.sqrt(2 / length) * torch.cos(math.pi * place.unsqueeze(1) * mode / length)
    values = bond**2 / dimensions / (4 * torch.sin(math.pi * mode / (2 * length)).square())
    return values, vectors


def chain_lengths(xt: Tensor, cond: Cond) -> Tensor:
    """(B,) number of real positions of each chain."""
    if cond.mask is None:
        return torch.full((xt.shape[0],), xt.shape[1], dtype=torch.int64, device=xt.device)
    return cond.mask.expand(xt.shape)[..., 0].sum(1).long()


class ProjectedTeacher(Exact):
    """Views (B, N, k) of a point set: given a camera (B, k, d) as condition, N(points camera^T, std^2).

    Args:
        process: a Gaussian process.
        points: (N, d).
        std: of every view coordinate.
    """

    def __init__(self, process: Gaussian, points: Tensor, std: float) -> None:
        """Keep the law."""
        super().__init__(process)
        self.register_buffer("points", points.double())
        self.std = std

    points: Tensor

    def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """The Gaussian formula around this camera's view."""
        around = GaussianTeacher(self.process, project_points(self.points, cond.data), self.std)
        return around.believe(xt, t, cond)


def project_points(points: Tensor, camera: Tensor) -> Tensor:
    """(B, N, k) linear views of points (N, d) by cameras (B, k, d)."""
    return torch.einsum("nd,bkd->bnk", points.to(camera.dtype), camera)
