"""CoMoSpeech on Gaussians, where everything is known: x0 ~ N(m, diag lambda), noise ~ N(u, 1), u = 0 or not.

The flow leads from x at sigma to m + sigma_min u + sqrt((lambda + sigma_min^2) / (lambda + sigma^2)) (x - m - sigma u).
A solver multiplies each principal direction by a factor per step, so its error, and that of a student distilled from it,
are products. Levels are those of the paper: 0.002 to 80, rho = 7.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewstep.objectives import Consistency, GridPairs, pair_solvers
from fewstep.processes import Gaussian, edm
from fewstep.protocol import Batch, Cond, Denoiser, Estimate, Key, Sampler, Step, spread
from fewstep.samplers import FewStep, euler, heun, one_call_sampler, solver_sampler, student_sampler
from fewstep.testing.analytic import Exact, GaussianTeacher
from fewstep_audio.comospeech.prior import Around, PriorFit, around
from fewstep_audio.networks import MelNetwork

VARIANCE = torch.logspace(-3, 0, 7, dtype=torch.float64)
MEAN = torch.linspace(-1, 1, 7, dtype=torch.float64)
SHIFTS = (0.0, 0.7)
LOW, HIGH = 0.002, 80.0
SOLVERS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "euler": (euler, pair_solvers.euler),
    "heun": (heun, pair_solvers.heun),
}


def noisy(shift: float, low: float = LOW, high: float = HIGH) -> Gaussian:
    """The paper's levels, noise of mean ``shift``."""
    plain = edm(sigma_min=low, sigma_max=high)
    if not shift:
        return plain
    same = {one.name: getattr(plain, one.name) for one in fields(Gaussian)}
    return Around(**same, mean=lambda cond, dtype: torch.full((1, 7), shift, dtype=dtype))


