"""Students with exact fakes in several dimensions and of any shape, and finite sums that integrate over their noise."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from objective_toys import MEAN, STD, Listed, four_points
from torch import Tensor, nn

from fewstep.processes import Gaussian
from fewstep.protocol import Batch, Cond, Sample, Step
from fewstep.testing.analytic import CovarianceTeacher, Exact
from fewstep.testing.linear import LinearStudent

ALPHA, SIGMA = 0.8, 0.6
V_P = ALPHA**2 * STD**2 + SIGMA**2
PLAIN: dict[str, Any] = {"normalize": False}


def fisher_weight(process: Any, t: Tensor) -> Tensor:
    """From x0 units to scores: alpha^2 / sigma^4."""
    return process.alpha(t).square() / process.sigma(t).pow(4)


def weighted(mass: Tensor) -> Any:
    return lambda process, t: fisher_weight(process, t) * mass


class ExactRatio(nn.Module):
    """The optimal discriminator between two Gaussians, log p_t - log q_t."""

    def __init__(self, p: Any, q: Any) -> None:
        super().__init__()
        self.p, self.q = p, q

    def forward(self, x: Tensor, t: Tensor, cond: Any) -> Tensor:
        found: Tensor = self.p.log_prob(x) - self.q.log_prob(x)
        return found if found.ndim == 1 else found.squeeze(-1)


def linear_ratio(student: LinearStudent) -> ExactRatio:
    normal = torch.distributions.Normal
    gain, shift = student.gain.detach(), student.shift.detach()
    v_q = ALPHA**2 * gain**2 + SIGMA**2
    return ExactRatio(normal(ALPHA * MEAN, V_P**0.5), normal(ALPHA * shift, v_q.sqrt()))


class MatrixStudent(nn.Module):
    """x = A z + b."""

    def __init__(self, matrix: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.matrix, self.shift = nn.Parameter(matrix.clone()), nn.Parameter(shift.clone())

    def generate(self, batch: Batch, step: Step, **asked: Any) -> Sample:
        z = step.key.at("noise").normal(batch.like)
        return Sample(z @ self.matrix.T + self.shift, batch.cond)

    sample = generate


class MatrixFake(Exact):
    """The exact denoiser of a matrix student."""

    def __init__(self, process: Gaussian, student: MatrixStudent) -> None:
        super().__init__(process)
        object.__setattr__(self, "student", student)

    student: MatrixStudent

    def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        matrix, shift = self.student.matrix.detach(), self.student.shift.detach()
        return CovarianceTeacher(self.process, matrix @ matrix.T, shift).believe(xt, t, cond)


class BentStudent(nn.Module):
    """x = a z + b + c sin z, one dimension: its law is not Gaussian."""

    def __init__(self, numbers: tuple[float, float, float]) -> None:
        super().__init__()
        self.numbers = nn.Parameter(torch.tensor(numbers, dtype=torch.float64))

    def at(self, z: Tensor) -> Tensor:
        a, b, c = self.numbers
        return a * z + b + c * torch.sin(z)

    def generate(self, batch: Batch, step: Step, **asked: Any) -> Sample:
        return Sample(self.at(step.key.at("noise").normal(batch.like)), batch.cond)


class QuadratureFake(Exact):
    """The posterior mean of any one-dimensional student, by a sum over its noise."""

    def __init__(self, process: Gaussian, student: BentStudent, nodes: int = 120) -> None:
        super().__init__(process)
        object.__setattr__(self, "student", student)
        self.z, mass = gauss(nodes)
        self.log_mass = mass.log()

    student: BentStudent

    def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        x = self.student.at(self.z).detach()
        share = torch.softmax(self.log_mass - (xt - ALPHA * x).square() / (2 * SIGMA**2), 1)
        return (share * x).sum(1, keepdim=True)

    def log_density(self, xt: Tensor) -> Tensor:
        """log q_t up to a constant, differentiable in the student's numbers and in x_t (N, 1)."""
        each = self.log_mass - (xt - ALPHA * self.student.at(self.z)).square() / (2 * SIGMA**2)
        return torch.logsumexp(each, 1) - 0.5 * np.log(2 * np.pi * SIGMA**2)


def gauss(nodes: int) -> tuple[Tensor, Tensor]:
    """Gauss-Hermite nodes of a standard normal number, and their masses."""
    at, mass = (torch.as_tensor(part) for part in np.polynomial.hermite_e.hermegauss(nodes))
    keep = mass > 1e-40 * mass.sum()
    return at[keep], mass[keep] / mass[keep].sum()


def cross(dimensions: int) -> tuple[Batch, Listed]:
    """Noise of student and judge at the corners of a cross polytope: exact up to degree three in both together."""
    both = 2 * dimensions
    corners = both**0.5 * torch.cat([torch.eye(both), -torch.eye(both)]).double()
    z, eps = corners[:, :dimensions], corners[:, dimensions:]
    return Batch(like=z), Listed(0, values={"sample": z, "judge": eps})


def tensor_rule(
    dimensions: int, transform: Callable[[Tensor], Tensor], nodes: int = 3
) -> tuple[Batch, Listed, Tensor]:
    """All combinations of ``nodes`` Gauss-Hermite points for both noises, transformed; and mass times their number."""
    at, mass = gauss(nodes)
    points = torch.tensor(list(itertools.product(at.tolist(), repeat=2 * dimensions)), dtype=torch.float64)
    masses = torch.tensor(list(itertools.product(mass.tolist(), repeat=2 * dimensions)), dtype=torch.float64)
    weight = masses.prod(1)
    moved = transform(points)
    z, eps = moved[:, :dimensions], moved[:, dimensions:]
    return Batch(like=z), Listed(0, values={"sample": z, "judge": eps}), weight * len(weight)


def rotated(stds: tuple[float, ...], seed: int = 3) -> Tensor:
    """A covariance with these standard deviations along rotated axes."""
    count = len(stds)
    turn = torch.linalg.qr(torch.randn(count, count, generator=torch.Generator().manual_seed(seed)).double())[
        0
    ]
    return turn @ torch.diag(torch.tensor(stds).double().square()) @ turn.T


def descent(objective: Any, roles: Any, steps: int = 250) -> tuple[float, float]:
    """Where Adam leads, with exact gradients and steps that shrink."""
    batch, key = four_points()
    optimizer = torch.optim.Adam(roles["student"].parameters(), lr=0.05)
    for i in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - i / steps) ** 2 + 1e-7
        optimizer.zero_grad()
        phase = objective.phases(i)[-1]
        objective.loss(phase, roles, batch, Step(i, steps, key)).total.backward()
        optimizer.step()
    return float(roles["student"].gain.detach()), float(roles["student"].shift.detach())
