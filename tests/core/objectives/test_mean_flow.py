"""Mean velocities against closed forms, and what the objectives of continuous time have in common."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from continuous_toys import (
    MEAN,
    PROCESSES,
    STD,
    STEP,
    Landing,
    Learner,
    Raw,
    diagonal,
    duel,
    identity_gap,
    monotone,
    place,
    rotated,
    tangent,
    two_modes,
)
from objective_toys import ANGLE, At, student_loss, unit_process
from torch import Tensor, nn

from fewstep.config.objectives import KINDS
from fewstep.objectives import (
    SCM,
    Difference,
    MeanFlow,
    SemiContinuous,
    rcm,
)
from fewstep.objectives.continuous import Place, WarmUp, straight, trigonometric
from fewstep.objectives.tangent import forward
from fewstep.objectives.weights import one
from fewstep.processes import Gaussian, Uniform, edm, flow, trig
from fewstep.protocol import (
    Batch,
    Cond,
    Estimate,
    Guided,
    Key,
    Mix,
    Step,
    spread,
)
from fewstep.samplers import FewStep
from fewstep.testing.analytic import GaussianTeacher


@pytest.mark.parametrize("process", [edm(), flow(), trig()], ids=lambda p: type(p.law).__name__)
def test_the_map_of_a_mixture_has_no_tangent_and_keeps_its_mean_velocity(process: Any) -> None:
    """O2: any mixture, by monotone rearrangement and differences of the exact map."""
    teacher = two_modes(process)
    student = Landing(process, monotone(process, teacher))
    t = process.law.time_of_ratio(torch.full((9,), 0.8, dtype=torch.float64))
    x = torch.linspace(-2.5, 2.5, 9, dtype=torch.float64)[:, None] * process.alpha(t)[:, None]
    here = Place(process, trigonometric, x, t, Cond())
    objective = SCM(At(1.0), derivative=Difference(1e-4))
    assert float(tangent(objective, here, student, teacher).abs().max()) < 1e-5
    assert float(tangent(objective, here, teacher, teacher).abs().max()) > 0.3
    r = process.law.time_of_ratio(torch.full((9,), 0.2, dtype=torch.float64))
    assert identity_gap(replace(here, charting=straight), student, teacher, r, Difference(1e-4)) < 1e-5


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p.law).__name__)
@pytest.mark.parametrize("law", [diagonal, rotated])
def test_the_exact_map_satisfies_the_identity_of_mean_velocities(process: Any, law: Any) -> None:
    """O8, in the straight coordinates of every process; the teacher in the map's place does not."""
    teacher, here = law(process), place(process, straight)
    r = here.t * torch.linspace(0.05, 0.95, 64, dtype=torch.float64)
    assert identity_gap(here, Landing(process, teacher.flow_map), teacher, r) < 5e-14
    stubborn = Landing(process, lambda x, t, s: process.jump(x, teacher(x, t), t, s))
    assert identity_gap(here, stubborn, teacher, r) > 0.05


def test_velocities_of_data_and_noise_teach_the_same_on_average() -> None:
    """O8: the target is affine in v, so two points of the posterior with its mean and variance give its expectation."""
    process = flow()
    teacher = GaussianTeacher(process, MEAN, STD)
    here = place(process, straight)
    student = Learner(process, 0.9, -0.4)
    alpha, sigma = process.alpha(here.t)[:, None], process.sigma(here.t)[:, None]
    mean, width = teacher(here.xt, here.t).x0, STD * sigma / teacher.variance(here.t, here.xt).sqrt()
    r, objective = here.t / 3, MeanFlow(At(1.0))
    with torch.no_grad():
        drawn = []
        for sign in (-1, 1):
            x0 = mean + sign * width
            known = here.known(x0, (here.xt - alpha * x0) / sigma)
            drawn.append(objective.target(here, student, known, r, 1.0))
        expected = objective.target(here, student, here.ask(teacher), r, 1.0)
    assert torch.allclose((drawn[0] + drawn[1]) / 2, expected, atol=1e-13)
    assert not torch.allclose(drawn[0], expected, atol=1e-2)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p.law).__name__)
