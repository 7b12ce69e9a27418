"""Progressive and guidance distillation against products of DDIM steps and closed forms of guided Gaussians."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from fewstep.config.objectives import KINDS, rounds, student_stages
from fewstep.config.objectives.pairs import GuidanceConfig, ODEPairsConfig, ProgressiveConfig
from fewstep.engine import AssemblyError, assemble, execute
from fewstep.objectives import GuidanceDistillation, Progressive, from_w, halved, weights
from fewstep.objectives.progressive import landing
from fewstep.processes import Product, Uniform, cosine, edm, flow, trig, vp
from fewstep.protocol import (
    Batch,
    Cond,
    Denoiser,
    Estimate,
    Group,
    Guided,
    Key,
    Optim,
    Plan,
    Site,
    Step,
    spread,
)
from fewstep.samplers import FewStep, ddim, heun, rule_for
from fewstep.testing.analytic import CovarianceTeacher, GaussianTeacher, MixtureTeacher
from fewstep.testing.exact import Exact

STD = 0.6
PROCESSES = {"edm": edm(), "flow": flow(), "trig": trig(), "vp": vp()}
EVERY = pytest.mark.parametrize("process", PROCESSES.values(), ids=list(PROCESSES))


class Gains(FewStep):
    """D = gain x_t, one gain for each step that the condition names."""

    def __init__(self, process: Any, times: Any, gains: Tensor | None = None) -> None:
        super().__init__(nn.Identity(), process, "x0", times, rule="ddim")
        self.gains = nn.Parameter(torch.full((len(times),), 0.5).double() if gains is None else gains)

    def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
        assert cond is not None
        assert cond.index is not None
        assert torch.equal(t, torch.tensor(self.times, dtype=torch.float64)[cond.index])
        return Estimate(spread(self.gains[cond.index], xt) * xt)


def data(rows: int = 64, width: int = 2) -> Tensor:
    return STD * Key(1).normal(torch.zeros(rows, width, dtype=torch.float64))


def lossof(objective: Any, roles: Any, x: Tensor, key: Key | None = None, cond: Cond | None = None) -> Any:
    batch = Batch(like=x, x=x, cond=cond or Cond())
    return objective.loss(objective.phases(0)[0], roles, batch, Step(0, 10, key or Key(7))).total


def factors(process: Any, times: Any) -> Tensor:
    """How each DDIM step of the Gaussian teacher scales its state; the last one ends clean."""
    grid = torch.tensor([*times, process.t_min], dtype=torch.float64)
    teacher = GaussianTeacher(process, 0.0, STD)
    each = teacher.step_factor(grid[:-1], grid[1:])
    clean = teacher(torch.ones(1, 1, dtype=torch.float64), grid[-2:-1]).x0.reshape(1)
    return torch.cat([each[:-1], clean])


def product_gains(process: Any, times: Any) -> Tensor:
    """The optimum of one round by hand: two factors at a time, as the x0 that one step needs."""
    two = factors(process, halved(process, times)).reshape(-1, 2).prod(1)
    grid = torch.tensor([*times, process.t_min], dtype=torch.float64)
    kept = process.sigma(grid[1:]) / process.sigma(grid[:-1])
    gains = (two - kept) / (process.alpha(grid[1:]) - kept * process.alpha(grid[:-1]))
    return torch.cat([gains[:-1], two[-1:]])


def solved(objective: Any, teacher: Any, student: Gains, x: Tensor) -> Gains:
    """The minimum of a loss that is quadratic in each gain: one Newton step from any place."""
    roles = {"teacher": teacher, "student": student}
    (slope,) = torch.autograd.grad(lossof(objective, roles, x), [student.gains], create_graph=False)
    begun = student.gains.detach().clone()
    student.gains.data += 1
    (ahead,) = torch.autograd.grad(lossof(objective, roles, x), [student.gains])
    student.gains.data = begun - slope / (ahead - slope)
    return student


# --- one round --------------------------------------------------------------------------------------------------------
@EVERY
@pytest.mark.parametrize("states", ["data", "noise"])
def test_the_optimum_of_a_round_is_the_product_of_two_steps(process: Any, states: Any) -> None:
    times = tuple(process.grid(5)[:-1].tolist())
    gains = product_gains(process, times)
    objective, teacher = Progressive(states=states, weight=weights.one), GaussianTeacher(process, 0.0, STD)
    found = solved(objective, teacher, Gains(process, times), data())
    assert torch.allclose(found.gains.detach(), gains, rtol=1e-9)
    one_step = torch.tensor(
        [float(teacher(torch.ones(1, 1).double(), torch.tensor([t]).double()).x0) for t in times],
        dtype=torch.float64,
    )
    assert not torch.allclose(gains, one_step, rtol=1e-3)


@EVERY
def test_a_step_with_the_landing_estimate_lands_on_the_target(process: Any) -> None:
    """O4, for every process and for a product of two."""
    two = Product({"a": process, "b": process})
    key = Key(3)
    x, y = (key.at(n).normal(torch.zeros(16, 3, dtype=torch.float64)) for n in ("x", "y"))
    grid = process.grid(6)
    t, s = grid[torch.arange(16) % 5], grid[torch.arange(16) % 5 + 1]
    assert torch.allclose(process.jump(x, Estimate(landing(process, x, y, t, s)), t, s), y, atol=1e-12)
    state, there = {"a": x, "b": y}, {"a": y, "b": x}
    back = two.jump(state, Estimate(landing(two, state, there, t, s)), t, s)
    assert all(torch.allclose(back[name], there[name], atol=1e-12) for name in back)
    assert not torch.allclose(process.jump(x, Estimate(y), t, s), y, atol=1e-3)


class Still(nn.Module):
    """Expects the same clean state, whatever it sees."""

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        return torch.full_like(x, 0.3)


def test_float32_states_do_not_blow_up_where_almost_no_signal_is_left() -> None:
    process = cosine()
    still = Denoiser(Still(), process, "x0")
    times = tuple(process.grid(2000)[:8].tolist())
    objective, roles = Progressive(times, weight=weights.one), {"teacher": still, "student": still}
    loss = lossof(objective, roles, data(512).float())
    assert float(loss) < 1e-13, "two steps toward one point are one step toward it"


def test_rotated_covariances_in_three_dimensions_multiply_their_steps() -> None:
    turn = torch.linalg.qr(Key(5).normal(torch.zeros(3, 3, dtype=torch.float64)))[0]
    variances = torch.tensor([0.04, 0.5, 1.7], dtype=torch.float64)
    process, times = edm(sigma_max=20.0), (20.0, 2.0)
    teacher = CovarianceTeacher(process, turn @ torch.diag(variances) @ turn.T)
    half = torch.tensor([*halved(process, times)], dtype=torch.float64)
    gain = [variances / (variances + t**2) for t in half]
    step = [g + (1 - g) * s / t for g, t, s in zip(gain, half, half[1:], strict=False)]
    first = (step[0] * step[1] - 0.1) / 0.9
    last = step[2] * gain[3]

    class Matrices(FewStep):
        def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
            wanted = torch.stack([turn @ torch.diag(m) @ turn.T for m in (first, last)])
            return Estimate(torch.einsum("bij,bj->bi", wanted[cond.index], xt))  # type: ignore[union-attr]

    student = Matrices(nn.Identity(), process, "x0", times)
    x = Key(6).normal(torch.zeros(32, 3, dtype=torch.float64))
    assert float(lossof(Progressive(), {"teacher": teacher, "student": student}, x)) < 1e-25
    first = first.roll(1)
    assert float(lossof(Progressive(), {"teacher": teacher, "student": student}, x)) > 1e-3


def test_two_steps_through_a_mixture_are_the_optimum_and_the_exact_flow_is_not() -> None:
    process = edm(sigma_min=0.02, sigma_max=5.0)
    teacher = MixtureTeacher(
        process, torch.tensor([0.3, 0.7]), torch.tensor([[-2.0], [1.5]]), torch.tensor([0.5, 0.4])
    )
    grid = torch.tensor([5.0, halved(process, (5.0,))[1]], dtype=torch.float64)

    class Twice(FewStep):
        def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
            *_, last = steps(teacher, xt, grid if few else process.grid(64), Cond())
            return last.est or Estimate(last.x)

    student = Twice(nn.Identity(), process, "x0", (5.0,))
    x = 2 * Key(6).normal(torch.zeros(64, 1, dtype=torch.float64))
    roles = {"teacher": teacher, "student": student}
    few, steps = True, ddim
    assert float(lossof(Progressive(), roles, x)) < 1e-25
    few, steps = False, heun
    assert float(lossof(Progressive(), roles, x)) > 1e-2


# --- many rounds ------------------------------------------------------------------------------------------------------
def test_rounds_to_one_step_end_at_the_product_of_the_first_teachers_steps() -> None:
    """O3: 16 -> 8 -> 4 -> 2 -> 1. The quoted .504665 is the product down to t_min; a student's last step ends clean."""
    process = edm()
    times: Any = tuple(process.grid(16)[:-1].tolist())
    product = 80 * float(factors(process, times).prod())
    teacher: Any = GaussianTeacher(process, 0.0, STD)
    for count in (8, 4, 2, 1):
        times = tuple(process.grid(count)[:-1].tolist())
        teacher = solved(Progressive(), teacher, Gains(process, times), data())
    sample = teacher.sample(Batch(like=data(4096, 4)), Step.inference(Key(2)))
    noise = process.noise(Batch(like=data(4096, 4)), Key(2).at("noise"))
    assert torch.allclose(sample.x, product / 80 * 80 * noise, rtol=1e-8)
    assert product == pytest.approx(0.504640, abs=2e-6)
    to_t_min = GaussianTeacher(process, 0.0, STD).step_factor(process.grid(16)[:-1], process.grid(16)[1:])
    assert 80 * float(to_t_min.prod()) == pytest.approx(0.504665, abs=1e-6)
    assert product == pytest.approx(0.504665, abs=5e-5)
    assert abs(product - 0.599986) > 0.09


