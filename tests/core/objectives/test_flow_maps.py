"""Consistency objectives against closed forms of linear flow maps (teacher N(0, .6^2) unless said)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from objective_toys import Listed
from torch import Tensor, nn

from fewstep.objectives import (
    Consistency,
    GridPairs,
    RatioPairs,
    SegmentEnd,
    ddim,
    euler,
    heun,
    l1,
    pseudo_huber,
)
from fewstep.objectives.weights import inverse_gap
from fewstep.processes import Gaussian, Uniform, edm, flow, trig
from fewstep.protocol import Batch, Cond, Denoiser, Estimate, Key, Step, spread
from fewstep.testing.analytic import GaussianTeacher


class Table(Denoiser):
    """x0 = gain(t) x_t with one number per grid time."""

    def __init__(self, process: Gaussian, grid: Tensor, gains: Tensor) -> None:
        super().__init__(nn.Identity(), process, "x0")
        self.grid = grid
        self.gains = nn.Parameter(gains.clone())

    def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
        place = (t[:, None] - self.grid).abs().argmin(1)
        return Estimate(spread(self.gains[place], xt) * xt)


def solved_gains(process: Gaussian, grid: Tensor, solver: Any) -> Tensor:
    """The product of the teacher's step factors from each grid time to the cleanest."""
    teacher = GaussianTeacher(process, 0.0, 0.6)
    one = torch.ones(len(grid) - 1, 1, dtype=torch.float64)
    factor = solver(process, lambda x, t: teacher(x, t), one, grid[:-1], grid[1:]).squeeze(1)
    tail = factor.flip(0).cumprod(0).flip(0) / process.alpha(grid[-1])
    return torch.cat([tail, 1 / process.alpha(grid[-1:])])


@pytest.mark.parametrize(
    ("steps", "of_ddim", "of_heun"),
    [(4, 0.276326, 1.384555), (8, 0.424373, 0.758279), (16, 0.504665, 0.635684), (32, 0.550258, 0.608347)],
)
def test_products_of_solver_steps_have_the_quoted_spread(steps: int, of_ddim: float, of_heun: float) -> None:
    process = edm()
    grid = process.grid(steps)
    assert 80 * float(solved_gains(process, grid, ddim)[0]) == pytest.approx(of_ddim, abs=1e-6)
    assert 80 * float(solved_gains(process, grid, heun)[0]) == pytest.approx(of_heun, abs=1e-6)


@pytest.mark.parametrize("process", [edm(), flow(), trig()], ids=["edm", "flow", "trig"])
@pytest.mark.parametrize("solver", [ddim, euler, heun])
def test_the_optimum_of_consistency_is_the_product_of_the_teachers_steps(process: Any, solver: Any) -> None:
    grid = process.grid(6)
    gains = solved_gains(process, grid, solver)
    assert table_gradient(process, grid, gains, solver) < 1e-12
    assert table_gradient(process, grid, gains * 1.01, solver) > 1e-6


def test_the_product_of_another_solver_is_not_the_optimum() -> None:
    process = edm()
    grid = process.grid(6)
    assert table_gradient(process, grid, solved_gains(process, grid, heun), ddim) > 1e-3


def table_gradient(process: Any, grid: Tensor, gains: Tensor, solver: Any) -> float:
    student = Table(process, grid, gains)
    x = Key(1).normal(torch.zeros(64, 2, dtype=torch.float64))
    objective = Consistency(pairs=GridPairs(len(grid) - 1), solver=solver, target=None)
    roles = {"teacher": GaussianTeacher(process, 0.0, 0.6), "student": student}
    total = run(objective, roles, x).total
    (slope,) = torch.autograd.grad(total, [student.gains])
    return float(slope.abs().max())


def test_descent_on_the_grid_finds_the_products() -> None:
    process = edm(sigma_max=5.0)
    grid = process.grid(4)
    student = Table(process, grid, torch.full((5,), 0.5).double())
    optimizer = torch.optim.Adam(student.parameters(), lr=0.05)
    objective = Consistency(pairs=GridPairs(4), solver=ddim, target=None)
    roles = {"teacher": GaussianTeacher(process, 0.0, 0.6), "student": student}
    x = 0.6 * Key(1).normal(torch.zeros(64, 1, dtype=torch.float64))
    for i in range(250):
        optimizer.zero_grad()
        run(objective, roles, x, Key(2).at(i)).total.backward()
        optimizer.step()
    assert torch.allclose(
        student.gains.detach()[:-1], solved_gains(process, grid, ddim)[:-1], rtol=1e-3, atol=1e-5
    )


class Watched(Table):
    """Remembers what it was shown."""

    def __init__(self, process: Gaussian) -> None:
        super().__init__(process, torch.zeros(1).double(), torch.zeros(1).double())
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
        self.seen.append((xt, t))
        return super().forward(xt, t, cond)


def test_consistency_training_shows_both_passes_the_same_noise() -> None:
    student = Watched(edm())
    x = Key(3).normal(torch.zeros(16, 2, dtype=torch.float64))
    run(Consistency(teacher=None, target=None), {"student": student}, x)
    of_target, of_student = ((xt - x) / t[:, None] for xt, t in student.seen)
    assert bool((student.seen[1][1] > student.seen[0][1]).all())
    assert torch.allclose(of_target, of_student, atol=1e-10)


def test_consistency_training_is_solved_by_the_map_to_a_single_point() -> None:
    class Point(Table):
        def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
            return Estimate(torch.full_like(xt, 0.3) + 0 * self.gains.sum())

    student = Point(edm(sigma_min=1e-9), torch.zeros(1).double(), torch.zeros(1).double())
    x = torch.full((16, 2), 0.3, dtype=torch.float64)
    assert value(run(Consistency(teacher=None, target=None), {"student": student}, x)) < 1e-15