def test_differences_stay_inside_the_range_at_both_of_its_ends(process: Any) -> None:
    """Single precision, steps of half a percent: a step of fixed size would ask about times below 0."""
    student, teacher = Learner(process, 0.9, -0.4), GaussianTeacher(process, MEAN, STD)
    t = torch.linspace(process.t_min ** (1 / 7), process.t_max ** (1 / 7), 32, dtype=torch.float64) ** 7
    x = process.corrupt(Key(28).normal(t[:, None]), Key(29).normal(t[:, None]), t)
    here = Place(process, straight, x, t.clamp(process.t_min, process.t_max), Cond())
    single = replace(here, xt=x.float())
    with torch.no_grad():
        for objective in (MeanFlow(At(1.0)), SCM(At(1.0))):
            found = derived(replace(objective, derivative=Difference()), single, student, teacher)
            exact = derived(objective, here, student, teacher)
            assert float((found - exact).abs().max()) < 0.02 * float(exact.abs().max())


def derived(objective: Any, here: Place, student: Any, teacher: Any) -> Tensor:
    """The target of mean velocities half way down, or the tangent."""
    if isinstance(objective, MeanFlow):
        found: Tensor = objective.target(here, student, here.ask(teacher), here.t / 2, 1.0)
        return found
    return tangent(objective, replace(here, charting=trigonometric), student, teacher)


def test_equal_times_are_flow_matching() -> None:
    student, x = Learner(flow(), 0.9, -0.4), Key(5).normal(torch.zeros(16, 2, dtype=torch.float64))
    objective = MeanFlow(Uniform(0.2, 0.8), same=1.0, power=0.0, teacher=None)
    total = student_loss(objective, {"student": student}, Batch(x, x), Key(6)).total
    t, r = objective.pairs(Batch(x, x), Step(0, 10, Key(6)), Key(6))
    noise = flow().noise(Batch(x), Key(6).at("noise"))
    xt = flow().corrupt(x, noise, t)
    plain = (flow().velocity(xt, student(xt, t, to=t), t) - (noise - x)).square().mean()
    assert torch.equal(t, r)
    assert float(total) == pytest.approx(float(plain), rel=1e-12)


class Kinked(Learner):
    """The same map, with a derivative that does not exist where it stands still; it counts the rows that it sees."""

    def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
        vars(self).setdefault("seen", []).append(len(xt))
        kink = 0.0 * (t - asked["to"]).sqrt()
        return Estimate(super().forward(xt, t, cond, **asked).x0 + spread(kink, xt))


@pytest.mark.parametrize(("same", "count"), [(0.0, 32), (0.6, 12), (0.98, 1), (1.0, 0)])
def test_samples_that_stay_where_they_are_cost_no_derivative(same: float, count: int) -> None:
    """Nor does one that does not exist there reach them; a single row is asked where chance moves none."""
    x = Key(5).normal(torch.zeros(32, 2, dtype=torch.float64))
    objective = MeanFlow(Uniform(0.2, 0.8), same=same, teacher=None)
    kinked, plain = Kinked(flow(), 0.9, -0.4), Learner(flow(), 0.9, -0.4)
    totals = [student_loss(objective, {"student": one}, Batch(x, x), Key(6)).total for one in (kinked, plain)]
    t, r = objective.pairs(Batch(x, x), STEP, Key(6))
    assert vars(kinked)["seen"] == [32, count][: 1 + bool(count)]
    assert int((t > r).sum()) in (count, 0)
    assert torch.equal(totals[0], totals[1])
    here = Place(flow(), straight, x, t, Cond())
    with torch.no_grad():
        everywhere = objective.target(here, kinked, x, r, 1.0)
        by_row = objective._target((t > r).nonzero().squeeze(1), here, plain, x, r, 1.0)
        assert torch.allclose(by_row, objective.target(here, plain, x, r, 1.0), rtol=1e-13)
    assert bool(everywhere.isfinite().all()) is (same == 0.0)


