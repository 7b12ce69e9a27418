"""Pairs of the teacher's ODE against flow maps that are known, online and from disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from objective_toys import At, Listed
from torch import Tensor, nn

from fewstep.config.objectives.pairs import ODEPairsConfig
from fewstep.engine import AssemblyError, assemble, execute
from fewstep.engine.pairs import MakePairs, PairSource
from fewstep.objectives import ODE, Pairs, dmd, l1
from fewstep.processes import Masked, edm, flow, trig, vp
from fewstep.protocol import (
    Batch,
    Cond,
    Denoiser,
    Estimate,
    Group,
    Key,
    Mix,
    Optim,
    Plan,
    Site,
    Stage,
    State,
    Step,
    parts,
    with_index,
)
from fewstep.samplers import FewStep, ddim, euler, heun
from fewstep.testing.analytic import CovarianceTeacher, GaussianTeacher, MixtureTeacher
from fewstep.testing.linear import LinearFake, LinearStudent

MEAN, STD = 0.7, 0.6
PROCESSES = {"edm": edm(sigma_max=10.0), "flow": flow(), "trig": trig(), "vp": vp()}
EVERY = pytest.mark.parametrize("process", PROCESSES.values(), ids=list(PROCESSES))


def exactly(model: Any, x: Tensor, times: Tensor, cond: Cond, *, key: Any = None) -> Iterator[State]:
    """The solver without an error: the teacher's own flow map, to the clean end of time."""
    for s in (*times[1:], torch.zeros((), dtype=torch.float64)):
        here, there = times[0].expand(len(x)), s.expand(len(x))
        yield State(model.flow_map(x, here, there), there)


def lossof(objective: Pairs, roles: Any, batch: Batch, key: Key | None = None) -> Tensor:
    phase = objective.phases(0)[0]
    total: Tensor = objective.loss(phase, roles, batch, Step(0, 10, key or Key(7))).total
    return total


def value(objective: Pairs, roles: Any) -> float:
    return float(lossof(objective, roles, blank()).detach())


def blank(rows: int = 64, width: int = 2) -> Batch:
    return Batch(like=torch.zeros(rows, width, dtype=torch.float64))


# --- the map of one step ----------------------------------------------------------------------------------------------
def linear_map(process: Any) -> tuple[float, float]:
    """O1: gain and shift of the noise: x0 = mu (1 - s alpha_T / sqrt V_T) + s sigma_T / sqrt(V_T) z."""
    top = torch.tensor(process.t_max, dtype=torch.float64)
    alpha, sigma = float(process.alpha(top)), float(process.sigma(top))
    root = ((alpha * STD) ** 2 + sigma**2) ** 0.5
    return STD * sigma / root, MEAN * (1 - STD * alpha / root)


@EVERY
def test_the_optimum_of_one_step_is_the_exact_flow_map_with_its_prior_bias(process: Any) -> None:
    gain, shift = linear_map(process)
    teacher = GaussianTeacher(process, MEAN, STD)

    def slope(*numbers: float) -> float:
        student = LinearStudent(process, *numbers)
        total = lossof(Pairs(ODE(exactly)), {"teacher": teacher, "student": student}, blank())
        found = torch.autograd.grad(total, [student.gain, student.shift])
        return max(float(g.abs()) for g in found)

    assert slope(gain, shift) < 1e-7
    assert slope(gain, shift + 0.01) > 1e-3
    assert slope(STD * 1.01, shift) > 1e-4


def test_the_bias_of_a_prior_that_forgets_the_mean_has_its_closed_form() -> None:
    gain, shift = linear_map(edm(sigma_max=2.0))
    assert (gain, MEAN - shift) == pytest.approx((0.574696, 0.201143), abs=1e-6)
    assert linear_map(flow()) == (STD, MEAN)


@pytest.mark.parametrize(("solver", "of_four"), [(heun, 1.384555), (ddim, 0.276326)])
def test_the_optimum_of_one_step_repeats_the_errors_of_the_solver(solver: Any, of_four: float) -> None:
    """O3: std of four solver steps on the EDM grid; pairs end one clean estimate further."""
    process = edm()
    teacher = GaussianTeacher(process, 0.0, STD)
    noise = torch.ones(1, 1, dtype=torch.float64)
    end, _ = ODE(solver, 4)(teacher, noise, Cond())
    finish = STD**2 / (STD**2 + process.t_min**2)
    assert float(end) == pytest.approx(of_four * finish, abs=2e-6)