class Teacher(GaussianTeacher):
    """E[x0 | x] when the noise has mean u: that of the unshifted state x - sigma u."""

    def __init__(self, shift: float, **levels: float) -> None:
        super().__init__(noisy(shift, **levels), MEAN, VARIANCE.sqrt())
        self.shift = shift

    def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        return super().believe(xt - spread(t, xt) * self.shift, t, cond)

    def exact(self, xt: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Where the flow leads from t to s."""
        here, there = spread(t, xt), spread(s, xt)
        return self.flow_map(xt - here * self.shift, t, s) + there * self.shift


class Jump(Exact):
    """A student that is the exact map, at every level."""

    def __init__(self, teacher: Teacher) -> None:
        super().__init__(teacher.process)
        self.teacher = teacher

    def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        return self.teacher.exact(xt, t, torch.full_like(t, self.process.t_min))


class Gains(Exact):
    """A student with a gain for each level and direction, as maps between Gaussians have; the identity at the end.

    Gains are kept in units of what they meet, sqrt(lambda + sigma^2), so that gradient descent contracts all alike.
    """

    def __init__(self, teacher: Teacher, steps: int) -> None:
        super().__init__(teacher.process)
        self.shift = teacher.shift
        self.register_buffer("levels", teacher.process.grid(steps))
        self.register_buffer("met", (VARIANCE + self.levels[:-1, None].square()).sqrt())
        self.gain = nn.Parameter(VARIANCE / self.met)  # the teacher's own

    levels: Tensor
    met: Tensor

    def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        which = (self.levels[None] - t[:, None]).abs().argmin(1)
        gain = torch.cat([self.gain / self.met, torch.ones(1, 7, dtype=torch.float64)])[which]
        return MEAN + LOW * self.shift + gain * (xt - MEAN - t[:, None] * self.shift)


def factor(kind: str, steps: int) -> Tensor:
    """By how much the solver scales each direction from the noisiest level to the cleanest, by hand."""
    times = noisy(0.0).grid(steps)
    total = torch.ones_like(VARIANCE)
    for t, s in itertools.pairwise(times):
        slope = t / (VARIANCE + t**2)
        ahead = (1 + (s - t) * slope) * s / (VARIANCE + s**2)
        total = total * (1 + (s - t) * (slope if kind == "euler" else (slope + ahead) / 2))
    return total


EXACT = ((VARIANCE + LOW**2) / (VARIANCE + HIGH**2)).sqrt()


def drawn(sampler: Sampler, model: Any, rows: int = 4000) -> tuple[Tensor, Tensor]:
    """Samples (rows, 7), and the noises (rows, 7) that they began with."""
    batch, key = Batch(torch.zeros(rows, 7, dtype=torch.float64)), Key(3)
    *_, last = sampler.fn({"model": model}, batch, Step.inference(key))
    return last.x, model.process.noise(batch, key.at("noise"))


@pytest.mark.parametrize(
    ("kind", "steps", "worst", "best"),
    [
        ("euler", 50, 0.080, 0.050),
        ("heun", 17, 0.129, 0.045),
        ("heun", 39, 0.022, 0.008),
        ("euler", 4, 0.759, 0.460),
    ],
)
@pytest.mark.parametrize("shift", SHIFTS)
def test_the_error_of_a_solver_is_a_product_of_factors_whatever_the_mean_of_the_noise(
    kind: str, steps: int, worst: float, best: float, shift: float
) -> None:
    error = (factor(kind, steps) / EXACT - 1).abs()
    assert (float(error.max()), float(error.min())) == (
        pytest.approx(worst, abs=6e-4),
        pytest.approx(best, abs=6e-4),
    )
    teacher = Teacher(shift)
    x, noise = drawn(solver_sampler("model", SOLVERS[kind][0], steps), teacher, 16)
    # The sampler ends with a clean estimate at the last level: one more gain, and the level's own mean of noise is gone.
    clean = VARIANCE / (VARIANCE + LOW**2)
    begun = HIGH * noise - MEAN - HIGH * shift
    torch.testing.assert_close(x, MEAN + clean * factor(kind, steps) * begun, atol=1e-9, rtol=0)


@pytest.mark.parametrize("shift", SHIFTS)
def test_euler_shrinks_and_heun_inflates(shift: float) -> None:
    ratios = {
        name: drawn(solver_sampler("model", SOLVERS[kind][0], steps), Teacher(shift))[0].var(0) / VARIANCE
        for name, kind, steps in (("shrinks", "euler", 50), ("inflates", "heun", 17), ("nearly", "heun", 39))
    }
    ends = {name: (float(ratio.min()), float(ratio.max())) for name, ratio in ratios.items()}
    assert ends["shrinks"] == (pytest.approx(0.85, abs=0.05), pytest.approx(0.90, abs=0.05))
    assert ends["inflates"] == (pytest.approx(1.08, abs=0.05), pytest.approx(1.28, abs=0.07))
    assert ends["nearly"] == (pytest.approx(1.01, abs=0.05), pytest.approx(1.05, abs=0.05))


@pytest.mark.parametrize("shift", SHIFTS)
def test_one_call_of_the_exact_map_has_the_laws_variance_and_one_call_of_the_teacher_none(
    shift: float,
) -> None:
    teacher = Teacher(shift)
    blurred, _ = drawn(one_call_sampler("model"), teacher, 20_000)
    sharp, _ = drawn(one_call_sampler("model"), Jump(teacher), 20_000)
    torch.testing.assert_close(sharp.var(0) / VARIANCE, torch.ones(7).double(), atol=0.04, rtol=0)
    torch.testing.assert_close(sharp.mean(0), MEAN + LOW * shift, atol=0.03, rtol=0)
    left = blurred.var(0) / VARIANCE
    torch.testing.assert_close(left, VARIANCE / HIGH**2, rtol=0.05, atol=0)
    assert (float(left.min()), float(left.max())) == (
        pytest.approx(1.6e-7, rel=0.1),
        pytest.approx(1.6e-4, rel=0.1),
    )


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("steps", [2, 4])
def test_steps_of_the_exact_map_keep_the_law(steps: int, shift: float) -> None:
    x, _ = drawn(student_sampler("model"), _walker(Jump(Teacher(shift)), steps), 20_000)
    torch.testing.assert_close(x.var(0) / VARIANCE, torch.ones(7).double(), atol=0.04, rtol=0)
    assert float(((x.mean(0) - MEAN) / VARIANCE.sqrt()).abs().max()) < 0.1


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_steps_begin_at_the_levels_of_the_papers_grid(steps: int) -> None:
    student = FewStep(nn.Identity(), edm(), "x0", (HIGH,))
    ends = HIGH ** (1 / 7), LOW ** (1 / 7)
    told = [(ends[0] + i / steps * (ends[1] - ends[0])) ** 7 for i in range(steps)]
    assert student.schedule(steps) == pytest.approx(told)
    # The released code adds sqrt(tau^2 - sigma_min^2) of fresh noise, we add tau: the difference is far below a decibel.
    assert all(1 - (1 - (LOW / tau) ** 2) ** 0.5 < 1e-4 for tau in told)


def test_fresh_noise_without_the_shift_moves_the_mean_by_as_many_standard_deviations() -> None:
    walker = _walker(Jump(Teacher(0.7)), 2)
    walker.renoises = noisy(0.0)  # what a sampler does that forgets the prior between two steps
    x, _ = drawn(student_sampler("model"), walker, 20_000)
    torch.testing.assert_close(
        (x.mean(0) - MEAN) / VARIANCE.sqrt(), torch.full((7,), -0.7).double(), atol=0.1, rtol=0
    )


class _Walker(FewStep):
    """A few-step student whose estimates come from a formula."""

    renoises: Any = None

    def __init__(self, model: Exact, times: tuple[float, ...]) -> None:
        super().__init__(nn.Identity(), model.process, "x0", times)
        object.__setattr__(self, "model", model)

    def forward(self, xt: Any, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
        return self.model(xt, t, cond)

    def _next(self, process: Any, batch: Batch, x: Any, est: Estimate, t: Tensor, s: Tensor, key: Key) -> Any:
        return super()._next(self.renoises or process, batch, x, est, t, s, key)


def _walker(model: Exact, steps: int) -> _Walker:
    return _Walker(model, tuple(model.process.grid(steps)[:-1].tolist()))


def exactly(teacher: Teacher) -> Callable[..., Tensor]:
    """A solver without error."""
    return lambda process, believe, xt, t, s, draw: teacher.exact(xt, t, s)


def data(rows: int, key: Key) -> Batch:
    x = MEAN + VARIANCE.sqrt() * key.normal(torch.zeros(rows, 7, dtype=torch.float64))
    return Batch(x, x)


@pytest.mark.parametrize("shift", SHIFTS)
def test_the_loss_vanishes_at_the_exact_map_of_an_exact_solver_and_nowhere_else(shift: float) -> None:
    teacher = Teacher(shift)
    batch, step = data(64, Key(1)), Step(0, 1, Key(2))
    phase = Consistency().phases(0)[0]
    for solver, student, low, high in (
        (exactly(teacher), Jump(teacher), 0.0, 1e-24),
        (pair_solvers.euler, Jump(teacher), 1e-6, 1.0),  # a solver that errs
        (exactly(teacher), teacher, 1e-6, 1.0),  # a student that has learned nothing
    ):
        roles = {"teacher": teacher, "student": student, "target": student}
        loss = Consistency(GridPairs(17), solver).loss(phase, roles, batch, step)
        assert low <= float(loss.total) <= high


@pytest.mark.parametrize(("kind", "steps"), [("euler", 4), ("heun", 17)])
@pytest.mark.parametrize("shift", SHIFTS)
def test_a_distilled_student_reaches_the_composition_of_the_solvers_steps_and_not_the_exact_map(
    kind: str, steps: int, shift: float
) -> None:
    teacher = Teacher(shift)
    student = Gains(teacher, steps)
    objective = Consistency(GridPairs(steps), SOLVERS[kind][1], target=None)
    optimizer = torch.optim.SGD(
        student.parameters(), lr=7 * steps / 3
    )  # 2/3 of the way to the target at every visit
    roles = {"teacher": teacher, "student": student}
    for i in range(12 * steps):
        key = Key(5).at(i)
        batch, step = data(256, key.at("data")), Step(i, 1, key)
        optimizer.zero_grad()
        objective.loss(objective.phases(i)[0], roles, batch, step).total.backward()
        optimizer.step()
    reached = (student.gain / student.met)[0].detach()
    composed = factor(kind, steps)
    assert float((reached / composed - 1).abs().max()) < 0.01
    # The two numbers differ by the solver's own error, which the student has inherited.
    inherited = (reached / EXACT - 1).abs()
    assert float((inherited - (composed / EXACT - 1).abs()).abs().max()) < 0.012
    assert float(inherited.min()) > 0.03


def test_a_student_begins_as_its_teacher_with_either_prior() -> None:
    x, time = Key(1).normal(torch.zeros(2, 8, 5)), torch.tensor([0.3, 9.0]).double()
    for predicts in (False, True):
        teacher = _denoiser(predicts)
        net = teacher.net.copied(lands=False)
        student = FewStep(net, around(edm(), net), "boundary", (80.0,))
        assert torch.equal(student(x, time, _cond()).x0, teacher(x, time, _cond()).x0)
        torch.testing.assert_close(
            student(x, torch.full((2,), 0.002).double(), _cond()).x0, x, atol=1e-6, rtol=0
        )


def test_noise_is_around_what_the_encoder_expects_in_every_copy() -> None:
    teacher = _denoiser(True)
    batch, key = Batch(torch.zeros(2, 8, 5), cond=_cond()), Key(4)
    plain = edm().noise(batch, key)
    mu = teacher.net.mu(batch.cond, torch.float32)
    assert bool((mu != 0).all())
    torch.testing.assert_close(teacher.process.noise(batch, key), plain + mu)
    masked = replace(
        batch, cond=replace(batch.cond, mask=torch.tensor([True, True, True, False, False])[None, None])
    )
    assert float(teacher.process.on(masked.mask).noise(masked, key)[..., 3:].abs().max()) == 0
    assert not teacher.process.noise(batch, key).requires_grad
    other = copy.deepcopy(teacher)
    nn.init.zeros_(other.net.expected.weight)
    nn.init.zeros_(other.net.expected.bias)
    assert torch.equal(other.process.noise(batch, key), plain)
    torch.testing.assert_close(teacher.process.noise(batch, key), plain + mu)


def test_a_process_is_described_without_the_network_that_tells_its_mean() -> None:
    described = repr(_denoiser(True).process)
    assert described.startswith("Around(law=")
    assert "Conv1d" not in described


def test_the_encoder_learns_the_mean_of_what_it_is_asked_for() -> None:
    teacher, fit = _denoiser(True), PriorFit()
    x = Key(6).normal(torch.zeros(2, 8, 5))
    batch = Batch(x, x, _cond())
    loss = fit.loss(fit.phases(0)[0], {"teacher": teacher}, batch, Step(0, 1, Key(0))).total
    torch.testing.assert_close(loss, 0.5 * (teacher.net.mu(batch.cond, x.dtype) - x).square().mean())
    loss.backward()
    assert float(teacher.net.encoder.weight.grad.abs().max()) > 0
    assert teacher.net.decoder.inner.weight.grad is None


@pytest.mark.parametrize("what", ["transition", "posterior", "sde"])
def test_steps_that_draw_a_part_of_the_noise_anew_are_refused_around_mu(what: str) -> None:
    process, x, t = noisy(0.7), torch.zeros(2, 7), torch.ones(2).double()
    calls = {
        "transition": lambda: process.corrupt(x, x, 2 * t, since=t),
        "posterior": lambda: process.posterior(x, Estimate(x), 2 * t, t, x),
        "sde": lambda: process.stochastic_jump(x, Estimate(x), 2 * t, t, x, 1.0),
    }
    with pytest.raises(ValueError, match=r"noise\.prior=zero"):
        calls[what]()


class _Seen(nn.Linear):
    """An encoder of two numbers a frame: any module that maps a condition to (B, C, T) will do."""

    def forward(self, cond: Cond, dtype: torch.dtype) -> Tensor:  # type: ignore[override]
        return super().forward(cond.data["seen"].to(dtype)).transpose(1, 2)


def _cond() -> Cond:
    return Cond({"seen": Key(8).normal(torch.zeros(2, 5, 2))})


def _denoiser(predicts: bool) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = MelNetwork(8, 16, (1, 2), encoder=_Seen(2, 16), predicts=predicts)
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=0.2)
    return Denoiser(net, around(edm(), net), "boundary")