def test_rows_are_taken_with_their_masks_and_conditions() -> None:
    process, x = flow(), Key(5).normal(torch.zeros(4, 3, dtype=torch.float64))
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    place = Place(process.on(mask), straight, x, torch.linspace(0.2, 0.8, 4).double(), Cond({"a": x}, mask))
    which = torch.tensor([3, 1])
    part = place.take(which)
    assert torch.equal(part.cond.data["a"], x[which])
    assert torch.equal(part.t, place.t[which])
    assert torch.equal(part.process.geometry.project(part.xt), (x * mask)[which])


def test_pairs_of_times_are_ordered_and_as_often_equal_as_asked() -> None:
    x = torch.zeros(4000, 1)
    t, r = MeanFlow(Uniform(0.1, 0.9), same=0.3).pairs(Batch(x, x), STEP, Key(7))
    assert bool((t >= r).all())
    assert float((t == r).double().mean()) == pytest.approx(0.3, abs=0.03)


def test_guidance_without_a_teacher_mixes_the_students_own_velocities() -> None:
    """v = g v + (1 - g - kappa) u(null) + kappa u(cond), with one student for both conditions: g v + (1 - g) u."""
    student, x = Learner(flow(), 0.9, -0.4), Key(8).normal(torch.zeros(16, 2, dtype=torch.float64))
    roles, batch = {"student": student}, Batch(x, x)
    settings = {"same": 1.0, "power": 0.0, "teacher": None}
    plain = student_loss(MeanFlow(At(0.5), **settings), roles, batch, Key(9)).total
    for mix in (0.0, 0.4):
        objective = MeanFlow(At(0.5), guidance=3.0, mix=mix, null=lambda cond: cond, **settings)
        assert float(student_loss(objective, roles, batch, Key(9)).total) == pytest.approx(9 * float(plain))
    everyone_free = replace(objective, drop=1.0)
    assert float(student_loss(everyone_free, roles, batch, Key(9)).total) == pytest.approx(float(plain))


def test_a_guided_teacher_gives_a_guided_flow() -> None:
    """Equal spreads: guided by g it is the teacher of the mean u + g (c - u)."""
    process = unit_process()

    class Shifted(GaussianTeacher):
        def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
            return GaussianTeacher(self.process, cond.data, STD).believe(xt, t, cond)

    base = Shifted(process, MEAN, STD)
    guided = Guided(base, 2.5, lambda cond: replace(cond, data=torch.zeros_like(cond.data)))
    student, x = Learner(process, 0.9, -0.4), Key(19).normal(torch.zeros(16, 2, dtype=torch.float64))
    batch = Batch(x, x, Cond(torch.full((16, 1), MEAN, dtype=torch.float64)))
    for objective in (SCM(At(ANGLE)), MeanFlow(At(ANGLE), same=1.0, power=0.0)):
        totals = [
            float(student_loss(each, {"student": student, "teacher": teacher}, batch, Key(20)).total)
            for each, teacher in (
                (replace(objective, guidance=2.5), guided),
                (objective, GaussianTeacher(process, 2.5 * MEAN, STD)),
                (objective, GaussianTeacher(process, MEAN, STD)),
            )
        ]
        assert totals[0] == pytest.approx(totals[1], rel=1e-10)
        assert totals[0] != pytest.approx(totals[2], rel=1e-2)


