"""Tangents of consistency against closed forms: Gaussians of any covariance, on every process."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
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
    place,
    rotated,
    tangent,
)
from objective_toys import ANGLE, At, student_loss, unit_process
from torch import Tensor, nn

from fewstep.objectives import (
    SCM,
    Consistency,
    Difference,
    LogVariance,
    SemiContinuous,
    heun,
    rcm,
)
from fewstep.objectives.continuous import Place, trigonometric
from fewstep.objectives.pairs_of_times import Pair
from fewstep.objectives.scm import rcm_pull, scm_pull
from fewstep.objectives.weights import one
from fewstep.processes import Uniform, edm, flow, trig, vp
from fewstep.protocol import (
    Batch,
    Cond,
    Denoiser,
    Estimate,
    Euclidean,
    Key,
    Mix,
    Step,
)
from fewstep.testing.analytic import GaussianTeacher


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p.law).__name__)
@pytest.mark.parametrize("law", [diagonal, rotated])
@pytest.mark.parametrize("pull", [scm_pull, rcm_pull])
def test_the_tangent_vanishes_at_the_exact_map_and_not_at_the_teacher(
    process: Any, law: Any, pull: Any
) -> None:
    """O6, for any mean and covariance and on every process."""
    teacher, here = law(process), place(process)
    objective = SCM(Uniform(0.1, 0.9), pull=pull)
    assert float(tangent(objective, here, Landing(process, teacher.flow_map), teacher).abs().max()) < 3e-14
    assert float(tangent(objective, here, teacher, teacher).abs().max()) > 0.5


def test_the_tangent_of_the_teacher_has_its_closed_form() -> None:
    """g = cos dD/da = -cos sin s^2 (x - mu cos) / V^2 with unit data; at most .4226 per deviation of x_t."""
    process = unit_process()
    teacher, here = GaussianTeacher(process, MEAN, STD), place(process)
    cos, sin = here.t.cos()[:, None], here.t.sin()[:, None]
    variance = (STD * cos).square() + sin.square()
    expected = -cos * sin * STD**2 * (here.xt - MEAN * cos) / variance.square()
    assert torch.allclose(tangent(SCM(At(1.0)), here, teacher, teacher), expected, atol=1e-13)
    t = torch.linspace(0.01, 1.56, 2000, dtype=torch.float64)
    width = ((STD * t.cos()).square() + t.sin().square()).sqrt()
    far = replace(here, xt=(MEAN * t.cos() + width)[:, None], t=t)
    assert float(tangent(SCM(At(1.0)), far, teacher, teacher).abs().max()) == pytest.approx(0.42257, abs=1e-5)


def test_with_the_spread_of_the_data_the_velocity_is_a_half_angle() -> None:
    """s = sigma_data, mu = 0: f = x and F = -tan(t / 2) x / sigma_data."""
    process = trig(sigma_data=0.5)
    here = place(process)
    teacher = GaussianTeacher(process, 0.0, 0.5)
    found = here.ask(Landing(process, teacher.flow_map))
    assert torch.allclose(found, -torch.tan(here.t / 2)[:, None] * here.xt, atol=1e-13)


def test_one_law_has_one_tangent_on_every_process() -> None:
    found = []
    for process in (edm(), flow(sigma_data=0.5), trig(), replace(vp(), sigma_data=0.5)):
        here = place(process)
        found.append(tangent(SCM(At(1.0)), here, diagonal(process), diagonal(process)))
    assert all(torch.allclose(found[0], other, atol=1e-11) for other in found[1:])


def test_a_teacher_of_another_process_is_asked_at_the_same_noise() -> None:
    here = place(trig(), low=0.05, high=0.95)
    student = Learner(trig(), 0.9, -0.4)
    x = Key(4).normal(torch.zeros(32, 3, dtype=torch.float64))
    t = float(here.t[30])
    totals = [
        float(
            student_loss(SCM(At(t)), {"teacher": diagonal(p), "student": student}, Batch(x, x), Key(1)).total
        )
        for p in (trig(), edm(), flow(), vp())
    ]
    assert totals == pytest.approx([totals[0]] * 4, rel=1e-12)


def test_both_tangents_agree_at_the_end_of_the_warm_up_and_differ_before() -> None:
    process = unit_process()
    teacher, student, here = diagonal(process), Learner(process, 0.9, -0.4), place(process)
    ours, theirs = (SCM(At(1.0), pull=pull) for pull in (scm_pull, rcm_pull))
    assert torch.allclose(
        tangent(ours, here, student, teacher), tangent(theirs, here, student, teacher), atol=1e-14
    )
    gap = here.ask(teacher) - here.ask(student)
    cos = here.t.cos()[:, None]
    for objective, factor in ((ours, cos.square()), (theirs, cos)):
        early = tangent(replace(objective, ramp=0.0), here, student, teacher)
        assert torch.allclose(early, factor * gap, atol=1e-14)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p.law).__name__)
def test_continuous_consistency_is_the_limit_of_neighbors(process: Any) -> None:
    """2 <dD, D(x_t) - D(x_s)> tends to (t - s) pace sigma_data sin / cos times the gradient of the bare tangent."""
    student, teacher = Learner(process, 0.9, -0.4), GaussianTeacher(process, MEAN, STD)
    t = float(process.law.time_of_ratio(torch.tensor(0.8, dtype=torch.float64)))
    chart = trigonometric(process, torch.tensor([t], dtype=torch.float64))
    factor = float(-chart.pace * process.sigma_data * chart.x0[1] / chart.x0[0])
    # So large a constant leaves the tangent as it is, up to a number.
    bare = SCM(At(t), weight=one, constant=1e9)
    expected = 1e9 * factor * gradient(bare, student, teacher)
    off = []
    for step in (1e-3, 5e-4):
        limit = gradient(Consistency(Near(t, t - step), heun, target=None), student, teacher) / step
        off.append(float((limit - expected).norm() / expected.norm()))
    assert off[1] < 2e-2
    assert off[0] / off[1] == pytest.approx(2, rel=0.15)


@dataclass(frozen=True)
class Near:
    """The law that knows one pair."""

    t: float
    s: float
    lands: str = "clean"

    def __call__(self, process: Any, count: int, step: Step, key: Key) -> Pair:
        return Pair(*(torch.full((count,), u, dtype=torch.float64) for u in (self.t, self.s)))


def gradient(objective: Any, student: Learner, teacher: Any) -> Tensor:
    x = MEAN + STD * Key(10).normal(torch.zeros(64, 2, dtype=torch.float64))
    total = student_loss(objective, {"student": student, "teacher": teacher}, Batch(x, x), Key(11)).total
    return torch.stack(torch.autograd.grad(total, [student.gain, student.shift]))


def test_the_gradient_is_the_normalized_tangent() -> None:
    """dL/dF = -2 w g / (|g| + c) / D, whatever the value of F."""
    process = unit_process()
    student, teacher = Learner(process, 0.9, -0.4), GaussianTeacher(process, MEAN, STD)
    x = Key(12).normal(torch.zeros(8, 3, dtype=torch.float64))
    objective = SCM(At(ANGLE), constant=0.1)
    total = student_loss(objective, {"student": student, "teacher": teacher}, Batch(x, x), Key(13)).total
    found = torch.autograd.grad(total, [student.gain, student.shift])
    t = At(ANGLE)((8,), STEP, Key(0))
    xt = process.corrupt(x, process.noise(Batch(x), Key(13).at("noise")), t)
    here = Place(process, trigonometric, xt, t, Cond())
    g = tangent(objective, here, student, teacher)
    g = g / (g.square().mean(1, keepdim=True).sqrt() + 0.1)
    by_hand = (-2 * (0.8 / 0.6) * here.ask(student) * g).mean(1).mean()
    expected = torch.autograd.grad(by_hand, [student.gain, student.shift])
    assert torch.allclose(torch.stack(found), torch.stack(expected), rtol=1e-12)


def test_sums_in_place_of_means_give_the_other_normalization() -> None:
    process = replace(unit_process(), geometry=Euclidean("sum"))
    student, teacher = Learner(process, 0.9, -0.4), GaussianTeacher(process, MEAN, STD)
    x = Key(12).normal(torch.zeros(1, 50, dtype=torch.float64))
    total = student_loss(SCM(At(ANGLE), one), {"student": student, "teacher": teacher}, Batch(x, x), Key(13))
    norm = float(total.logs["tangent"])
    assert float(total.total) == pytest.approx((norm / (norm + 0.1)) ** 2)
    assert norm > 2


def test_the_head_learns_the_logarithm_of_the_loss() -> None:
    process = unit_process()
    head = LogVariance(4).double()
    roles = {
        "student": Learner(process, 0.9, -0.4),
        "teacher": GaussianTeacher(process, MEAN, STD),
        "head": head,
    }
    x = Key(14).normal(torch.zeros(16, 2, dtype=torch.float64))
    objective = SCM(At(ANGLE), log_variance="head")
    plain = float(student_loss(replace(objective, log_variance=None), roles, Batch(x, x), Key(15)).total)
    with torch.no_grad():
        head.coefficients[0] = math.log(plain)
    total = student_loss(objective, roles, Batch(x, x), Key(15)).total
    assert float(total) == pytest.approx(1 + math.log(plain))
    assert float(torch.autograd.grad(total, [head.coefficients])[0].abs().max()) < 1e-14


def test_samples_without_a_finite_tangent_are_left_out_and_counted() -> None:
    class Torn(GaussianTeacher):
        def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
            est = super().forward(xt, t, cond, **asked)
            return Estimate(torch.where(torch.arange(len(xt))[:, None] == 2, torch.inf, est.x0))

    process = unit_process()
    student, x = Learner(process, 0.9, -0.4), Key(16).normal(torch.zeros(8, 2, dtype=torch.float64))
    grads = []
    for teacher in (Torn(process, MEAN, STD), GaussianTeacher(process, MEAN, STD)):
        roles = {"student": student, "teacher": teacher}
        found = student_loss(SCM(At(ANGLE)), roles, Batch(x, x), Key(17))
        grads.append(torch.stack(torch.autograd.grad(found.total, [student.gain, student.shift])))
        assert float(found.logs["nonfinite"]) == (0.125 if isinstance(teacher, Torn) else 0.0)
        assert bool(found.total.isfinite())
    assert bool(grads[0].isfinite().all())
    assert not torch.allclose(grads[0], grads[1])


def test_predictions_that_are_velocities_lose_nothing_near_the_clean_end() -> None:
    """A float32 network with EDM's preconditioning at t_min; dividing the estimate by sin is the control."""
    process = edm()
    net = nn.Linear(3, 3)
    model = Denoiser(Raw(net), process, "edm")
    t = torch.full((64,), process.t_min, dtype=torch.float64)
    x = Key(18).normal(torch.zeros(64, 3))
    place32 = Place(process, trigonometric, x, t, Cond())
    place64 = replace(place32, xt=x.double())
    exact = Denoiser(Raw(net.double()), process, "edm")
    with torch.no_grad():
        reference = place64.ask(exact)
        net.float()
        est = model(x, t)
        kept, divided = place32.slope(model, est), place32.slope(model, Estimate(est.x0))
    assert float((kept - reference).abs().max()) < 2e-6
    assert float((divided - reference).abs().max()) > 2e-5


