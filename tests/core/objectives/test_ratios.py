"""f-divergences: every factor against quoted numbers, autodiff of the divergence, and closed forms in more dimensions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from objective_toys import ANGLE, GAIN, MEAN, SHIFT, STD, At, duel, hermite, linear_gradient, unit_process
from score_toys import MatrixFake, MatrixStudent, rotated, tensor_points
from torch import Tensor, nn

from fewstep.objectives import Adversary, DensityRatio, dmd, f_distill, ratios
from fewstep.objectives.ratios import bin_means, bin_of
from fewstep.objectives.weights import score
from fewstep.processes import Grid, edm, flow
from fewstep.protocol import Batch, Key, Step
from fewstep.testing.analytic import CovarianceTeacher

V_P = 0.64 * STD**2 + 0.36

ROWS: dict[str, tuple[Any, tuple[float, float]]] = {
    "reverse_kl": (lambda r: -r.log(), (0.319872, -1.192412)),
    "forward_kl": (lambda r: r * r.log(), (-0.363104, -0.801457)),
    "jensen_shannon": (lambda r: r * r.log() - (1 + r) * ((1 + r) / 2).log(), (-0.084284, -0.368933)),
    "softened_reverse_kl": (lambda r: (1 + r) * (1 + r).log() - (1 + r) * r.log(), (0.404156, -0.823479)),
    "hellinger": (lambda r: -2 * r.sqrt(), (-0.067859, -0.416016)),
    "jeffreys": (lambda r: (r - 1) * r.log(), (-0.043233, -1.993869)),
    "neyman": (lambda r: 1 / r, (163.2098, -69.0545)),
    "pearson": (lambda r: r.square(), (-2.030621, -2.481925)),
}
"""Factor -> f with D_f = E_q[f(p / q)], and the gradient by gain and shift at gain .9, shift -.4."""


class ExactRatio(nn.Module):
    """log p_t(x) - log q_t(x) of two Gaussians."""

    def __init__(self, p: Any, q: Any) -> None:
        super().__init__()
        self.p, self.q = p, q

    def forward(self, x: Tensor, t: Tensor, cond: Any) -> Tensor:
        found = self.p.log_prob(x) - self.q.log_prob(x)
        return found.squeeze(-1) if found.ndim > 1 else found


def normal(mean: float | Tensor, variance: float | Tensor) -> Any:
    mean, variance = (torch.as_tensor(v, dtype=torch.float64) for v in (mean, variance))
    return torch.distributions.Normal(mean, variance.sqrt())


def normals() -> tuple[Any, Any]:
    """Teacher and student at alpha = .8, sigma = .6."""
    return normal(0.8 * MEAN, V_P), normal(0.8 * SHIFT, 0.64 * GAIN**2 + 0.36)


class Unbounded(DensityRatio):
    """Without the bound exp(+-10), which matters to one row."""

    def __call__(self, logit: Tensor, t: Tensor, process: Any) -> Tensor:
        return self.factor(logit.exp())


def gradient_of(ratio: DensityRatio, order: int = 60) -> tuple[float, float]:
    batch, key, mass = hermite(order)
    objective = dmd(
        At(ANGLE),
        weight=lambda process, t: score(process, t) * mass,
        normalize=False,
        adversary=Adversary(weight=0.0),
        ratio=ratio,
    )
    return linear_gradient(objective, {**duel(), "disc": ExactRatio(*normals())}, batch, key)


@pytest.mark.parametrize("name", [name for name in ROWS if name != "neyman"])
def test_factors_give_the_quoted_gradients_of_their_divergences(name: str) -> None:
    found = gradient_of(DensityRatio(getattr(ratios, name), clip=None, normalize="none"))
    assert found == pytest.approx(ROWS[name][1], abs=1e-6)


def test_the_unbounded_divergence_explodes_and_the_bounds_tame_it() -> None:
    whole = gradient_of(Unbounded(ratios.neyman), 180)
    assert whole == pytest.approx(ROWS["neyman"][1], rel=1e-4)
    bounded = gradient_of(DensityRatio(ratios.neyman, clip=None, normalize="none"), 180)
    clipped = gradient_of(DensityRatio(ratios.neyman, normalize="none"))
    assert 50 < bounded[0] < whole[0]
    assert 0 < clipped[0] < 10


@pytest.mark.parametrize("name", ROWS)
def test_quoted_gradients_are_those_of_the_divergence_itself(name: str) -> None:
    f, quoted = ROWS[name]
    x = torch.linspace(-24, 24, 24_001, dtype=torch.float64)
    gain, shift = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (GAIN, SHIFT))
    log_p = normal(0.8 * MEAN, V_P).log_prob(x)
    log_q = normal(0.8 * shift, 0.64 * gain**2 + 0.36).log_prob(x)
    value = torch.trapezoid(log_q.exp() * f((log_p - log_q).exp()), x)
    exact = torch.autograd.grad(value, [gain, shift])
    assert [float(v) for v in exact] == pytest.approx(quoted, rel=1e-6, abs=1e-6)


def test_the_factor_is_the_second_derivative_times_the_squared_ratio() -> None:
    r = torch.tensor([0.2, 0.9, 3.0], dtype=torch.float64, requires_grad=True)
    for name, (f, _) in ROWS.items():
        (first,) = torch.autograd.grad(f(r).sum(), r, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), r)
        found = getattr(ratios, name)(r.detach())
        assert torch.allclose(found, second * r.detach() ** 2, rtol=1e-12), name


@pytest.mark.parametrize("turned", [False, True])
def test_the_forward_divergence_of_two_dimensional_gaussians_has_its_closed_gradient(turned: bool) -> None:
    """KL(p_t | q_t) by autodiff of its closed form, for covariances along the axes and across them."""
    process = unit_process()
    covariance, mean = rotated((0.5, 0.8), turned), torch.tensor([0.4, -0.2], dtype=torch.float64)
    student = MatrixStudent(process, rotated((0.7, 0.9), turned), torch.tensor([0.1, 0.2]))
    noised = lambda c: 0.64 * c + 0.36 * torch.eye(2, dtype=torch.float64)  # noqa: E731
    p = torch.distributions.MultivariateNormal(0.8 * mean, noised(covariance))
    q = torch.distributions.MultivariateNormal(0.8 * student.shift, noised(student.matrix @ student.matrix.T))
    exact = torch.autograd.grad(torch.distributions.kl_divergence(p, q), list(student.parameters()))
    batch, key, mass = tensor_points(2, 16)
    fixed = torch.distributions.MultivariateNormal(q.mean.detach(), q.covariance_matrix.detach())
    objective = dmd(
        At(ANGLE),
        weight=lambda process, t: score(process, t) * mass * 2,
        normalize=False,
        adversary=Adversary(weight=0.0),
        ratio=DensityRatio(ratios.forward_kl, clip=None, normalize="none"),
    )
    roles = {
        "teacher": CovarianceTeacher(process, covariance, mean),
        "student": student,
        "fake": MatrixFake(process, student),
        "disc": ExactRatio(p, fixed),
    }
    phase = objective.phases(0)[-1]
    total = objective.loss(phase, roles, batch, Step(0, 10, key)).total
    found = torch.autograd.grad(total, list(student.parameters()))
    for a, b in zip(found, exact, strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    assert float(exact[0].abs().max()) > 0.01


def test_a_clip_bounds_what_an_unbounded_factor_may_do() -> None:
    t = torch.full((3,), 0.5, dtype=torch.float64)
    logit = torch.tensor([-50.0, 0.0, 50.0], dtype=torch.float64)
    open_ended = DensityRatio(ratios.neyman, clip=None, normalize="none")
    clipped = DensityRatio(ratios.neyman, normalize="none")
    assert open_ended(logit, t, flow()).tolist() == pytest.approx([2 * math.exp(10), 2.0, 2 * math.exp(-10)])
    assert clipped(logit, t, flow()).tolist() == pytest.approx([20.0, 2.0, 0.1])
    assert open_ended.unbounded
    assert not clipped.unbounded


def test_bins_follow_the_natural_grid_and_each_has_mean_one() -> None:
    process = edm()
    edges = process.grid(10).flip(0)
    inside = (edges[1:] + edges[:-1]) / 2
    assert bin_of(inside, process, 10).tolist() == list(range(10))
    assert bin_of(edges[[0, -1]], process, 10).tolist() == [0, 9]
    logit = torch.tensor([0.0, math.log(3), 1.0, -1.0], dtype=torch.float64)
    t = inside[[2, 2, 7, 7]]
    found = DensityRatio(ratios.forward_kl, clip=None)(logit, t, process)
    assert found[:2].tolist() == pytest.approx([0.5, 1.5])
    assert bin_means(found, bin_of(t, process, 10), 10)[[2, 7]].tolist() == pytest.approx([1.0, 1.0])
    whole = DensityRatio(ratios.forward_kl, clip=None, normalize="batch")(logit, t, process)
    assert float(whole.mean()) == pytest.approx(1.0)
    assert float(whole[:2].mean()) != pytest.approx(1.0)


def test_small_batches_and_missing_clips_are_cautioned() -> None:
    process = unit_process()
    times = Grid(tuple(float(t) for t in np.linspace(0.1, 1.5, 10)))
    roles = {**duel(), "disc": ExactRatio(*normals())}

    def said(size: int, **settings: Any) -> str:
        batch = Batch(like=torch.zeros(size, 1, dtype=torch.float64))
        objective = f_distill(times, ratio=DensityRatio(ratios.pearson, **settings))
        return " ".join(objective.cautions(roles, batch, Step(0, 10, Key(0))))

    assert "bins" in said(8)
    assert "grows without end" in said(8, clip=None)
    assert said(400) == ""
    assert said(8, normalize="batch") == ""
    assert process.t_max > 1.5


def test_a_hinge_discriminator_estimates_no_ratio() -> None:
    with pytest.raises(ValueError, match="cross-entropy"):
        f_distill(At(1.0), adversary=Adversary(loss="hinge"))
