"""Flow maps in continuous time against closed forms: Gaussians of any covariance, mixtures on the line."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from objective_toys import ANGLE, At, student_loss, unit_process
from torch import Tensor, nn

from fewstep.config.objectives import KINDS
from fewstep.objectives import (
    SCM,
    Consistency,
    Difference,
    LogVariance,
    MeanFlow,
    SemiContinuous,
    heun,
    rcm,
)
from fewstep.objectives.continuous import Place, straight, trigonometric
from fewstep.objectives.pairs_of_times import Pair
from fewstep.objectives.scm import rcm_pull, scm_pull
from fewstep.objectives.tangent import forward
from fewstep.objectives.weights import one
from fewstep.processes import Gaussian, Uniform, edm, flow, trig, vp
from fewstep.protocol import (
    Batch,
    Cond,
    Denoiser,
    Estimate,
    Euclidean,
    Guided,
    Key,
    Mix,
    Sample,
    Step,
    spread,
)
from fewstep.samplers import FewStep
from fewstep.testing.analytic import CovarianceTeacher, GaussianTeacher, MixtureTeacher
from fewstep.testing.linear import LinearFake

MEAN, STD = 0.7, 0.6
STEP = Step(1, 10, Key(2))
PROCESSES = [edm(sigma_data=0.8), flow(), trig(), vp()]
COVARIANCE = torch.tensor([[1.0, 0.6, -0.2], [0.6, 0.8, 0.1], [-0.2, 0.1, 0.3]], dtype=torch.float64)


def diagonal(process: Gaussian) -> Any:
    mean = torch.tensor([0.7, -0.3, 2.0], dtype=torch.float64)
    return GaussianTeacher(process, mean, torch.tensor([0.6, 1.3, 0.2], dtype=torch.float64))


def rotated(process: Gaussian) -> Any:
    return CovarianceTeacher(process, COVARIANCE, torch.tensor([0.7, -0.3, 2.0], dtype=torch.float64))


class Landing(Denoiser):
    """A student that goes where ``flow_map`` leads: to the clean state unless it is told where."""

    accepts = frozenset({"to"})

    def __init__(self, process: Any, flow_map: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__(nn.Identity(), process, "x0")
        self.flow_map = flow_map

    def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
        process: Any = self.process
        to = torch.zeros_like(t) if asked.get("to") is None else asked["to"]
        kept = process.sigma(to) / process.sigma(t)
        move = self.flow_map(xt, t, to) - spread(kept, xt) * xt
        return Estimate(move / spread(process.alpha(to) - kept * process.alpha(t), xt))


class Learner(Denoiser):
    """The exact flow map of N(shift, gain^2), whose two numbers are learned."""

    accepts = frozenset({"to"})

    def __init__(self, process: Gaussian, gain: float, shift: float) -> None:
        super().__init__(nn.Identity(), process, "x0")
        self.gain = nn.Parameter(torch.tensor(gain, dtype=torch.float64))
        self.shift = nn.Parameter(torch.tensor(shift, dtype=torch.float64))

    def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
        process: Any = self.process
        to = torch.zeros_like(t) if asked.get("to") is None else asked["to"]
        (a, b), (c, d) = ((process.alpha(u), process.sigma(u)) for u in (t, to))
        now, then = ((p * self.gain).square() + q.square() for p, q in ((a, b), (c, d)))
        kept, stays = d / b, t == to
        reach = torch.where(stays, 1.0, c - kept * a)
        pull = torch.where(stays, a * self.gain.square() / now, ((then / now).sqrt() - kept) / reach)
        return Estimate(self.shift + spread(pull, xt) * (xt - spread(a, xt) * self.shift))

    def generate(self, batch: Batch, step: Step, **asked: Any) -> Sample:
        process: Any = self.process
        noise = process.noise(batch, step.key.at("noise"))
        t = torch.full((len(noise),), process.t_max, dtype=torch.float64)
        est = self(process.corrupt(None, noise, t), t)
        return Sample(est.x0, batch.cond, est)

    sample = generate


def place(process: Any, charting: Any = trigonometric, low: float = 0.05, high: float = 0.95) -> Place:
    """64 states of the diagonal law at times spread over the range of the process."""
    z, eps = (Key(3).at(i).normal(torch.zeros(64, 3, dtype=torch.float64)) for i in (0, 1))
    x = torch.tensor([0.7, -0.3, 2.0]) + z @ torch.linalg.cholesky(COVARIANCE).T
    ratio = torch.logspace(math.log10(low), math.log10(high / (1 - high)), 64, dtype=torch.float64)
    t = process.law.time_of_ratio(ratio)
    return Place(process, charting, process.corrupt(x, eps, t), t, Cond())


def tangent(objective: SCM, here: Place, student: Any, teacher: Any, step: Step = STEP) -> Tensor:
    with torch.no_grad():
        return objective.tangent(here, student, here.ask(student), here.ask(teacher), step)


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


def monotone(process: Gaussian, teacher: MixtureTeacher) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The flow map on the line: quantiles keep their rank, CDF_s(f(x)) = CDF_t(x)."""

    def rank(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = process.alpha(t)[:, None], process.sigma(t)[:, None]
        width = ((alpha * teacher.stds).square() + sigma.square()).sqrt()
        return (torch.special.ndtr((x - alpha * teacher.means.T) / width) * teacher.weights).sum(-1, True)

    def flow_map(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        low, high = torch.full_like(x, -40.0), torch.full_like(x, 40.0)
        for _ in range(60):
            middle = (low + high) / 2
            above = rank(middle, s) > rank(x, t)
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return (low + high) / 2

    return flow_map


def two_modes(process: Gaussian) -> MixtureTeacher:
    numbers = ([0.3, 0.7], [[-2.0], [1.5]], [0.5, 0.4])
    return MixtureTeacher(process, *(torch.tensor(part, dtype=torch.float64) for part in numbers))


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


def identity_gap(here: Place, student: Any, teacher: Any, r: Tensor, derivative: Any = None) -> float:
    """Largest |u - (v - (s_t - s_r) du/ds)|."""
    objective = MeanFlow(At(1.0)) if derivative is None else MeanFlow(At(1.0), derivative=derivative)
    with torch.no_grad():
        velocity = here.ask(teacher)
        target = objective.target(here, student, velocity, r, 1.0)
        return float((here.ask(student, to=r) - target).abs().max())


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


class Raw(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.calls = 0

    def forward(self, x: Tensor, time: Tensor, cond: Cond, to: Tensor | None = None) -> Tensor:
        self.calls += 1
        found: Tensor = self.layer(x) * torch.cos(time)[:, None]
        return found


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


def duel(gain: float, shift: float) -> tuple[dict[str, Any], Batch]:
    process = unit_process()
    student: Any = Learner(process, gain, shift)
    x = MEAN + STD * Key(23).normal(torch.zeros(64, 2, dtype=torch.float64))
    teacher = GaussianTeacher(process, MEAN, STD)
    return {"teacher": teacher, "student": student, "fake": LinearFake(process, student)}, Batch(x, x)


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
