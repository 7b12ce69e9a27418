"""Consistency objectives against closed forms of linear flow maps (teacher N(0, .6^2) unless said)."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
import torch
from flow_map_toys import STD, Table, drawn, run, slope, solved_gains, step_factors, value
from objective_toys import Listed
from torch import Tensor, nn

from fewstep.config.objectives import KINDS
from fewstep.objectives import (
    Consistency,
    GridPairs,
    RatioPairs,
    Staircase,
    ddim,
    euler,
    flow_map,
    heun,
    l1,
    pseudo_huber,
)
from fewstep.objectives.weights import inverse_gap
from fewstep.processes import Gaussian, Uniform, Whole, ddpm, edm, flow, trig, vp
from fewstep.protocol import Cond, Estimate, Key, Step
from fewstep.testing.analytic import GaussianTeacher


@pytest.mark.parametrize(
    ("steps", "of_ddim", "of_heun"),
    [(4, 0.276326, 1.384555), (8, 0.424373, 0.758279), (16, 0.504665, 0.635684), (32, 0.550258, 0.608347)],
)
def test_products_of_solver_steps_have_the_quoted_spread(steps: int, of_ddim: float, of_heun: float) -> None:
    process = edm()
    grid = process.grid(steps)
    assert 80 * float(solved_gains(process, grid, ddim)[0]) == pytest.approx(of_ddim, abs=1e-6)
    assert 80 * float(solved_gains(process, grid, heun)[0]) == pytest.approx(of_heun, abs=1e-6)


@pytest.mark.parametrize("process", [edm(), flow(), trig(), vp()], ids=["edm", "flow", "trig", "vp"])
def test_the_multiplier_of_a_ddim_step_is_its_closed_form(process: Gaussian) -> None:
    grid = process.grid(5)
    closed = GaussianTeacher(process, 0.0, STD).step_factor(grid[:-1], grid[1:])
    assert torch.allclose(step_factors(process, grid, ddim), closed, atol=1e-14)


@pytest.mark.parametrize("process", [edm(), flow(), trig(), vp()], ids=["edm", "flow", "trig", "vp"])
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
    objective = Consistency(pairs=GridPairs(len(grid) - 1), solver=solver, target=None)
    roles = {"teacher": GaussianTeacher(process, 0.0, STD), "student": student}
    return slope(objective, roles, student.gains, drawn(64, 2))


def test_descent_on_the_grid_finds_the_products() -> None:
    process = edm(sigma_max=5.0)
    grid = process.grid(4)
    student = Table(process, grid, torch.full((5,), 0.5).double())
    optimizer = torch.optim.Adam(student.parameters(), lr=0.05)
    objective = Consistency(pairs=GridPairs(4), solver=ddim, target=None)
    roles = {"teacher": GaussianTeacher(process, 0.0, STD), "student": student}
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


class Dropped(Watched):
    """Remembers its dropout."""

    def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
        self.seen.append((nn.functional.dropout(torch.ones(64), 0.5), t))
        return Estimate(xt * self.gains)


def dropped() -> tuple[Tensor, Tensor]:
    """The dropout of the target's pass, behind a teacher that drops too, and of the student's."""
    student, teacher = Dropped(edm()), Dropped(edm())
    roles = {"student": student, "teacher": teacher}
    run(Consistency(target=None), roles, torch.zeros(4, 2, dtype=torch.float64))
    return student.seen[0][0], student.seen[1][0]


def test_dropout_draws_the_same_numbers_in_both_passes() -> None:
    assert torch.equal(*dropped())


def test_without_shared_randomness_dropout_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_map, "same_randomness", lambda key: contextlib.nullcontext())
    assert not torch.equal(*dropped())


def test_the_last_interval_aims_at_the_state_itself() -> None:
    process = edm()
    grid = process.grid(1)
    teacher = GaussianTeacher(process, 0.0, STD)
    gain = solved_gains(process, grid, ddim)[0]
    student = Table(process, grid, torch.tensor([float(gain), 999.0], dtype=torch.float64))
    roles = {"teacher": teacher, "student": student}
    x = Key(1).normal(torch.zeros(8, 2, dtype=torch.float64))
    assert value(run(Consistency(pairs=GridPairs(1), solver=ddim, target=None), roles, x)) < 1e-20


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


def test_students_with_a_guidance_input_are_told_the_teachers_scale() -> None:
    class Told(Watched):
        accepts = frozenset({"guidance"})  # type: ignore[assignment]

        def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
            self.seen.append((asked["guidance"], t))
            return Estimate(xt * self.gains)

    class Guided(GaussianTeacher):
        def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
            scales.append(asked["guidance"])
            return super().forward(xt, t, cond)

    scales: list[Tensor] = []
    student = Told(edm())
    objective = KINDS["lcm"](guidance=3.0, guidance_to=15.0, target="self").build(edm())  # type: ignore[attr-defined]
    assert objective.roles["teacher"].accepts == {"guidance"}
    run(objective, {"teacher": Guided(edm(), 0.0, STD), "student": student}, drawn(16, 2))
    assert len(scales) == 1
    assert all(torch.equal(seen, scales[0]) for seen, _ in student.seen)
    assert not list(objective.cautions({"student": student}, None, None))
    deaf = list(objective.cautions({"student": Watched(edm())}, None, None))
    assert len(deaf) == 1
    assert "guidance" in deaf[0]


def test_latent_consistency_takes_the_papers_steps() -> None:
    objective = KINDS["lcm"]().build(vp())  # type: ignore[attr-defined]
    assert (objective.pairs, objective.solver) == (GridPairs(1000, 20), ddim)
    assert objective.distance == pseudo_huber(1e-3)
    t, s, *_ = objective.pairs(vp(), 64, Step(0, 1, Key(0)), Key(1))
    assert torch.allclose((t - s)[s > vp().t_min], torch.tensor(0.999 * 20 / 1000).double(), atol=1e-12)


def test_latent_consistency_takes_every_step_of_a_chain() -> None:
    """A thousand whole times have 999 intervals."""
    process = ddpm()
    objective = KINDS["lcm"]().build(process)  # type: ignore[attr-defined]
    t, s, *_ = objective.pairs(process, 64, Step(0, 1, Key(0)), Key(1))
    assert torch.equal(t - s, torch.minimum(t, torch.full_like(t, 20)))


def test_ratio_pairs_stop_at_the_cleanest_time() -> None:
    t, s, *_ = RatioPairs(Uniform(0.002, 1.0), 0.5)(edm(), 32, Step(0, 1, Key(0)), Key(5))
    assert torch.equal(s, (t / 2).clamp(min=0.002))
    t, s, *_ = RatioPairs(Uniform(0.0, 0.002), 0.5)(edm(), 32, Step(0, 1, Key(0)), Key(5))
    assert torch.equal(s, t)


def test_ratio_pairs_of_a_chain_are_neighbors_at_least() -> None:
    t, s, *_ = RatioPairs(Whole(Uniform(0.0, 999.0)), 0.999)(ddpm(), 256, Step(0, 1, Key(0)), Key(5))
    assert torch.equal(t - s, torch.where(t > 0, 1.0, 0.0).double())


@pytest.mark.parametrize(
    ("time", "share", "expected"),
    [
        (1.0, 0.0, 0.002),
        (1.0, 0.3, 0.803029),
        (1.0, 0.99, 0.996848),
        (10.0, 0.0, 4.998184),
        (0.1, 0.99, 0.09952),
    ],
)
def test_consistency_tuning_closes_its_gap_in_stages(time: float, share: float, expected: float) -> None:
    def once(shape: Any, step: Step, key: Key) -> Tensor:
        return torch.full(shape, time, dtype=torch.float64)

    objective = KINDS["ect"]().build(edm())  # type: ignore[attr-defined]
    pairs = RatioPairs(once, objective.pairs.ratio, objective.pairs.boost)
    stage = min(int(10 * share), 9)
    ratio = min(1 - 2.0 ** -(stage + 1), 0.999)
    closed = time - time * (1 - ratio) * (1 + 8 / (1 + math.exp(time)))
    _, s, *_ = pairs(edm(), 1, Step(int(1000 * share), 1000, Key(0)), Key(0))
    assert float(s) == pytest.approx(max(closed, 0.002), abs=1e-12)
    assert float(s) == pytest.approx(expected, abs=2e-6)


def test_a_staircase_stays_on_each_stair_for_an_equal_share() -> None:
    stairs = Staircase((8, 4, 2, 1))
    assert [stairs(Step(i, 8, Key(0))) for i in range(9)] == [8, 8, 4, 4, 2, 2, 1, 1, 1]
    assert stairs(Step.inference(Key(0))) == 1


def test_consistency_tuning_begins_as_the_teacher_without_asking_it() -> None:
    objective = KINDS["ect"]().build(edm())  # type: ignore[attr-defined]
    assert objective.roles["student"].init == "teacher"
    assert objective.roles["teacher"].optional
    process = edm()
    student = Table(process, process.grid(1), torch.tensor([0.5, 0.5]).double())
    assert value(run(objective, {"student": student}, drawn(16, 2))) > 0


def test_the_pseudo_huber_distance_is_the_root_far_from_its_bend_and_the_square_near_it() -> None:
    a, b = Estimate(drawn(8, 2)), Estimate(drawn(8, 2, seed=2))
    geometry = edm().geometry
    square = geometry.distance(a, b)
    assert torch.allclose(pseudo_huber(1e-9)(geometry, a, b, a.x0), square.sqrt(), atol=1e-8)
    assert torch.allclose(2e4 * pseudo_huber(1e4)(geometry, a, b, a.x0), square, rtol=1e-4)


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