@pytest.mark.parametrize("process", [edm(), flow(), flow(shift=3.0), trig(), vp()])
def test_halving_the_natural_times_gives_the_natural_grid(process: Any) -> None:
    for count in (1, 2, 3, 8):
        mine = tuple(process.grid(count)[:-1].tolist())
        assert halved(process, mine) == tuple(process.grid(2 * count)[:-1].tolist())


def test_listed_times_are_halved_in_the_spacing_of_the_process() -> None:
    process = replace(flow(t_min=0.01), rho=7.0)
    found = halved(process, (0.708, 0.05))
    roots = [u ** (1 / 7) for u in (*found, 0.01)]
    assert found[::2] == (0.708, 0.05)
    assert roots[1] == pytest.approx((roots[0] + roots[2]) / 2)
    assert roots[3] == pytest.approx((roots[2] + roots[4]) / 2)


def test_one_setting_stands_for_rounds_that_teach_one_another() -> None:
    process, times = edm(), (80.0,)
    found = rounds(ProgressiveConfig(halvings=3), process, times)
    assert [(each.name, len(each.times), each.before) for each in found] == [
        ("student-4", 4, None),
        ("student-2", 2, "student-4"),
        ("student", 1, "student-2"),
    ]
    assert found[0].times == pytest.approx(process.grid(4)[:-1].tolist())
    assert all(each.objective.times == each.times for each in found)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("progressive", "sfd")])