def test_rotated_covariances_in_three_dimensions_are_mapped_axis_by_axis() -> None:
    turn = torch.linalg.qr(Key(5).normal(torch.zeros(3, 3, dtype=torch.float64)))[0]
    variances = torch.tensor([0.04, 0.5, 1.7], dtype=torch.float64)
    process = edm(sigma_max=10.0)
    teacher = CovarianceTeacher(process, turn @ torch.diag(variances) @ turn.T)
    noise = Key(6).normal(torch.zeros(32, 3, dtype=torch.float64))
    mapped = turn @ torch.diag(10 * (variances / (variances + 100)).sqrt()) @ turn.T
    end, _ = ODE(heun, 400)(teacher, noise, Cond())
    assert torch.allclose(end, noise @ mapped.T, atol=2e-3)
    assert not torch.allclose(end, noise @ (mapped.flip(0)).T, atol=0.1)


def test_a_mixture_on_the_line_is_rearranged_monotonously() -> None:
    """O2: from x = -25, -20, ..., 25 at sigma 15; (.3, .7), means (-2, 1.5), deviations (.5, .4)."""
    quoted = [-2.511849, -2.273157, -1.987532, -1.552974, 0.949070, 1.253199,
              1.454659, 1.625992, 1.783437, 1.933239, 2.078386]  # fmt: skip
    process = edm(sigma_min=0.001, sigma_max=15.0)
    weights, means, stds = torch.tensor([0.3, 0.7]), torch.tensor([[-2.0], [1.5]]), torch.tensor([0.5, 0.4])
    teacher = MixtureTeacher(process, weights, means, stds)
    x = torch.arange(-25, 26, 5, dtype=torch.float64)[:, None]
    end, _ = ODE(heun, 300)(teacher, x / 15, Cond())
    assert end.flatten().tolist() == pytest.approx(quoted, abs=1e-3)
    assert torch.allclose(_share(end.flatten(), 0.0), _share(x.flatten(), 15.0), atol=1e-3)
    coarse, _ = ODE(ddim, 4)(teacher, x / 15, Cond())
    assert not torch.allclose(coarse.flatten(), torch.tensor(quoted).double(), atol=0.1)


def _share(x: Tensor, sigma: float) -> Tensor:
    """Distribution function of the mixture at noise sigma."""
    each = [
        w * torch.special.ndtr((x - m) / (s**2 + sigma**2) ** 0.5)
        for w, m, s in ((0.3, -2.0, 0.5), (0.7, 1.5, 0.4))
    ]
    return torch.stack(each).sum(0)


# --- the path of several steps ----------------------------------------------------------------------------------------
@EVERY
def test_a_student_of_several_steps_is_shown_the_teachers_path_at_its_times(process: Any) -> None:
    times = tuple(process.grid(3)[:-1].tolist())
    teacher = GaussianTeacher(process, MEAN, STD)
    noise = Key(1).normal(blank(16).like)
    end, path = ODE(exactly, 7)(teacher, noise, Cond(), times)
    top = torch.full((16,), process.t_max, dtype=torch.float64)
    start = process.corrupt(None, noise, top)
    assert torch.equal(path[0], start)
    for state, t in zip(path[1:], times[1:], strict=True):
        assert torch.allclose(state, teacher.flow_map(start, top, torch.full_like(top, t)), atol=1e-12)
    assert torch.allclose(end, teacher.flow_map(start, top, torch.zeros_like(top)), atol=1e-12)


class Exact(FewStep):
    """The flow map to the end, from every time; remembers which step it was told."""

    def __init__(self, teacher: GaussianTeacher, times: Any) -> None:
        super().__init__(nn.Identity(), teacher.process, "x0", times)
        object.__setattr__(self, "teacher", teacher)
        self.bias = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.told: list[int] = []

    def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
        assert cond is not None
        assert cond.index is not None
        assert torch.equal(t, torch.tensor(self.times, dtype=torch.float64)[cond.index])
        self.told += cond.index.tolist()
        return Estimate(self.teacher.flow_map(xt, t, torch.zeros_like(t)) + self.bias)  # type: ignore[operator]