def test_dropout_draws_the_same_numbers_in_both_passes() -> None:
    class Dropped(Watched):
        def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
            self.seen.append((nn.functional.dropout(torch.ones(64), 0.5), t))
            return Estimate(xt * self.gains)

    student = Dropped(edm())
    run(Consistency(teacher=None, target=None), {"student": student}, torch.zeros(4, 2, dtype=torch.float64))
    assert torch.equal(student.seen[0][0], student.seen[1][0])


def test_the_last_interval_aims_at_the_state_itself() -> None:
    process = edm()
    grid = process.grid(1)
    teacher = GaussianTeacher(process, 0.0, 0.6)
    gain = solved_gains(process, grid, ddim)[0]
    student = Table(process, grid, torch.tensor([float(gain), 999.0], dtype=torch.float64))
    roles = {"teacher": teacher, "student": student}
    x = Key(1).normal(torch.zeros(8, 2, dtype=torch.float64))
    assert value(run(Consistency(pairs=GridPairs(1), solver=ddim, target=None), roles, x)) < 1e-20


def test_flow_maps_of_the_exact_ode_are_consistent_inside_segments() -> None:
    process = edm(sigma_max=5.0)
    teacher = GaussianTeacher(process, 0.2, 0.6)

    class Exact(Denoiser):
        def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
            there = teacher.flow_map(xt, t, asked["to"])
            kept = spread(asked["to"] / t, xt)
            safe = torch.where(kept == 1, 0.5, kept)
            return Estimate(
                torch.where(kept == 1, xt, (there - safe * xt) / (1 - safe)) + 0 * self.weight.sum()
            )

    student = Exact(nn.Identity(), process, "x0")
    student.weight = nn.Parameter(torch.zeros(1))

    def along(p: Any, believe: Any, xt: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return teacher.flow_map(xt, t, s)

    x = 0.6 * Key(1).normal(torch.zeros(32, 2, dtype=torch.float64)) + 0.2
    roles = {"teacher": teacher, "student": student}
    segments = SegmentEnd((5.0, 1.0, process.t_min))
    kept = Consistency(solver=along, target=None, destination=segments)
    assert value(run(kept, roles, x)) < 1e-20
    wrong = Consistency(solver=ddim, target=None, destination=segments)
    assert value(run(wrong, roles, x)) > 1e-6


def test_an_edge_belongs_to_the_segment_below_it() -> None:
    t = torch.tensor([3.0, 1.0, 0.5], dtype=torch.float64)
    s = torch.tensor([1.0, 0.9, 0.2], dtype=torch.float64)
    found = SegmentEnd((5.0, 1.0, 0.1))(edm(), t, s, Step(0, 1, Key(0)), Key(0))
    assert found.tolist() == [1.0, 0.1, 0.1]


def test_guidance_is_drawn_per_sample_and_given_to_the_teacher() -> None:
    asked: list[Tensor] = []

    class Asked(GaussianTeacher):
        def forward(
            self, xt: Tensor, t: Tensor, cond: Cond | None = None, guidance: Any = None, **rest: Any
        ) -> Estimate:
            asked.append(guidance)
            return super().forward(xt, t, cond)

    process = edm()
    roles = {"teacher": Asked(process, 0.0, 0.6), "student": Watched(process)}
    run(Consistency(guidance=Uniform(2.0, 5.0), target=None), roles, torch.zeros(16, 2, dtype=torch.float64))
    assert len(asked) == 2
    assert torch.equal(asked[0], asked[1])
    assert 2 <= float(asked[0].min()) < float(asked[0].max()) <= 5


def test_guiding_without_a_teacher_is_refused() -> None:
    with pytest.raises(ValueError, match="no teacher"):
        Consistency(teacher=None, guidance=2.0)


def test_ratio_pairs_stop_at_the_cleanest_time() -> None:
    t, s = RatioPairs(Uniform(0.002, 1.0), 0.5)(edm(), 32, Step(0, 1, Key(0)), Key(5))
    assert torch.equal(s, (t / 2).clamp(min=0.002))


def test_weights_and_distances_of_pairs_enter_the_loss() -> None:
    process = edm()
    student = Table(process, process.grid(1), torch.tensor([0.5, 0.0], dtype=torch.float64))
    roles = {"student": student}
    x = Key(1).normal(torch.zeros(1, 2, dtype=torch.float64))

    def loss(**kind: Any) -> float:
        return value(run(Consistency(GridPairs(1), teacher=None, target=None, **kind), roles, x))

    noise = Listed(7).at("noise").normal(x)
    gap = 0.5 * (x + 80 * noise) - (x + 0.002 * noise)
    assert loss() == pytest.approx(float(gap.square().mean()), rel=1e-12)
    assert loss(distance=l1) == pytest.approx(float(gap.abs().mean()), rel=1e-12)
    bent = math.sqrt(float(gap.square().mean()) + 4) - 2
    assert loss(distance=pseudo_huber(2.0)) == pytest.approx(bent, rel=1e-12)
    assert loss(weight=inverse_gap) == pytest.approx(float(gap.square().mean()) / 79.998, rel=1e-12)


def run(objective: Consistency, roles: Any, x: Tensor, key: Key | None = None) -> Any:
    phase = objective.phases(0)[0]
    return objective.loss(phase, roles, Batch(like=x, x=x), Step(0, 10, key or Listed(7)))


def value(loss: Any) -> float:
    return float(loss.total.detach())