def test_every_other_kind_is_one_round(kind: str) -> None:
    model: Any = KINDS[kind]
    assert [each.name for each in rounds(model(), edm(), (80.0,))] == ["student"]


def test_a_kind_without_rounds_is_one_stage_named_student() -> None:
    leaves = {"average": "student", "teacher": "teacher"}
    stages = student_stages(ODEPairsConfig(), edm(), (80.0,), lambda now, shelf: None, 5, leaves)  # type: ignore[arg-type,return-value]
    assert [(stage.name, stage.steps, stage.leaves) for stage in stages] == [("student", 5, leaves)]


def test_rounds_leave_their_student_under_their_own_name_and_the_teacher_once() -> None:
    leaves = {"average": "student", "teacher": "teacher"}
    stages = student_stages(
        ProgressiveConfig(halvings=2), edm(), (80.0,), lambda now, shelf: None, 5, leaves  # type: ignore[arg-type,return-value]
    )  # fmt: skip
    assert [stage.leaves for stage in stages] == [
        {"average": "student-2", "teacher": "teacher"},
        {"average": "student"},
    ]


class Source:
    def batch(self, index: int, key: Key) -> Batch:
        x = STD * key.at("x", index).normal(torch.zeros(32, 1, dtype=torch.float64))
        return Batch(like=x, x=x)


