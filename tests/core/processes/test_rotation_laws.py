"""Rotations: exponential and logarithm, the geometry, and the geodesic flow against laws of angles."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.objectives import Consistency, GridPairs
from fewstep.objectives import ddim as ddim_step
from fewstep.processes import SO3, GeodesicFlow, Product, flow
from fewstep.processes.rotations import exp, hat, log, nearest, to_quaternion
from fewstep.protocol import (
    Batch,
    Centered,
    Cond,
    Denoiser,
    Estimate,
    Flow,
    Geometry,
    Key,
    Process,
    Sample,
    Step,
    pathwise,
)
from fewstep.samplers import FewStep, ddim, heun
from fewstep.testing.checks import run_checks
from fewstep.testing.components import check_process, check_student
from fewstep.testing.rotations import RotationTeacher, log_density

PROCESS = GeodesicFlow()


def draw(*shape: int, seed: int = 0) -> Tensor:
    return Key(seed).normal(torch.zeros(shape, dtype=torch.float64))


def turns(*shape: int, seed: int = 0) -> Tensor:
    """Uniform rotations."""
    return PROCESS.noise(Batch(torch.zeros(*shape, 3, 3, dtype=torch.float64)), Key(seed))


def at(value: float, rows: int) -> Tensor:
    return torch.full((rows,), value, dtype=torch.float64)


def about(axis: Tensor, angle: Tensor) -> Tensor:
    return exp(angle[:, None] * axis)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 0.5, 2.0, math.pi - 1e-9])
def test_the_logarithm_inverts_the_exponential_at_every_angle(angle: float) -> None:
    axis = draw(50, 3)
    v = angle * axis / axis.norm(dim=1, keepdim=True)
    assert float((exp(v) - torch.matrix_exp(hat(v))).abs().max()) < 1e-14
    assert float((log(exp(v)) - v).abs().max()) < 1e-14 * max(1.0, angle)


def test_derivatives_exist_at_zero_angle_and_at_rotations() -> None:
    zero = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: log(exp(v)), (zero,))
    assert torch.autograd.gradcheck(nearest, (turns(3).requires_grad_(),))
    assert torch.autograd.gradcheck(nearest, (draw(3, 3, 3).requires_grad_(),))
    nothing = torch.zeros(2, 3, 3, requires_grad=True)
    (nearest(nothing) * torch.arange(9.0).reshape(3, 3)).sum().backward()
    assert nothing.grad is not None
    assert bool(torch.isfinite(nothing.grad).all())


def test_forward_mode_agrees_with_backward_mode() -> None:
    m, change = draw(3, 3), draw(3, 3, seed=1)
    _, forward = torch.func.jvp(nearest, (m,), (change,))
    backward = torch.autograd.functional.jacobian(nearest, m)
    assert torch.allclose(forward, torch.einsum("ijkl,kl->ij", backward, change), atol=1e-9)


def test_the_nearest_rotation_is_nearer_than_its_neighbors_and_never_a_reflection() -> None:
    m = draw(200, 3, 3)
    found = nearest(m)
    assert torch.allclose(found @ found.mT, torch.eye(3).double().expand(200, 3, 3), atol=1e-12)
    assert torch.allclose(torch.linalg.det(found), torch.ones(200).double(), atol=1e-12)
    beside = found @ exp(0.05 * draw(200, 3, seed=1))
    assert bool(((found - m).square().sum((1, 2)) <= (beside - m).square().sum((1, 2))).all())
    assert torch.allclose(nearest(turns(9)), turns(9), atol=1e-12)


def test_the_geodesic_flow_obeys_the_laws_of_processes() -> None:
    assert isinstance(PROCESS, Process)
    assert isinstance(PROCESS, Flow)
    assert isinstance(SO3(), Geometry)
    mask = torch.ones(4, 5, 1, 1, dtype=torch.bool)
    mask[1, 3:] = False
    whole = turns(4, 5)
    padded = SO3().on(mask).project(whole)
    for batch in (Batch(whole, whole), Batch(padded, padded, Cond(mask=mask))):
        broken = [o for o in run_checks(check_process(PROCESS, batch)) if not o.ok]
        assert not broken, broken


def frames() -> tuple[Product, Batch]:
    process = Product({"place": flow(geometry=Centered()), "turn": PROCESS})
    mask = torch.ones(4, 6, dtype=torch.bool)
    mask[2:, 4:] = False
    masks = {"place": mask[..., None], "turn": mask[..., None, None]}
    raw = {"place": draw(4, 6, 3), "turn": turns(4, 6)}
    clean = process.on(masks).geometry.project(raw)
    return process, Batch(like=clean, x=clean, cond=Cond(mask=masks))


def test_frames_are_a_product_that_obeys_the_laws() -> None:
    process, batch = frames()
    broken = [o for o in run_checks(check_process(process, batch)) if not o.ok]
    assert not broken, broken


class Frames(torch.nn.Module):
    """Speaks flow velocities of places and rotations; linear in what it sees, so it has a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.place = torch.nn.Linear(3, 3).double()
        self.turn = torch.nn.Linear(9, 3).double()

    def forward(self, x: Any, time: Tensor, cond: Cond) -> Any:
        return {"place": self.place(x["place"]), "turn": self.turn(x["turn"].flatten(-2))}