@pytest.mark.parametrize(
    ("objective", "student_calls", "teacher_calls"),
    [
        (SCM(At(1.0)), 2, 1),
        (SCM(At(1.0), derivative=Difference()), 3, 1),
        (SCM(At(1.0), derivative=SemiContinuous()), 3, 1),
        (SCM(At(1.0), ramp=0.0), 1, 1),
        (SCM(At(1.0), teacher=None), 2, 0),
    ],
)
def test_networks_are_called_no_more_than_needed(
    objective: SCM, student_calls: int, teacher_calls: int
) -> None:
    nets = {name: Raw(nn.Linear(3, 3).double()) for name in ("student", "teacher")}
    roles = {name: Denoiser(net, edm(), "edm") for name, net in nets.items()}
    x = Key(21).normal(torch.zeros(8, 3, dtype=torch.float64))
    student_loss(objective, roles, Batch(x, x), Key(22))
    assert (nets["student"].calls, nets["teacher"].calls) == (student_calls, teacher_calls)


@pytest.mark.parametrize("derivative", [None, Difference()])
def test_flow_map_and_score_agree_on_the_optimum(derivative: Any) -> None:
    """O20: at the teacher's flow map both gradients vanish; away from it neither does."""
    times = Uniform(0.1, 1.4)
    mixed = rcm(times, warmup=0) if derivative is None else rcm(times, warmup=0, derivative=derivative)
    for gain, shift, still in ((STD, MEAN, True), (0.9, -0.4, False)):
        roles, batch = duel(gain, shift)
        for name in mixed.terms:
            alone = Mix({name: mixed.terms[name]})
            total = student_loss(alone, roles, batch, Key(24)).total
            slope = torch.stack(torch.autograd.grad(total, [roles["student"].gain, roles["student"].shift]))
            assert (float(slope.abs().max()) < 1e-5) == still


def test_scores_join_after_the_warm_up() -> None:
    mixed = rcm(Uniform(0.1, 1.4), warmup=5, critic_updates=2)
    assert [phase.name for phase in mixed.phases(0)] == ["critic", "critic", "student"]
    roles, batch = duel(0.9, -0.4)
    phase = mixed.phases(0)[-1]
    for index, terms in ((0, {"consistency"}), (4, {"consistency"}), (5, {"consistency", "scores"})):
        found = {
            name for loss in mixed.loss(phase, roles, batch, Step(index, 10, Key(25))) for name in loss.logs
        }
        assert {name for name in found if "/" not in name} == terms
    assert isinstance(rcm(Uniform(0.1, 1.4), form="discrete").terms["consistency"][1], Consistency)