@pytest.mark.parametrize(
    "objective",
    [
        SCM(Uniform(0.1, 1.4), weight=one),
        MeanFlow(Uniform(0.1, 1.4), same=0.25),
        MeanFlow(Uniform(0.1, 1.4), same=0.25, power=0.0, teacher=None),
        rcm(Uniform(0.1, 1.4), warmup=10),
        rcm(Uniform(0.1, 1.4), warmup=10, form="discrete", steps=16),
    ],
    ids=["scm", "meanflow", "meanflow training", "rcm", "rcm, discrete"],
)
def test_a_student_finds_the_teachers_law(objective: Any) -> None:
    roles, batch = duel(1.2, -0.4)
    student = roles["student"]
    optimizer = torch.optim.Adam(student.parameters(), 0.1, betas=(0.8, 0.95))
    for i in range(90):
        z = Key(26).at(i).normal(batch.x)
        optimizer.zero_grad()
        student_loss(objective, roles, Batch(z, MEAN + STD * z), Key(27).at(i), i).total.backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] *= 0.97
    assert float(student.shift) == pytest.approx(MEAN, abs=0.06)
    assert abs(float(student.gain)) == pytest.approx(STD, abs=0.06)


def test_contradictions_are_refused() -> None:
    with pytest.raises(ValueError, match="no teacher"):
        SCM(At(1.0), teacher=None, guidance=2.0)
    with pytest.raises(ValueError, match="null"):
        MeanFlow(At(1.0), teacher=None, guidance=2.0)
    with pytest.raises(ValueError, match="mix"):
        MeanFlow(At(1.0), mix=0.5)
    with pytest.raises(ValueError, match="null"):
        MeanFlow(At(1.0), drop=0.1)
    assert MeanFlow(At(1.0)).roles["student"].accepts == {"to"}
    assert SCM(At(1.0)).roles["student"].process is Gaussian


def test_students_that_round_their_velocity_or_are_not_told_where_to_land_are_cautioned_against() -> None:
    x = torch.zeros(2, 3)
    net = Raw(nn.Linear(3, 3))
    net.accepts = frozenset({"to"})  # type: ignore[assignment]
    good = FewStep(net, edm(), "edm", (80.0,), "flow")
    bad = FewStep(Raw(nn.Linear(3, 3).bfloat16()), edm(), "x0", (80.0,))
    for objective, count in ((SCM(At(1.0)), 2), (MeanFlow(At(1.0)), 3)):
        assert not list(objective.cautions({"student": good}, Batch(x, x), STEP))
        assert len(list(objective.cautions({"student": bad}, Batch(x, x), STEP))) == count


def test_a_warm_up_that_outlasts_its_stage_is_cautioned_against() -> None:
    x = torch.zeros(2, 3)
    net = Raw(nn.Linear(3, 3))
    net.accepts = frozenset({"to"})  # type: ignore[assignment]
    roles = {"student": FewStep(net, edm(), "edm", (80.0,), "flow")}
    for made in (SCM(At(1.0), ramp=WarmUp(100)), MeanFlow(At(1.0), ramp=WarmUp(100))):
        told = list(made.cautions(roles, Batch(x, x), Step(0, 51, Key(0))))
        assert len(told) == 1
        assert "100 cycles and this stage has 51: at its end it counts 50%" in told[0]
        assert not list(made.cautions(roles, Batch(x, x), Step(0, 101, Key(0))))


@pytest.mark.parametrize("kind", ["scm", "rcm", "meanflow"])
def test_settings_choose_the_derivative_and_the_warm_up(kind: str) -> None:
    def built(**settings: Any) -> Any:
        made = KINDS[kind](**settings).build(flow())  # type: ignore[attr-defined]
        return made.terms["consistency"][1] if isinstance(made, Mix) else made

    assert built().derivative is forward
    found = built(derivative="difference", step=1e-3, warmup=4)
    assert found.derivative == Difference(1e-3)
    assert [found.ramp(Step(index, 10, Key(0))) for index in (0, 1, 4, 9)] == [0.0, 0.25, 1.0, 1.0]
    assert built(derivative="semi").derivative == SemiContinuous()
    if kind != "rcm":
        assert built(teacher=False).teacher is None
