"""Exact parts in several dimensions for the tests of score distillation."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from objective_toys import Listed
from torch import Tensor, nn

from fewstep.processes import Gaussian
from fewstep.protocol import Batch, Cond, Sample, Step
from fewstep.testing.analytic import CovarianceTeacher
from fewstep.testing.exact import Exact


class MatrixStudent(nn.Module):
    """x = A z + b."""

    def __init__(self, process: Any, matrix: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.process = process
        self.matrix, self.shift = nn.Parameter(matrix.double()), nn.Parameter(shift.double())

    def generate(self, batch: Batch, step: Step, **asked: Any) -> Sample:
        z = self.process.noise(batch, step.key.at("noise"))
        return Sample(z @ self.matrix.T + self.shift, batch.cond)

    def sample(self, batch: Batch, step: Step, **asked: Any) -> Sample:
        return self.generate(batch, step)


class MatrixFake(Exact):
    """The exact denoiser of what a matrix student makes now: data N(b, A A^T)."""

    def __init__(self, process: Gaussian, student: MatrixStudent) -> None:
        super().__init__(process)
        object.__setattr__(self, "student", student)

    student: MatrixStudent

    def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        matrix, shift = self.student.matrix.detach(), self.student.shift.detach()
        return CovarianceTeacher(self.process, matrix @ matrix.T, shift).believe(xt, t, cond)


def rotated(values: tuple[float, ...], turned: bool) -> Tensor:
    """A symmetric matrix with these eigenvalues, along the axes or along skew directions."""
    diagonal = torch.diag(torch.tensor(values, dtype=torch.float64))
    if not turned:
        return diagonal
    size = len(values)
    skew = torch.triu(torch.arange(1.0, size * size + 1, dtype=torch.float64).reshape(size, size), 1) / size
    turn = torch.linalg.matrix_exp(skew - skew.T)
    return turn @ diagonal @ turn.T


def tensor_points(size: int, order: int = 2) -> tuple[Batch, Listed, Tensor]:
    """Gauss-Hermite points for z and eps in ``size`` dimensions each, and weights so that plain means integrate.

    Order 2 is exact for polynomials up to degree three in each coordinate.
    """
    nodes, mass = np.polynomial.hermite_e.hermegauss(order)
    points = torch.tensor(list(itertools.product(nodes, repeat=2 * size)), dtype=torch.float64)
    weight = torch.tensor(list(itertools.product(mass / mass.sum(), repeat=2 * size)), dtype=torch.float64)
    z, eps = points[:, :size], points[:, size:]
    return Batch(like=z), Listed(0, values={"sample": z, "judge": eps}), weight.prod(1) * len(points)