@pytest.mark.parametrize("solver", [ddim, heun])
def test_solvers_and_gradients_run_on_frames(solver: Any) -> None:
    process, batch = frames()
    denoiser = Denoiser(Frames(), process, "flow")
    start = process.corrupt(None, process.on(batch.mask).noise(batch, Key(3)), at(1.0, 4))
    *_, last = solver(denoiser, start, process.grid(4), batch.cond)
    turn = last.x["turn"]
    assert torch.allclose(turn @ turn.mT, torch.eye(3).double().expand_as(turn), atol=1e-10)
    assert torch.equal(turn[2:, 4:], torch.eye(3).double().expand(2, 2, 3, 3))
    score = process.on(batch.mask).geometry.nll(Estimate(last.x), batch.x).mean()
    score.backward()
    assert float(denoiser.net.turn.weight.grad.abs().max()) > 0
    assert bool(torch.isfinite(denoiser.net.turn.weight.grad).all())


@pytest.mark.parametrize("rule", ["renoise", "ddim", "posterior"])
def test_few_step_students_run_on_frames(rule: Any) -> None:
    process, batch = frames()
    student = FewStep(Frames(), process, "flow", (1.0, 0.6, 0.2), rule)
    broken = [o for o in run_checks(check_student(student, batch)) if not o.ok]
    assert not broken, broken


def test_about_one_axis_the_flow_is_addition_of_angles() -> None:
    """On a circle: x_t = a + t (b - a), differences taken in (-pi, pi]."""
    axis = draw(1, 3) / draw(1, 3).norm()
    a, b = torch.tensor([0.3, 2.9, -3.0]).double(), torch.tensor([1.0, -2.9, 1.0]).double()
    short = torch.atan2(torch.sin(b - a), torch.cos(b - a))
    t, s = at(0.8, 3), at(0.3, 3)
    xt = PROCESS.corrupt(about(axis, a), about(axis, b), t)
    assert torch.allclose(xt, about(axis, a + 0.8 * short), atol=1e-14)
    est = Estimate(about(axis, a))
    assert torch.allclose(PROCESS.jump(xt, est, t, s), about(axis, a + 0.3 * short), atol=1e-14)
    expected = xt @ hat(short[:, None] * axis)
    assert torch.allclose(PROCESS.velocity(xt, est, t), expected, atol=1e-13)
    assert torch.allclose(PROCESS.x0(short[:, None] * axis, xt, t, "flow"), est.x0, atol=1e-14)
    assert torch.allclose(PROCESS.x0(-0.8 * short[:, None] * axis, xt, t, "tangent"), est.x0, atol=1e-14)


def test_noise_is_uniform_and_its_angle_shrinks_with_time() -> None:
    """Uniform rotations turn by a with distribution function (a - sin a) / pi; at time t by t a. Kolmogorov at 1e-6."""
    rows = 20_000
    clean, noise = turns(1).expand(rows, 3, 3), turns(rows, seed=1)
    level = 2.7 / math.sqrt(rows)
    empirical = (torch.arange(rows) + 0.5) / rows
    for t in (1.0, 0.5, 0.1):
        xt = PROCESS.corrupt(clean, noise, at(t, rows))
        angle = log(clean.mT @ xt).norm(dim=-1).sort().values / t
        assert float(((angle - angle.sin()) / math.pi - empirical).abs().max()) < level
        wrong = angle * 1.05
        assert float(((wrong - wrong.sin()) / math.pi - empirical).abs().max()) > level
    assert float(noise.mean(0).abs().max()) < 5 / math.sqrt(3 * rows)