@EVERY
def test_the_flow_map_from_every_place_of_the_path_is_the_optimum_of_several_steps(process: Any) -> None:
    teacher = GaussianTeacher(process, MEAN, STD)
    student = Exact(teacher, tuple(process.grid(3)[:-1].tolist()))
    roles = {"teacher": teacher, "student": student}
    assert value(Pairs(ODE(exactly)), roles) < 1e-20
    assert set(student.told) == {0, 1, 2}
    student.bias.data += 0.1
    assert value(Pairs(ODE(exactly)), roles) == pytest.approx(0.01)


class Scaled(nn.Module):
    """Remembers the guidance that it was told."""

    accepts = frozenset({"guidance"})

    def __init__(self) -> None:
        super().__init__()
        self.told: list[float] = []

    def forward(self, x: Tensor, time: Tensor, cond: Cond, guidance: Tensor | None = None) -> Tensor:
        self.told += [] if guidance is None else guidance.tolist()
        return x


@pytest.mark.parametrize("times", [(1.0,), (1.0, 0.5)])
def test_a_student_learns_what_its_roll_will_tell(times: tuple[float, ...]) -> None:
    process = flow()
    student = FewStep(Scaled(), process, "x0", times, guidance=2.5)
    value(Pairs(ODE(heun, 2)), {"teacher": GaussianTeacher(process, MEAN, STD), "student": student})
    assert set(student.net.told) == {2.5}  # type: ignore[arg-type]


def test_a_student_that_begins_below_the_noisiest_time_is_shown_its_own_noise() -> None:
    process = flow()
    teacher = GaussianTeacher(process, MEAN, STD)
    noise = torch.ones(4, 1, dtype=torch.float64)
    _, path = ODE(heun, 6)(teacher, noise, Cond(), (0.7, 0.2))
    assert torch.allclose(path[0], 0.7 * noise)


def test_the_grid_passes_through_the_students_times_once() -> None:
    process = edm()
    grid = ODE(heun, 6).grid(process, (80.0, 3.0))
    assert grid.tolist() == sorted({*process.grid(6).tolist(), 3.0}, reverse=True)
    assert len(ODE(heun, 6).grid(process, tuple(process.grid(3)[:-1].tolist()))) == 7


# --- controls ---------------------------------------------------------------------------------------------------------
def fitted(noise: Tensor, target: Tensor) -> LinearStudent:
    """Least squares through the objective itself."""
    student = LinearStudent(edm(), 1.0, 0.0)
    optimizer = torch.optim.LBFGS(student.parameters(), max_iter=50, line_search_fn="strong_wolfe")
    batch = replace(blank(len(noise), noise.shape[1]), extra={"noise": noise, "target": target})

    def closure() -> Tensor:
        optimizer.zero_grad()
        total = lossof(Pairs(), {"student": student}, batch)
        total.backward()  # type: ignore[no-untyped-call]
        return total

    for _ in range(3):
        optimizer.step(closure)  # type: ignore[arg-type]
    return student.requires_grad_(False)


def test_recorded_pairs_teach_the_map_and_shuffled_pairs_only_the_mean() -> None:
    noise = Key(3).normal(torch.zeros(1024, 1, dtype=torch.float64))
    target = MEAN + STD * noise
    paired = fitted(noise, target)
    assert (float(paired.gain), float(paired.shift)) == pytest.approx((STD, MEAN), abs=1e-6)
    shuffled = fitted(noise, target[Key(4).permutation(1024)])
    assert abs(float(shuffled.gain)) < 0.05
    assert float(shuffled.shift) == pytest.approx(MEAN, abs=0.05)


