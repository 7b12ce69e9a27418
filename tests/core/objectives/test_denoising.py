"""The denoising loss is least at the posterior mean: Gaussians, rotated covariances, mixtures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from objective_toys import At, Listed
from torch import Tensor, nn

from fewstep.objectives import Denoising, weights
from fewstep.processes import Gaussian, edm, flow, trig, vp
from fewstep.protocol import Batch, Cond, Denoiser, Estimate, Step
from fewstep.testing.analytic import CovarianceTeacher, GaussianTeacher, MixtureTeacher
from fewstep.testing.exact import Exact

MEAN, STD = 0.7, 0.6
EVERY = pytest.mark.parametrize("process", [edm(), flow(), trig(), vp()], ids=["edm", "flow", "trig", "vp"])


class Nudged(Denoiser):
    """An exact denoiser plus a x_t + b: both must want to be zero."""

    def __init__(self, exact: Exact) -> None:
        super().__init__(nn.Identity(), exact.process, "x0")
        object.__setattr__(self, "exact", exact)
        self.gain, self.shift = (nn.Parameter(torch.zeros((), dtype=torch.float64)) for _ in range(2))

    def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
        exact: Any = self.exact
        return Estimate(exact(xt, t).x0 + self.gain * xt + self.shift)


def slope(student: Nudged, x: Tensor, noise: Tensor, mass: Tensor | float = 1.0, time: float = 0.5) -> float:
    """Largest derivative with respect to the nudge, expectations as finite sums."""
    weight = lambda process, t: mass * weights.edm(process, t)  # noqa: E731
    objective = Denoising(At(time), weight=weight)
    key = Listed(0, values={"noise": noise})
    total = objective.loss(objective.phases(0)[0], {"student": student}, Batch(x, x), Step(0, 1, key)).total
    return max(float(g.abs()) for g in torch.autograd.grad(total, [student.gain, student.shift]))


def corners(dimensions: int) -> tuple[Tensor, Tensor]:
    """All signs of z and eps: exact for what is quadratic in them."""
    signs = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    both = torch.cartesian_prod(*[signs] * (2 * dimensions))
    return both[:, :dimensions], both[:, dimensions:]


@EVERY
def test_the_posterior_mean_of_a_gaussian_is_the_optimum(process: Gaussian) -> None:
    z, noise = corners(1)
    x = MEAN + STD * z
    assert slope(Nudged(GaussianTeacher(process, MEAN, STD)), x, noise) < 1e-12
    assert slope(Nudged(GaussianTeacher(process, MEAN, 1.1 * STD)), x, noise) > 1e-3


@EVERY
def test_rotated_covariances_in_three_dimensions_have_their_own_optimum(process: Gaussian) -> None:
    turn = torch.linalg.qr(torch.tensor([[1.0, 2, 0], [0, 1, 3], [2, 0, 1]], dtype=torch.float64))[0]
    root = turn @ torch.diag(torch.tensor([0.2, 0.7, 1.3], dtype=torch.float64))
    z, noise = corners(3)
    x = z @ root.T
    assert slope(Nudged(CovarianceTeacher(process, root @ root.T)), x, noise) < 1e-12
    diagonal = torch.diag(torch.diag(root @ root.T)) * 1.2
    assert slope(Nudged(CovarianceTeacher(process, diagonal)), x, noise) > 1e-3


def test_the_posterior_mean_of_a_mixture_is_the_optimum() -> None:
    shares, means, stds = torch.tensor([0.3, 0.7]), torch.tensor([[-2.0], [1.5]]), torch.tensor([0.5, 0.4])
    nodes, mass = (torch.as_tensor(part) for part in np.polynomial.hermite_e.hermegauss(60))
    z, noise = (part.reshape(-1, 1) for part in torch.meshgrid(nodes, nodes, indexing="ij"))
    each = (mass[:, None] * mass[None, :]).reshape(-1) / mass.sum() ** 2
    x = torch.cat([m + s * z for m, s in zip(means.double(), stds.double(), strict=True)])
    weight = torch.cat([share * each for share in shares.double()]) * len(x)
    exact = MixtureTeacher(edm(), shares, means, stds)
    assert slope(Nudged(exact), x, noise.repeat(2, 1), weight) < 1e-5
    narrow = MixtureTeacher(edm(), shares, means, 0.8 * stds)
    assert slope(Nudged(narrow), x, noise.repeat(2, 1), weight) > 1e-2