def test_the_engine_runs_the_rounds_one_after_another() -> None:
    process = edm(sigma_max=5.0)
    exact = GaussianTeacher(process, 0.0, STD)
    begun: dict[str, Any] = {}

    def build(now: Any, shelf: Any) -> Any:
        teacher = exact if now.before is None else shelf[now.before]
        begun[now.name] = teacher
        make = {"teacher": lambda: teacher, "student": lambda: Gains(process, now.times)}
        return assemble(
            now.objective, make, Source(), {"student": Optim((Group(lr=0.05),), "torch.optim:Adam")}
        )

    stages = student_stages(
        ProgressiveConfig(halvings=2), process, (5.0,), build, 150, {"student": "student"}
    )
    shelf = execute(Plan(stages, None), Site(Key(0), cache=None))  # type: ignore[arg-type]
    assert begun == {"student-2": exact, "student": shelf["student-2"]}
    grid = tuple(process.grid(4)[:-1].tolist())
    assert float(shelf["student"].gains) == pytest.approx(float(factors(process, grid).prod()), rel=2e-2)


# --- what is refused --------------------------------------------------------------------------------------------------
def test_a_student_without_step_times_is_refused() -> None:
    roles = {"teacher": GaussianTeacher(edm(), 0.0, STD), "student": GaussianTeacher(edm(), 0.0, STD)}
    with pytest.raises(ValueError, match="no step times"):
        lossof(Progressive(), roles, data())


def test_a_scale_that_is_drawn_must_be_taken_by_the_student() -> None:
    process = edm()
    make = {"teacher": partial(guided, process), "student": lambda: Gains(process, (80.0,))}
    optim = {"student": Optim()}
    with pytest.raises(AssemblyError, match="guidance"):
        assemble(Progressive(guidance=Uniform(1.0, 3.0)), make, Source(), optim)
    assemble(Progressive(guidance=2.0), make, Source(), optim)


def test_noise_predictions_without_signal_are_cautioned_against() -> None:
    def caution(prediction: str) -> list[str]:
        student = FewStep(nn.Identity(), edm(), prediction, (80.0,))
        batch = Batch(like=data())
        return list(Progressive().cautions({"student": student}, batch, Step(0, 1, Key(0))))

    assert caution("v") == []
    assert "predict x0 or v" in caution("eps")[0]


@pytest.mark.parametrize(
    "settings", [{"guidance_to": 3.0}, {"guidance": 3.0, "guidance_to": 2.0}, {"halvings": 0}]
)
def test_settings_of_rounds_out_of_bounds_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ProgressiveConfig(**settings)


def test_settings_of_guidance_reach_the_objectives() -> None:
    of_guidance: Any = GuidanceConfig().build(edm())
    assert of_guidance.scale == Uniform(1.0, 5.0)
    assert of_guidance.weight is weights.truncated_snr
    fixed: Any = GuidanceConfig(guidance=3.0, guidance_to=None).build(edm())
    assert fixed.scale == 3.0
    rounded: Any = ProgressiveConfig(guidance=1.0, guidance_to=4.0, states="noise").build(edm())
    assert (rounded.guidance, rounded.reads) == (Uniform(1.0, 4.0), frozenset())


# --- guidance ---------------------------------------------------------------------------------------------------------
class Labeled(Exact):
    """N(mean, std^2) of the label; label 0 is the unconditional law."""

    def __init__(self, process: Any, means: Any, stds: Any) -> None:
        super().__init__(process)
        self.laws = [GaussianTeacher(process, m, s) for m, s in zip(means, stds, strict=True)]

    def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        each = torch.stack([law.believe(xt, t, cond) for law in self.laws])
        return each[cond.data, torch.arange(len(xt))]


