"""Maps from any time to any other (CTM), and maps inside segments (TSCD, MLCM), against exact flows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from flow_map_toys import (
    STD,
    Mapped,
    Table,
    drawn,
    exactly,
    leading,
    run,
    slope,
    solved_gains,
    step_factors,
    two_bumps,
    value,
)
from torch import Tensor, nn

from fewstep.config.objectives import KINDS
from fewstep.objectives import (
    Along,
    Consistency,
    FromTeacher,
    GridPairs,
    MapPairs,
    SegmentPairs,
    Staircase,
    ddim,
    heun,
)
from fewstep.objectives.pairs_of_times import segment_edges
from fewstep.processes import Gaussian, Product, edm, flow, trig, vp
from fewstep.protocol import Batch, Cond, Denoiser, Estimate, Key, Mix, Step
from fewstep.samplers import FewStep, rule_for
from fewstep.testing.analytic import CovarianceTeacher, GaussianTeacher

PROCESSES = {"edm": edm(sigma_max=10.0), "flow": flow(), "trig": trig(sigma_data=1.0), "vp": vp()}
NOW = Step(0, 10, Key(5))


def turned(process: Gaussian) -> CovarianceTeacher:
    """Three dimensions whose principal axes are those of no coordinate."""
    axes = torch.linalg.qr(drawn(3, 3, seed=9)).Q
    return CovarianceTeacher(
        process, axes @ torch.diag(torch.tensor([0.05, 0.4, 2.0]).double()) @ axes.T, 0.3
    )


LAWS: dict[str, Any] = {
    "diagonal": lambda p: GaussianTeacher(p, 0.2, torch.tensor([0.3, 0.6, 1.4])),
    "turned": turned,
    "mixture": two_bumps,
}


def events(law: str, rows: int = 24) -> Tensor:
    return drawn(rows, 1 if law == "mixture" else 3)


def test_rearranging_a_mixture_has_the_quoted_values() -> None:
    process = edm(sigma_min=1e-3, sigma_max=15.0)
    x = torch.arange(-25.0, 26.0, 5.0, dtype=torch.float64)[:, None]
    t, s = (torch.full((len(x),), level, dtype=torch.float64) for level in (15.0, 1e-3))
    quoted = [
        -2.511849, -2.273157, -1.987532, -1.552974, 0.949070, 1.253199,
        1.454659, 1.625992, 1.783437, 1.933239, 2.078386,
    ]  # fmt: skip
    assert two_bumps(process).flow_map(x, t, s).squeeze(1).tolist() == pytest.approx(quoted, abs=1e-6)


def trajectory_slope(teacher: Any, x: Tensor, bend: float = 0.0, solver: Any = None, **kind: Any) -> float:
    """Gradient of a student that is the exact map, bent; its target is the exact map bent as much."""
    student, target = Mapped(teacher, bend), Mapped(teacher, bend)
    objective = Consistency(MapPairs(8, 7), solver or exactly(teacher), **{"compare": "clean", **kind})
    return slope(objective, {"teacher": teacher, "student": student, "target": target}, student.bend, x)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", PROCESSES)
def test_the_exact_map_has_no_gradient_and_a_bent_one_has(law: str, name: str) -> None:
    teacher = LAWS[law](PROCESSES[name])
    assert trajectory_slope(teacher, events(law)) < 1e-12
    assert trajectory_slope(teacher, events(law), bend=0.05) > 1e-4


@pytest.mark.parametrize("compare", ["landing", "clean"])
def test_a_solver_with_an_error_moves_the_exact_map(compare: str) -> None:
    teacher = turned(PROCESSES["edm"])
    coarse = trajectory_slope(teacher, events("turned"), solver=Along(ddim, 8), compare=compare)
    fine = trajectory_slope(teacher, events("turned"), solver=Along(heun, 64), compare=compare)
    assert coarse > 1e-2
    assert fine < 1e-2 * coarse


def test_the_map_from_a_time_to_itself_is_the_denoiser() -> None:
    objective = KINDS["ctm"]().build(PROCESSES["edm"])  # type: ignore[attr-defined]
    assert isinstance(objective, Mix)
    teacher, x = turned(PROCESSES["edm"]), drawn(512, 3)
    values, vectors = torch.linalg.eigh(teacher.covariance)
    data = 0.3 + (x * values.sqrt()) @ vectors.T
    denoising = objective.terms["denoising"][1]
    slopes = [slope(denoising, {"student": s}, s.bend, data) for s in (Mapped(teacher), Mapped(teacher, 0.3))]
    assert slopes[0] < 0.1 * slopes[1]


def test_the_gradient_runs_through_the_frozen_map_to_the_clean_state() -> None:
    process = edm(sigma_max=10.0)
    teacher = GaussianTeacher(process, 0.0, STD)
    roles = {"teacher": teacher, "student": Mapped(teacher, 0.1), "target": Mapped(teacher, 0.0)}

    class Once(MapPairs):
        def __call__(self, process: Any, count: int, step: Step, key: Key) -> Any:
            drawn = super().__call__(process, count, step, key)
            return drawn._replace(t=0 * drawn.t + 9.0, s=0 * drawn.t + 4.0, to=0 * drawn.t + 1.0)

    objective = Consistency(Once(8, 7), exactly(teacher), compare="clean")
    found = slope(objective, roles, roles["student"].bend, torch.zeros(1, 1).double())
    (t, to, end) = (torch.tensor([v]).double() for v in (9.0, 1.0, process.t_min))
    noise = process.noise(Batch(like=torch.zeros(1, 1).double()), _listed().at("noise"))
    xt = 9.0 * noise
    exact = teacher.flow_map(xt, t, to)
    onward = teacher.flow_map(torch.ones(1, 1).double(), to, end)
    estimate = leading(process, xt, t, to, exact)
    moved = (1 - 1.0 / 9.0) * estimate
    closed = 2 * (0.1 * moved * onward) * (moved * onward)
    assert found == pytest.approx(float(closed.abs()), rel=1e-9)


def _listed() -> Key:
    from objective_toys import Listed

    return Listed(7)


def test_map_pairs_are_ordered_and_reach_no_further_than_they_may() -> None:
    process = edm()
    t, s, to, _ = MapPairs(18, 3)(process, 4000, NOW, Key(3))
    assert to is not None
    assert bool(((to <= s) & (s < t)).all())
    place = lambda u: (process.grid(18)[None] - u[:, None]).abs().argmin(1)  # noqa: E731
    assert sorted(set((place(s) - place(t)).tolist())) == [1, 2, 3]
    assert set(place(t).tolist()) == set(range(18))
    assert set(place(to).tolist()) == set(range(1, 19))


def test_a_solver_along_the_grid_takes_the_grids_steps() -> None:
    process = edm()
    teacher, grid, x = GaussianTeacher(process, 0.2, STD), process.grid(8), drawn(3, 2)
    t, s = grid[[0, 2, 5]], grid[[3, 3, 8]]
    believe = lambda at, time: teacher(at, time)  # noqa: E731
    found = Along(ddim, 8)(process, believe, x, t, s)
    for row, (first, last) in enumerate([(0, 3), (2, 3), (5, 8)]):
        own = x[row : row + 1]
        for i in range(first, last):
            own = ddim(process, believe, own, grid[i : i + 1], grid[i + 1 : i + 2])
        assert torch.equal(found[row : row + 1], own)


def segment_gains(process: Gaussian, steps: int, count: int) -> Tensor:
    """Gains whose jumps to the edge are the products of the DDIM multipliers inside the segment."""
    grid, edges = process.grid(steps), segment_edges(steps, count).tolist()
    factors = step_factors(process, grid, ddim)
    gains = torch.ones(steps + 1, dtype=torch.float64) / process.alpha(grid)
    for i in range(steps):
        edge = next(e for e in edges if e > i)
        landed = factors[i:edge].prod()
        last = edge == steps
        to = torch.zeros(1).double() if last else grid[edge : edge + 1]
        landed = landed / process.alpha(grid[-1]) if last else landed
        one = torch.ones(1, 1, dtype=torch.float64)
        gains[i] = leading(process, one, grid[i : i + 1], to, landed.reshape(1, 1)).squeeze()
    return gains


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_the_optimum_of_a_segment_is_the_product_of_its_ddim_steps(name: str, count: int) -> None:
    process = PROCESSES[name]
    gains = segment_gains(process, 8, count)
    still, moving = (segment_slope(process, g, count) for g in (gains, gains * 1.01))
    assert still < 1e-12
    assert moving > 1e-7


def test_the_products_of_other_segments_are_no_optimum() -> None:
    assert segment_slope(PROCESSES["edm"], segment_gains(PROCESSES["edm"], 8, 4), 2) > 1e-3


def segment_slope(process: Gaussian, gains: Tensor, count: int) -> float:
    student = Table(process, process.grid(8), gains)
    roles = {"teacher": GaussianTeacher(process, 0.0, STD), "student": student}
    return slope(Consistency(SegmentPairs(8, count), ddim, target=None), roles, student.gains, drawn(128, 2))


def test_one_segment_is_plain_consistency() -> None:
    process = edm()
    student = Table(process, process.grid(8), torch.linspace(0.1, 0.9, 9).double())
    roles, x = {"teacher": GaussianTeacher(process, 0.0, STD), "student": student}, drawn(32, 2)
    assert torch.allclose(segment_gains(process, 8, 1), solved_gains(process, process.grid(8), ddim))
    plain, one, two = (
        value(run(Consistency(pairs, ddim, target=None), roles, x))
        for pairs in (GridPairs(8), SegmentPairs(8, 1), SegmentPairs(8, 2))
    )
    assert one == pytest.approx(plain, rel=1e-13)
    assert abs(two - plain) > 1e-3 * plain


@pytest.mark.parametrize(("steps", "count"), [(8, 4), (9, 4), (16, 8), (5, 5), (7, 1)])
@pytest.mark.parametrize("skip", [1, 3])
def test_an_edge_belongs_to_the_segment_below_it(steps: int, count: int, skip: int) -> None:
    process = edm()
    grid, edges = process.grid(steps), segment_edges(steps, count).tolist()
    t, s, to, _ = SegmentPairs(steps, count, skip)(process, 500, NOW, Key(3))
    assert to is not None
    assert len(edges) == len(set(edges)) == count + 1
    for first, second, end in {(float(a), float(b), float(c)) for a, b, c in zip(t, s, to, strict=True)}:
        i = grid.tolist().index(first)
        edge = next(e for e in edges if e > i)
        assert end == (0.0 if edge == steps else float(grid[edge]))
        assert second == float(grid[min(i + skip, edge)])


def test_segments_merge_and_far_landings_may_fade() -> None:
    pairs = SegmentPairs(8, Staircase((4, 2, 1)), fade=0.5)
    landings = [len(set(pairs(edm(), 400, Step(i, 3, Key(0)), Key(i)).to.tolist())) for i in range(3)]  # type: ignore[union-attr]
    assert landings == [4, 2, 1]
    t, _, _, trust = pairs(edm(), 400, Step(2, 3, Key(0)), Key(1))
    assert trust is not None
    assert trust[t == 80.0].unique().tolist() == [0.5]
    assert float(trust[t == edm().grid(8)[7]][0]) == pytest.approx(1 - 0.5 / 8)
    with pytest.raises(ValueError, match="cut into 9"):
        SegmentPairs(8, 9)(edm(), 1, NOW, Key(0))


def test_a_student_walks_the_segments_that_are_left() -> None:
    process = edm()
    (only,) = KINDS["tscd"]().rounds(process, (80.0, 3.0))  # type: ignore[attr-defined]
    assert only.objective.pairs.segments == Staircase((8, 4, 2))
    assert only.times == pytest.approx(process.grid(2)[:-1].tolist(), rel=1e-12)
    assert rule_for(only.objective) == "ddim"
    student = FewStep(nn.Identity(), process, "boundary", only.times, rule="ddim")
    assert not list(only.objective.cautions({"student": student}, None, None))
    strayed = FewStep(nn.Identity(), process, "boundary", (80.0, 20.0), rule="ddim")
    (told,) = only.objective.cautions({"student": strayed}, None, None)
    assert "20" in told
    assert "2.515" in told
    (one,) = KINDS["tscd"]().rounds(process, (80.0,))  # type: ignore[attr-defined]
    assert rule_for(one.objective, "renoise") == "renoise"


def test_states_of_several_leaves_land_leaf_by_leaf() -> None:
    process = edm()
    both, gains = Product({"a": process, "b": process}), segment_gains(process, 8, 2)
    leaf, bent = Table(process, process.grid(8), gains), Table(process, process.grid(8), gains * 1.01)

    class Leaves(Denoiser):
        def forward(self, xt: Any, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
            return Estimate({"a": self.first(xt["a"], t).x0, "b": leaf(xt["b"], t).x0})

    class Teacher(Denoiser):
        def forward(self, xt: Any, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
            return Estimate({name: GaussianTeacher(process, 0.0, STD)(x, t).x0 for name, x in xt.items()})

    found = []
    for first in (leaf, bent):
        student = Leaves(nn.Identity(), both, "x0")
        student.first = first
        roles = {"teacher": Teacher(nn.Identity(), both, "x0"), "student": student}
        x = {"a": drawn(16, 2), "b": drawn(16, 3)}
        found.append(value(run(Consistency(SegmentPairs(8, 2), ddim, target=None), roles, x)))
    assert found[0] < 1e-20
    assert found[1] > 1e-6


def test_rolling_over_the_edges_multiplies_the_segments() -> None:
    process = edm()
    gains = segment_gains(process, 8, 2)
    table = Table(process, process.grid(8), gains)
    times = SegmentPairs(8, 2).starts(process)

    class Student(FewStep):
        def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
            return table(xt, t)

    student = Student(nn.Identity(), process, "x0", times, rule="ddim")
    noise = drawn(4, 2)
    found = student.sample(Batch(like=noise), NOW, noise=noise).x
    assert torch.allclose(found, 80 * noise * step_factors(process, process.grid(8), ddim).prod(), rtol=1e-12)


def test_states_of_the_teacher_are_where_its_solver_leads_from_noise() -> None:
    process, noise = edm(), drawn(8, 2)
    teacher, grid = GaussianTeacher(process, 0.0, STD), process.grid(8)
    found = FromTeacher(8)(process, lambda x, t: teacher(x, t), noise, grid[:-1], None)  # type: ignore[arg-type]
    factors = torch.cat([torch.ones(1).double(), step_factors(process, grid, ddim)]).cumprod(0)[:8]
    assert torch.allclose(found, 80 * noise * factors[:, None], rtol=1e-12)


@pytest.mark.parametrize("law", LAWS)
def test_states_of_the_teacher_approach_the_teachers_own_law(law: str) -> None:
    process = edm(sigma_max=10.0)
    teacher, noise = LAWS[law](process), events(law)
    t = torch.linspace(0.1, 8.0, len(noise), dtype=torch.float64)
    top = torch.full_like(t, process.t_max)
    exact = teacher.flow_map(process.corrupt(None, noise, top), top, t)

    def error(steps: int) -> float:
        states = FromTeacher(steps)(process, lambda x, u: teacher(x, u), noise, t, None)  # type: ignore[arg-type]
        return float((states - exact).abs().max())

    coarse, fine = error(40), error(80)
    assert fine < 0.1
    assert fine == pytest.approx(coarse / 2, rel=0.2)


def test_the_teachers_states_are_used_and_no_data_is_read() -> None:
    process = edm()
    objective = KINDS["mlcm"](segments=(1,)).build(process)  # type: ignore[attr-defined]
    assert objective.reads == frozenset()
    assert KINDS["mlcm"](walk=4).build(process).states == FromTeacher(4, ddim)  # type: ignore[attr-defined, call-arg]
    seen: list[tuple[Tensor, Tensor]] = []

    class Seen(Denoiser):
        def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
            seen.append((xt, t))
            return Estimate(xt)

    like = torch.zeros(16, 2, dtype=torch.float64)
    roles = {"teacher": GaussianTeacher(process, 0.0, STD), "student": Seen(nn.Identity(), process, "x0")}
    objective.loss(objective.phases(0)[0], roles, Batch(like=like), NOW)
    (xs, s), (xt, t) = seen
    noise = process.noise(Batch(like=like), NOW.key.at("noise"))
    grid, factors = process.grid(16), step_factors(process, process.grid(16), ddim)
    reached = torch.cat([torch.ones(1).double(), factors]).cumprod(0)
    for row in range(16):
        for state, time in ((xt[row], t[row]), (xs[row], s[row])):
            place = int((grid - time).abs().argmin())
            assert torch.allclose(state, 80 * noise[row] * reached[place], rtol=1e-9)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ({"teacher": None, "states": FromTeacher(4)}, "need a teacher"),
        ({"compare": "clean"}, "anywhere"),
        ({"pairs": MapPairs(), "compare": "clean", "target": None}, "target"),
    ],
)
def test_contradictions_are_refused(kind: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Consistency(**kind)


@pytest.mark.parametrize("segments", [(2, 4), (4, 4), (32, 2), (2, 0)])
def test_segments_that_do_not_merge_are_refused(segments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="fewer"):
        KINDS["tscd"](segments=segments)