def test_training_on_pairs_moves_a_student_to_the_teachers_law() -> None:
    process = edm(sigma_max=5.0)
    roles = {"teacher": GaussianTeacher(process, MEAN, STD), "student": LinearStudent(process, 1.5, -1.0)}
    optimizer = torch.optim.Adam(roles["student"].parameters(), lr=0.08)
    for i in range(100):
        optimizer.zero_grad()
        lossof(Pairs(ODE(heun, 12)), roles, blank(32, 1), Key(i)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert float(roles["student"].gain.detach()) == pytest.approx(linear_map(process)[0], rel=0.05)
    assert float(roles["student"].shift.detach()) == pytest.approx(linear_map(process)[1], rel=0.05)


def test_pairs_are_a_term_beside_distribution_matching() -> None:
    """The regression of DMD (Yin et al. 2024 eq. 9): at the teacher's law only pairs know which noise goes where."""
    process = trig(sigma_data=1.0)
    teacher = GaussianTeacher(process, MEAN, STD)
    both = Mix({"match": (1.0, dmd(At(0.6))), "pairs": (0.25, Pairs(ODE(exactly)))})
    assert [phase.name for phase in both.phases(0)] == ["critic", "student"]

    def slope(gain: float) -> float:
        student = LinearStudent(process, gain, MEAN)
        roles = {"teacher": teacher, "student": student, "fake": LinearFake(process, student)}
        key = Listed(0, values={"noise": blank().like + 1.0})
        losses = parts(both.loss(both.phases(0)[-1], roles, blank(), Step(0, 10, key)))
        return float(torch.autograd.grad(sum(part.total for part in losses), student.gain)[0])

    assert abs(slope(STD)) < 1e-6
    assert slope(-STD) == pytest.approx(0.25 * 2 * -2 * STD, rel=1e-2)


@pytest.mark.parametrize(("solver", "calls"), [(heun, 11), (euler, 6), (ddim, 6)])
def test_making_pairs_online_costs_the_calls_of_the_solver(solver: Any, calls: int) -> None:
    counted = []

    class Counted(GaussianTeacher):
        def forward(self, *args: Any, **asked: Any) -> Estimate:
            counted.append(torch.is_grad_enabled())
            return super().forward(*args, **asked)

    process = edm()
    roles = {"teacher": Counted(process, 0.0, 1.0), "student": LinearStudent(process)}
    lossof(Pairs(ODE(solver, 5)), roles, blank())
    assert counted == [False] * calls


def test_the_teacher_is_asked_at_the_scale_of_the_pairs() -> None:
    scales = []

    class Asked(GaussianTeacher):
        def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
            scales.append(asked["guidance"])
            return super().forward(xt, t, cond)

    ODE(ddim, 2, guidance=3.0)(Asked(edm(), 0.0, 1.0), blank(5).like, Cond())
    assert [scale.tolist() for scale in scales] == [[3.0] * 5] * 3


def test_the_teacher_is_not_told_the_step_of_a_student() -> None:
    class Asked(GaussianTeacher):
        def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
            assert cond is not None
            assert cond.index is None
            return super().forward(xt, t, cond)

    noise = blank(5).like
    ODE(ddim, 2)(Asked(edm(), 0.0, 1.0), noise, with_index(Cond(), torch.zeros(5, dtype=torch.int64)))


def test_a_student_of_several_steps_needs_a_path_of_as_many_states() -> None:
    student = Exact(GaussianTeacher(edm(), MEAN, STD), (80.0, 1.0))
    noise = blank().like
    batch = replace(blank(), extra={"noise": noise, "target": noise})
    with pytest.raises(ValueError, match=r"2 steps.*hold 0 states"):
        lossof(Pairs(), {"student": student}, batch)


def test_settings_reach_the_pairs_and_a_recorded_stage_may_take_their_place() -> None:
    config = ODEPairsConfig(solver="ddim", steps=4, guidance=2.0, distance="l1", penalties={"size": 0.5})
    made: Any = config.build(edm())
    assert made.online == ODE(ddim, 4, 2.0)
    assert made.distance is l1
    assert made.penalties == {"size": 0.5}
    assert made.reads == frozenset()
    recorded: Any = config.build(edm(), online=None)
    assert recorded.reads == {"extra.noise", "extra.target"}
    assert recorded.roles["teacher"].optional


def test_a_process_without_an_ode_is_refused_before_training() -> None:
    process = Masked(3)
    make: Any = {
        "teacher": lambda: Denoiser(nn.Linear(1, 1), process, "logits"),
        "student": lambda: LinearStudent(process),
    }
    with pytest.raises(AssemblyError, match="Flow"):
        assemble(Pairs(ODE(heun)), make, Asking(), {"student": Optim()})


# --- pairs on disk ----------------------------------------------------------------------------------------------------
class Asking:
    """Requests without data: labels, and the mask of padded rows."""

    def batch(self, index: int, key: Key) -> Batch:
        rows = key.share(8)
        label = key.at("label", index).integers((rows,), 3)
        mask = torch.ones(rows, 3, 1, dtype=torch.bool)
        mask[:, 2] = False
        return Batch(torch.zeros(rows, 3, 1), cond=Cond({"label": label}, mask))


PROCESS = edm(sigma_max=10.0)
TIMES = (10.0, 1.0)


def task(folder: Path, **changes: Any) -> MakePairs:
    settings: dict[str, Any] = {
        "source": Asking(),
        "batches": 3,
        "ode": ODE(heun, 4),
        "times": TIMES,
        "folder": folder,
        "teacher": GaussianTeacher(PROCESS, MEAN, STD),
    }
    return MakePairs(**{**settings, **changes})


def test_recorded_pairs_are_what_the_teacher_makes_of_their_noise(tmp_path: Path) -> None:
    store = task(tmp_path).run({}, Key(1))["pairs"]
    batch = PairSource(store, TIMES, PROCESS).batch(0, Key(2))
    again, path = ODE(heun, 4)(GaussianTeacher(PROCESS, MEAN, STD), batch.extra["noise"], batch.cond, TIMES)
    assert torch.equal(again, batch.extra["target"])
    assert all(torch.equal(a, b) for a, b in zip(path, batch.extra["path"], strict=True))
    assert batch.like.shape == (8, 3, 1)
    assert batch.cond.data["label"].dtype == torch.int64
    assert bool((batch.extra["noise"][:, 2] == 0).all())


def test_fewer_pairs_are_another_store_and_not_a_part_of_the_larger_one(tmp_path: Path) -> None:
    more = task(tmp_path).run({}, Key(1))["pairs"]
    fewer = task(tmp_path, batches=2).run({}, Key(1))["pairs"]
    assert (PairSource(more, TIMES, PROCESS).count, PairSource(fewer, TIMES, PROCESS).count) == (3, 2)


def test_every_epoch_shows_every_pair_once_and_is_a_function_of_the_counter(tmp_path: Path) -> None:
    source = PairSource(task(tmp_path).run({}, Key(1))["pairs"], TIMES, PROCESS)
    epochs = [
        [source.batch(3 * e + i, Key(2)).extra["noise"][0, 0, 0].item() for i in range(3)] for e in range(6)
    ]
    assert all(set(epoch) == set(epochs[0]) and len(set(epoch)) == 3 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert torch.equal(source.batch(4, Key(2)).extra["target"], source.batch(4, Key(2)).extra["target"])


def test_a_store_is_listed_once_and_not_at_every_batch(tmp_path: Path, monkeypatch: Any) -> None:
    source = PairSource(task(tmp_path).run({}, Key(1))["pairs"], TIMES, PROCESS)
    listed: list[str] = []
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda path, pattern: listed.append(pattern) or glob(path, pattern))
    for index in range(4):
        source.batch(index, Key(2))
    assert len(listed) == 1


def test_the_rows_of_all_ranks_are_the_rows_of_one(tmp_path: Path) -> None:
    source = PairSource(task(tmp_path).run({}, Key(1))["pairs"], TIMES, PROCESS)
    whole = source.batch(1, Key(2))
    parts = [source.batch(1, replace(Key(2), shard=(rank, 2))) for rank in range(2)]
    assert torch.equal(torch.cat([p.extra["path"][1] for p in parts]), whole.extra["path"][1])
    assert torch.equal(torch.cat([p.cond.data["label"] for p in parts]), whole.cond.data["label"])


def test_a_killed_run_keeps_what_it_has_and_makes_the_rest(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    def killed(done: int, of: int) -> None:
        told.append((done, of))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        task(tmp_path, progress=killed).run({}, Key(1))
    (store,) = tmp_path.iterdir()
    kept = {path.name: path.stat().st_mtime_ns for path in store.iterdir()}
    assert sorted(kept) == ["00000.safetensors", "00001.safetensors"]
    assert told == [(1, 3), (2, 3)]
    assert task(tmp_path).run({}, Key(1))["pairs"] == store
    now = {path.name: path.stat().st_mtime_ns for path in store.iterdir()}
    assert sorted(now) == [*sorted(kept), "00002.safetensors", "pairs.json"]
    assert all(now[name] == kept[name] for name in kept)


@pytest.mark.parametrize(
    "change",
    [
        {"teacher": GaussianTeacher(PROCESS, MEAN, 0.5)},
        {"ode": ODE(heun, 5)},
        {"ode": ODE(ddim, 4)},
        {"times": (10.0, 2.0)},
    ],
    ids=["teacher", "grid", "solver", "times"],
)
def test_what_pairs_depend_on_is_in_the_name_of_their_store(tmp_path: Path, change: dict[str, Any]) -> None:
    first = task(tmp_path).run({}, Key(1))["pairs"]
    assert task(tmp_path, **change).run({}, Key(1))["pairs"] != first
    assert task(tmp_path).run({}, Key(2))["pairs"] != first


def test_a_store_says_what_its_pairs_are(tmp_path: Path) -> None:
    facts = json.loads((task(tmp_path).run({}, Key(1))["pairs"] / "pairs.json").read_text())
    assert facts["times"] == list(TIMES)
    assert facts["grid"] == ODE(heun, 4).grid(PROCESS, TIMES).tolist()
    assert facts["solver"].endswith(".heun")
    assert facts["process"] == repr(PROCESS)
    assert facts["guidance"] is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"times": (10.0, 2.0)}, r"times: recorded \[10.0, 1.0\], student \[10.0, 2.0\]"),
        ({"process": edm(sigma_max=20.0)}, "process: recorded Gaussian.*student Gaussian"),
        ({"guidance": 3.0}, "guidance: recorded None, student 3.0"),
    ],
    ids=["times", "process", "guidance"],
)
def test_pairs_of_another_student_are_refused_with_both_listed(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    store = task(tmp_path).run({}, Key(1))["pairs"]
    wanted: dict[str, Any] = {"times": TIMES, "process": PROCESS, "guidance": None}
    PairSource(store, **wanted)
    with pytest.raises(ValueError, match=told):
        PairSource(store, **{**wanted, **change})


def test_pairs_of_a_process_without_an_ode_are_refused(tmp_path: Path) -> None:
    teacher = Denoiser(nn.Identity(), Masked(3), "logits")
    with pytest.raises(ValueError, match="Masked has none"):
        task(tmp_path, teacher=teacher).run({}, Key(1))


def test_a_condition_that_is_no_tensor_cannot_be_recorded(tmp_path: Path) -> None:
    class Words(Asking):
        def batch(self, index: int, key: Key) -> Batch:
            return replace(super().batch(index, key), cond=Cond("a word"))

    with pytest.raises(ValueError, match=r"tree of tensors.*str"):
        task(tmp_path, source=Words()).run({}, Key(1))


def test_a_plan_may_make_pairs_and_then_learn_from_them(tmp_path: Path) -> None:
    process = edm(sigma_max=5.0)
    teacher = GaussianTeacher(process, MEAN, STD)
    made = task(tmp_path, ode=ODE(heun, 12), times=(5.0,), teacher=teacher, batches=8)

    def distill(shelf: Any) -> Any:
        make = {"teacher": lambda: teacher, "student": partial(LinearStudent, process, 1.5, -1.0)}
        source = PairSource(shelf["pairs"], (5.0,), process)
        return assemble(Pairs(), make, source, {"student": Optim((Group(lr=0.05),), "torch.optim:Adam")})

    stages = (Stage("pairs", lambda shelf: made), Stage("student", distill, 150, {"student": "student"}))
    shelf = execute(Plan(stages, None), Site(Key(0), cache=tmp_path), tmp_path / "run")  # type: ignore[arg-type]
    found = shelf["student"]
    assert (float(found.gain), float(found.shift)) == pytest.approx(linear_map(process), rel=0.1)