def guided(process: Any, means: Any = (0.0, 0.0), stds: Any = (1.1, STD), scale: float = 1.0) -> Guided:
    base = Labeled(process, means, stds)
    return Guided(base, scale, lambda cond: replace(cond, data=torch.zeros_like(cond.data)))


def labels(rows: int) -> Cond:
    return Cond(torch.ones(rows, dtype=torch.int64))


@EVERY
def test_guidance_between_equal_covariances_is_another_gaussian(process: Any) -> None:
    """O5: N(mu_c + w (mu_c - mu_u), s^2) at every time, in the convention g = 1 + w."""
    w, x = 2.5, data(32)
    t = torch.linspace(process.t_min, 0.99 * process.t_max, 32, dtype=torch.float64)
    teacher = guided(process, (-0.3, 0.7), (STD, STD))
    found = teacher(x, t, labels(32), guidance=torch.full((32,), from_w(w)).double()).x0
    exact = GaussianTeacher(process, 0.7 + w * 1.0, STD)(x, t).x0
    assert torch.allclose(found, exact, atol=1e-9)
    off_by_one = teacher(x, t, labels(32), guidance=torch.full((32,), w).double()).x0
    assert not torch.allclose(off_by_one, exact, atol=0.1)


class Scaled(FewStep):
    """D = (a_t + b_t g) x_t: what a guided zero-mean Gaussian is, with one pair of numbers for each listed time."""

    accepts = frozenset({"guidance"})  # type: ignore[assignment]

    def __init__(self, process: Any, times: Any) -> None:
        super().__init__(nn.Identity(), process, "x0", times, rule="ddim")
        self.table = nn.Parameter(torch.zeros(len(times), 2, dtype=torch.float64))

    def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
        place = (t[:, None] - torch.tensor(self.times).double()).abs().argmin(1)
        a, b = self.table[place].unbind(1)
        return Estimate(spread(a + b * asked["guidance"], xt) * xt)


def test_a_student_that_is_told_the_scale_learns_the_guided_teacher() -> None:
    process, times = edm(), (5.0, 0.8, 0.1)
    student, teacher = Scaled(process, times), guided(process)
    objective = GuidanceDistillation(at_one_of(times), Uniform(1.0, 5.0), weight=weights.edm)
    optimizer = torch.optim.LBFGS(student.parameters(), max_iter=100, tolerance_grad=1e-14)
    x = data(256)

    def closure() -> Tensor:
        optimizer.zero_grad()
        total: Tensor = lossof(objective, {"teacher": teacher, "student": student}, x, cond=labels(len(x)))
        total.backward()
        return total

    for _ in range(5):
        optimizer.step(closure)  # type: ignore[arg-type]
    variance = torch.tensor(times).double().square()
    free, given = 1.21 / (1.21 + variance), 0.36 / (0.36 + variance)
    assert torch.allclose(student.table[:, 0], free, atol=1e-5)
    assert torch.allclose(student.table[:, 1], given - free, atol=1e-5)


def at_one_of(times: Any) -> Any:
    from fewstep.processes import Grid

    return Grid(times)


def test_guidance_between_unequal_covariances_over_sharpens() -> None:
    """O5: std .131859 where the condition alone has .6, by the closed form and by the guided teacher's ODE."""
    w, top, floor = 2.5, 80.0, 1e-3
    power = lambda s, p: ((s**2 + floor**2) / (s**2 + top**2)) ** p  # noqa: E731
    closed = top * power(STD, (1 + w) / 2) * power(1.1, -w / 2)
    assert closed == pytest.approx(0.131859, abs=1e-6)
    process = edm(sigma_min=floor)
    teacher = guided(process, scale=from_w(w))
    x = torch.full((1, 1), top, dtype=torch.float64)
    states = heun(teacher, x, process.grid(300), labels(1))
    *_, before_last, _ = states
    assert float(before_last.x) == pytest.approx(closed, rel=2e-3)