def test_the_density_of_noisy_rotations_is_that_of_their_angles() -> None:
    """The teacher's density times (1 - cos a) / pi integrates to one and peaks where the angles do."""
    angle = torch.linspace(1e-6, math.pi, 200_001, dtype=torch.float64)
    for t in (0.2, 0.7, 1.0):
        density = torch.where(angle < math.pi * t, log_density(angle, torch.tensor(t).double()).exp(), 0)
        mass = torch.trapezoid(density * (1 - angle.cos()) / math.pi, angle)
        assert float(mass) == pytest.approx(1, abs=1e-4)


def mixture() -> RotationTeacher:
    return RotationTeacher(PROCESS, turns(3, seed=4), torch.tensor([0.5, 0.3, 0.2]))


def test_the_exact_estimate_is_the_mean_of_clean_rotations_seen_from_the_state() -> None:
    """Regression on draws: among states near one place the mean tangent toward the truth is the teacher's."""
    teacher, rows = mixture(), 60_000
    clean = teacher.draw(Key(1).uniform((rows,)))
    t = at(0.7, rows)
    xt = PROCESS.corrupt(clean, turns(rows, seed=2), t)
    place = xt[:1]
    near = log(place.mT @ xt).norm(dim=-1) < 0.6
    assert int(near.sum()) > 300
    truth = log(xt[near].mT @ clean[near])
    believed = log(xt[near].mT @ teacher(xt[near], t[near]).x0)
    error = truth.std(0) / near.sum().sqrt()
    assert bool(((truth - believed).mean(0).abs() < 5 * error).all())
    assert float(believed.mean(0).norm() / error.max()) > 10


def test_the_exact_flow_carries_uniform_rotations_to_the_law_of_the_data() -> None:
    teacher, rows = mixture(), 1500
    *_, last = ddim(teacher, turns(rows, seed=3), PROCESS.grid(40), Cond())
    gap = log(last.x[:, None].mT @ teacher.points).norm(dim=-1)
    assert float(gap.min(1).values.quantile(0.99)) < 0.02
    shares = torch.bincount(gap.argmin(1), minlength=3) / rows
    assert float((shares - teacher.weights).abs().max()) < 5 * math.sqrt(0.25 / rows)
    one_call = teacher(turns(rows, seed=3), at(1.0, rows)).x0
    assert float(log(one_call[:, None].mT @ teacher.points).norm(dim=-1).min(1).values.median()) > 0.2


def test_the_error_of_jumps_halves_when_steps_double() -> None:
    """Where no edge of a density is near: points within a radian, times from .9 to .5."""
    points = exp(0.4 * draw(3, 3, seed=8))
    teacher, rows = RotationTeacher(PROCESS, points, torch.tensor([0.5, 0.3, 0.2])), 40
    start = PROCESS.corrupt(teacher.draw(Key(5).uniform((rows,))), turns(rows, seed=3), at(0.9, rows))

    def landed(steps: int) -> Tensor:
        times = torch.linspace(0.9, 0.5, steps + 1, dtype=torch.float64)
        *_, before, _ = ddim(teacher, start, times, Cond())
        return before.x

    exact = landed(160)
    errors = [float(log(landed(n).mT @ exact).norm(dim=-1).median()) for n in (5, 10, 20)]
    assert errors[0] > 1e-3
    for coarse, fine in itertools.pairwise(errors):
        assert 1.7 < coarse / fine < 2.6


def test_a_direction_turns_a_sample_as_it_says() -> None:
    """The gradient of the pairing is <v, d>: descending along the difference to a target reaches the target."""
    target, v = turns(4, seed=6), torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    base = turns(4, seed=7)
    geometry = SO3(reduction="sum")
    x = base @ exp(v)
    direction = draw(4, 3)
    (gradient,) = torch.autograd.grad(pathwise(Sample(x), direction, geometry), v)
    assert torch.allclose(gradient, direction / 4, atol=1e-12)
    here = base
    for _ in range(60):
        move = geometry.difference(Estimate(target), Estimate(here), here)
        here = here @ exp(0.3 * move)
    assert torch.allclose(here, target, atol=1e-7)