def test_rounds_of_a_guided_student_multiply_guided_steps_at_every_scale() -> None:
    process = edm(sigma_max=10.0)
    times = tuple(process.grid(2)[:-1].tolist())
    four = halved(process, times)
    teacher, student = Scaled(process, four), Scaled(process, times)
    variance = torch.tensor(four).double().square()
    free, given = 1.21 / (1.21 + variance), 0.36 / (0.36 + variance)
    teacher.table.data = torch.stack([free, given - free], 1)
    objective = Progressive(guidance=Uniform(1.0, 5.0), weight=weights.one)
    seen: list[Tensor] = []

    class Asking(Scaled):
        def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
            seen.append(asked["guidance"])
            g = asked["guidance"]
            scale = [torch.lerp(free, given, v) for v in g[:, None]]
            out = []
            for row, (gain, i) in enumerate(zip(scale, cond.index.tolist(), strict=True)):  # type: ignore[union-attr]
                at = four[2 * i : 2 * i + 2]
                end = times[i + 1] if i + 1 < len(times) else 0.0
                first = gain[2 * i] + (1 - gain[2 * i]) * at[1] / at[0]
                second = gain[2 * i + 1] + (1 - gain[2 * i + 1]) * end / at[1]
                kept = end / at[0]
                out.append((first * second - kept) / (1 - kept) * xt[row])
            return Estimate(torch.stack(out))

    student = Asking(process, times)
    assert float(lossof(objective, {"teacher": teacher, "student": student}, data(64))) < 1e-25
    assert len(set(seen[0].tolist())) == 64
    wrong = replace(objective, guidance=Uniform(1.0, 1.0 + 1e-9))
    roles = {"teacher": guided(process, stds=(1.1, 0.3)), "student": student}
    assert float(lossof(wrong, roles, data(64), cond=labels(64))) > 1e-4


def test_the_teachers_network_is_called_twice_and_the_students_once() -> None:
    process = edm()
    calls = {"teacher": 0, "student": 0}

    class Counted(GaussianTeacher):
        def forward(self, *args: Any, **asked: Any) -> Estimate:
            calls[self.role] += 1
            return super().forward(*args, **asked)

    roles: dict[str, Any] = {name: Counted(process, 0.0, STD) for name in calls}
    for name, role in roles.items():
        role.role = name
    lossof(Progressive(times=(80.0, 1.0)), roles, data())
    assert calls == {"teacher": 2, "student": 1}


def test_weights_are_those_of_the_step_that_is_learned() -> None:
    process, times = edm(), (80.0,)
    student = Gains(process, times, torch.zeros(1, dtype=torch.float64))
    roles = {"teacher": GaussianTeacher(process, 0.0, STD), "student": student}
    plain, weighted = (
        float(lossof(Progressive(weight=w), roles, data()).detach()) for w in (weights.one, weights.edm)
    )
    assert weighted == pytest.approx(plain * (1 / 6400 + 4.0))
    assert math.isclose(plain, float(lossof(Progressive(), roles, data()).detach()))


def test_a_teacher_that_is_no_student_is_not_told_an_index() -> None:
    told: list[Any] = []

    class Listening(GaussianTeacher):
        def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
            told.append(None if cond is None else cond.index)
            return super().forward(xt, t, cond)

    process = edm()
    teacher = Listening(process, 0.0, STD)
    lossof(Progressive(), {"teacher": teacher, "student": Gains(process, (80.0, 1.0))}, data())
    assert told == [None, None]


def test_a_student_of_several_steps_walks_by_ddim() -> None:
    process = edm()
    made = rounds(ProgressiveConfig(halvings=2), process, (80.0, 1.0))
    assert {rule_for(each.objective) for each in made} == {"ddim"}
    assert rule_for(rounds(ProgressiveConfig(halvings=1), process, (80.0,))[0].objective) == "renoise"
    make = {
        "teacher": lambda: GaussianTeacher(process, 0.0, STD),
        "student": lambda: FewStep(nn.Linear(1, 1), process, "v", (80.0, 1.0)),
    }
    with pytest.raises(AssemblyError, match="rule = 'ddim'"):
        assemble(made[-1].objective, make, Source(), {"student": Optim()})