def test_padding_counts_in_no_mean_and_distances_are_squared_angles() -> None:
    mask = torch.tensor([[True, True, False]]).reshape(1, 3, 1, 1)
    a, b = turns(1, 3), turns(1, 3, seed=1)
    angles = log(a.mT @ b).norm(dim=-1).square()[0]
    summed = SO3("sum").on(mask).distance(Estimate(a), Estimate(b))
    mean = SO3().on(mask).nll(Estimate(a), b)
    assert float(summed) == pytest.approx(float(angles[:2].sum()), rel=1e-12)
    assert float(mean) == pytest.approx(float(angles[:2].mean()) / 3, rel=1e-12)


def test_a_transition_from_a_noisy_rotation_is_refused() -> None:
    with pytest.raises(ValueError, match="no Markov transition"):
        PROCESS.corrupt(turns(2), turns(2, seed=1), at(0.8, 2), since=at(0.2, 2))
    with pytest.raises(ValueError, match="unknown prediction"):
        PROCESS.x0(draw(2, 3), turns(2), at(0.5, 2), "eps")


def test_quaternions_of_half_turns_are_unit() -> None:
    half = exp(math.pi * torch.eye(3, dtype=torch.float64))
    assert torch.allclose(to_quaternion(half).norm(dim=-1), torch.ones(3).double())


def test_the_boundary_form_is_the_state_itself_where_it_is_clean() -> None:
    x, raw = turns(5), turns(5, seed=1)
    assert torch.allclose(PROCESS.x0(raw, x, at(PROCESS.t_min, 5), "boundary"), x, atol=1e-12)
    assert torch.allclose(PROCESS.x0(x, x, at(0.7, 5), "boundary"), x, atol=1e-12)
    noisy = PROCESS.x0(raw, x, at(1.0, 5), "boundary")
    assert float(PROCESS.geometry.distance(Estimate(noisy), Estimate(raw)).max()) < (4 * PROCESS.t_min) ** 2


def test_a_map_to_the_only_rotation_that_exists_is_consistent_and_any_other_is_not() -> None:
    """Neighbors on the teacher's path, the last of which is clean: there the map is held to the state."""
    only, other = (RotationTeacher(PROCESS, turns(1, seed=seed), torch.ones(1)) for seed in (3, 4))
    objective = Consistency(GridPairs(3), ddim_step, target=None)
    x = only.points.expand(64, 3, 3)

    def loss(student: RotationTeacher) -> float:
        roles, step = {"student": student, "teacher": only}, Step(0, 1, Key(0))
        return float(objective.loss(objective.phases(0)[0], roles, Batch(x, x), step).total)

    assert loss(only) < 1e-5
    assert loss(other) > 0.05


def test_denoising_is_least_at_the_mean_tangent_and_not_at_the_mean_rotation() -> None:
    """Far from the data the two differ by degrees, and only the mean tangent makes the right velocity."""
    teacher, t, place = mixture(), at(0.95, 1), turns(1, seed=2)
    toward = log(place.mT @ teacher.points)
    share = torch.softmax(teacher.weights.log() + log_density(toward.norm(dim=-1), t), 0)
    exact = middle = teacher(place, t).x0
    for _ in range(200):
        middle = middle @ exp(0.5 * (share[:, None] * log(middle.mT @ teacher.points)).sum(0, keepdim=True))
    assert float(log(exact.mT @ middle).norm()) > 0.05

    def loss(guess: Tensor, seen_from: Tensor | None) -> float:
        each = SO3().nll(Estimate(guess.expand(3, 3, 3)), teacher.points, seen_from)
        return float((share * each).sum())

    assert loss(exact, place) < loss(middle, place) - 1e-4
    assert loss(middle, None) < loss(exact, None) - 1e-4


@pytest.mark.parametrize("error", [0.0, 1e-12, 1e-5, 5e-3, 0.3])
def test_the_short_way_to_the_nearest_rotation_ends_where_singular_vectors_do(error: float) -> None:
    m = turns(100) + error * draw(100, 3, 3)
    left, _, right = torch.linalg.svd(m)
    sign = torch.linalg.det(left @ right)
    by_vectors = left @ torch.diag_embed(torch.stack([sign**0, sign**0, sign], -1)) @ right
    assert torch.allclose(nearest(m), by_vectors, atol=1e-13)
