"""Tools of inference: hand-over from teacher to student, stacks of beliefs, routes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewstep.errors import FewstepError
from fewstep.processes import Gaussian, Masked, edm, flow, vp
from fewstep.protocol import Batch, Cond, Denoiser, Estimate, Guided, Key, Sample, Step
from fewstep.samplers import (
    FewStep,
    FewStepTokens,
    Sde,
    Sharpened,
    at_noise_scale,
    ddim,
    heun,
    hybrid_sampler,
    prediction_stack,
    router_sampler,
    solver_sampler,
    student_sampler,
)
from fewstep.testing.analytic import CovarianceTeacher, GaussianTeacher, MixtureTeacher, ar1_covariance
from fewstep.testing.exact import Exact

MEAN, STD = 0.7, 0.6
STEP = Step.inference(Key(2))


class Collapsing(FewStep):
    """The exact flow map of N(mu, s^2), except that its first step shrinks spreads by kappa."""

    def __init__(self, process: Gaussian, times: tuple[float, ...], kappa: float) -> None:
        super().__init__(nn.Identity(), process, "x0", times, rule="ddim")
        self.kappa = kappa

    def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
        known = GaussianTeacher(self.process, MEAN, STD)
        i = [abs(float(t[0]) - u) < 1e-9 for u in self.times].index(True)
        last = i + 1 == len(self.times)
        s = torch.full_like(t, self.process.t_min if last else self.times[i + 1])
        there = known.flow_map(xt, t, s)
        if i == 0:
            middle = self.process.alpha(s)[:, None] * MEAN
            there = middle + self.kappa * (there - middle)
        if last:
            # Clean: the flow ends where the spread is that of the data.
            return Estimate(MEAN + (there - MEAN) * STD / known.variance(s, there).sqrt())
        return Estimate(self._behind(xt, t, there, s))

    def _behind(self, xt: Tensor, t: Tensor, there: Tensor, s: Tensor) -> Tensor:
        """The estimate for which DDIM leads there."""
        process = self.process
        kept = process.sigma(s) / process.sigma(t)
        return (there - kept[:, None] * xt) / (process.alpha(s) - kept * process.alpha(t))[:, None]


def spread(sampler: Any, roles: Any, count: int = 20_000) -> float:
    batch = Batch(like=torch.zeros(count, 1, dtype=torch.float64))
    return float(list(sampler.fn(roles, batch, STEP))[-1].x.var())


OWN: dict[str, tuple[Gaussian, tuple[float, float]]] = {
    "the same": (edm(), (80.0, 2.0)),
    "straight": (flow(), (1.0, 2 / 3)),
    "preserving": (vp(), (1.0, 0.5)),
}


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("kappa", [0.3, 0.7])
def test_a_student_that_collapses_in_its_first_step_gets_the_teachers_diversity(
    kind: str, kappa: float
) -> None:
    """Variance ratio kappa^2 alone, 1 with the teacher before, on whatever process the student lives."""
    process, times = OWN[kind]
    teacher = GaussianTeacher(edm(), MEAN, STD)
    roles = {"teacher": teacher, "student": Collapsing(process, times, kappa)}
    alone = spread(student_sampler(), roles) / STD**2
    hybrid = spread(hybrid_sampler(solver=heun, steps=40), roles) / STD**2
    assert alone == pytest.approx(kappa**2, rel=0.03)
    assert hybrid == pytest.approx(1.0, rel=0.03)


def test_states_are_handed_over_at_equal_noise_not_at_equal_index() -> None:
    student = Collapsing(flow(), (1.0, 2 / 3, 0.2), 1.0)
    roles = {"teacher": GaussianTeacher(edm(), MEAN, STD), "student": student}
    batch = Batch(like=torch.zeros(4, 1, dtype=torch.float64))
    states = list(hybrid_sampler(steps=12).fn(roles, batch, STEP))
    taught = [s for s in states if float(s.t[0]) > 1]
    given, above = states[len(taught)], edm().grid(12)
    assert torch.tensor([s.t[0] for s in taught]).tolist() == above[above > 2.0][1:].tolist(), (
        "and 2 only once"
    )
    assert float(given.t[0]) == pytest.approx(2 / 3)
    start, end = taught[-1], torch.full_like(taught[-1].t, 2.0)
    there = edm().jump(start.x, roles["teacher"](start.x, start.t), start.t, end)
    assert torch.allclose(given.x, there / 3), "sigma / alpha = 2 on both processes"
    assert [float(s.t[0]) for s in states[len(taught) :]] == pytest.approx([2 / 3, 0.2, 0.0])


def test_the_teacher_is_called_above_the_hand_over_only_and_may_be_guided() -> None:
    calls: list[float] = []

    class Counted(GaussianTeacher):
        def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
            calls.append(float(t[0]))
            return super().believe(xt, t, cond)

    base = Counted(edm(), MEAN, STD)
    roles = {"teacher": Guided(base, 2.0, lambda cond: cond), "student": Collapsing(edm(), (80.0, 2.0), 1.0)}
    batch = Batch(like=torch.zeros(2, 1, dtype=torch.float64))
    list(hybrid_sampler(solver=ddim, steps=18).fn(roles, batch, STEP))
    above = [float(t) for t in edm().grid(18) if float(t) > 2.0]
    assert calls == pytest.approx([t for t in above for _ in range(2)])


@pytest.mark.parametrize("first", [0, 2])
def test_a_hand_over_that_the_student_does_not_know_is_refused(first: int) -> None:
    roles = {"teacher": GaussianTeacher(edm(), 0, 1), "student": Collapsing(edm(), (80.0, 2.0), 1.0)}
    batch = Batch(like=torch.zeros(2, 1, dtype=torch.float64))
    with pytest.raises(ValueError, match="cannot begin at its step"):
        list(hybrid_sampler(first=first).fn(roles, batch, STEP))


class Half(nn.Module):
    """A network without parameters."""

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        return 0.5 * x


def test_a_student_resumes_the_roll_that_it_would_have_made() -> None:
    student = FewStep(Half(), edm(), "edm", (80.0, 5.0, 1.0))
    batch = Batch(like=torch.zeros(3, 2, dtype=torch.float64))
    whole = student.sample(batch, STEP)
    rest = student.resume(batch, STEP, whole.path[1].x, 1)
    assert torch.equal(rest.x, whole.x)
    assert rest.cond.index is not None
    assert rest.cond.index.tolist() == [2, 2, 2]


TEACHERS: dict[str, Exact] = {
    "diagonal": GaussianTeacher(edm(), torch.tensor([0.7, -0.3, 0.0]), torch.tensor([0.6, 0.2, 1.1])),
    "correlated": CovarianceTeacher(edm(), ar1_covariance(3, 0.8, 0.5)),
    "mixture": MixtureTeacher(
        edm(), torch.tensor([0.3, 0.7]), torch.tensor([[-2.0, 0, 1], [1.5, 1, 0]]), torch.tensor([0.5, 0.4])
    ),
}


@pytest.mark.parametrize("name", TEACHERS)
@pytest.mark.parametrize(("solver", "rows"), [(ddim, 9), (heun, 9)])
def test_a_stack_holds_the_belief_at_every_point_of_the_trajectory(name: str, solver: Any, rows: int) -> None:
    teacher = TEACHERS[name]
    x = 80.0 * Key(3).normal(torch.zeros(4, 3, dtype=torch.float64))
    grid = edm().grid(8)
    states = list(solver(teacher, x, grid, Cond(), key=Key(0)))
    stack = prediction_stack(states)
    assert stack.shape == (rows, 4, 3)
    points = [x, *(state.x for state in states[:-1])]
    for believed, point, t in zip(stack, points, grid, strict=True):
        assert torch.allclose(believed, teacher(point, t.expand(4)).x0, atol=1e-12)
    assert torch.equal(stack[-1], states[-1].x)
    assert not torch.allclose(stack[0], stack[-1], atol=0.1), "beliefs move"


def test_a_stack_of_a_mixture_begins_at_its_mean_and_ends_in_a_mode() -> None:
    teacher = MixtureTeacher(
        edm(), torch.tensor([0.3, 0.7]), torch.tensor([[-2.0], [1.5]]), torch.tensor([0.05, 0.05])
    )
    x = 80.0 * torch.linspace(-2, 2, 9, dtype=torch.float64).unsqueeze(1)
    stack = prediction_stack(solver_states(teacher, x))
    assert torch.allclose(stack[0], torch.tensor(0.45).double(), atol=0.25)
    modes = torch.tensor([-2.0, 1.5], dtype=torch.float64)
    assert float((stack[-1] - modes).abs().amin(1).max()) < 0.25


def solver_states(teacher: Any, x: Tensor) -> Any:
    return heun(teacher, x, edm().grid(18), Cond())


def test_a_students_path_and_a_contender_can_be_stacked_and_nothing_cannot() -> None:
    student = Collapsing(edm(), (80.0, 2.0), 1.0)
    batch = Batch(like=torch.zeros(4, 1, dtype=torch.float64))
    assert prediction_stack(student.sample(batch, STEP).path).shape == (2, 4, 1)
    roles = {"teacher": GaussianTeacher(edm(), MEAN, STD)}
    assert prediction_stack(solver_sampler("teacher", ddim, 5).fn(roles, batch, STEP)).shape == (6, 4, 1)
    with pytest.raises(ValueError, match="no state"):
        prediction_stack(())


# --- routes -----------------------------------------------------------------------------------------------------------


class Named(nn.Module):
    """Adds its number to the noise, and remembers how many rows it was given."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number
        self.process = edm()
        self.served: list[int] = []

    def sample(self, batch: Batch, step: Step, *, noise: Any = None, steps: int | None = None) -> Sample:
        self.served.append(len(batch.like))
        assert bool((batch.cond.data == self.number).all())
        return Sample(noise + 100 * self.number, batch.cond)

    generate = sample


def test_each_row_is_served_by_its_student_in_its_place_and_each_student_once() -> None:
    students = {f"s/{i}": Named(i) for i in range(3)}
    labels = torch.tensor([2, 0, 2, 2, 0])
    batch = Batch(like=torch.zeros(5, 2, dtype=torch.float64), cond=Cond(labels))
    sampler = router_sampler(lambda cond: cond.data, tuple(students))
    (state,) = sampler.fn(students, batch, STEP)
    noise = edm().noise(batch, STEP.key.at("noise"))
    assert torch.equal(state.x, noise + 100 * labels.double().unsqueeze(1))
    assert [student.served for student in students.values()] == [[2], [], [3]]
    assert sampler.roles == ("s/0", "s/1", "s/2")


def test_a_route_to_nobody_is_refused() -> None:
    batch = Batch(like=torch.zeros(2, 1), cond=Cond(torch.tensor([0, 3])))
    with pytest.raises(ValueError, match=r"names students \[0, 3\]"):
        list(router_sampler(lambda cond: cond.data, ("only",)).fn({"only": Named(0)}, batch, STEP))


def test_routes_pass_the_number_of_steps_on() -> None:
    class Asked(Named):
        def sample(self, batch: Batch, step: Step, *, noise: Any = None, steps: int | None = None) -> Sample:
            self.served.append(steps or 0)
            return Sample(noise, batch.cond)

    student = Asked(0)
    sampler = router_sampler(lambda cond: cond.data, ("only",))
    assert sampler.with_steps is not None
    batch = Batch(like=torch.zeros(2, 1), cond=Cond(torch.zeros(2, dtype=torch.int64)))
    list(sampler.with_steps(3).fn({"only": student}, batch, STEP))
    assert student.served == [3]


# --- asking a student -------------------------------------------------------------------------------------------------


class Mapping(nn.Module):
    """Says the flow map of N(0, s^2) as the x0 for which DDIM leads there, and remembers what it was told."""

    accepts = frozenset({"to", "guidance"})

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []

    def forward(self, x: Tensor, time: Tensor, cond: Cond, to: Any = None, guidance: Any = None) -> Tensor:
        self.told.append((to, guidance, cond.index))
        t = (4 * time.double()).exp()
        s = (4 * to.double()).exp() if to is not None else None
        state = x * (t.square() + edm().sigma_data ** 2).sqrt().unsqueeze(1)
        if s is None:
            return state * (STD**2 / (STD**2 + t.square())).unsqueeze(1)
        ratio = ((STD**2 + s.square()) / (STD**2 + t.square())).sqrt().unsqueeze(1)
        kept = (s / t).unsqueeze(1)
        return (ratio - kept) * state / (1 - kept)


@pytest.mark.parametrize("rule", ["renoise", "flow"])
def test_a_student_is_asked_as_it_asks_itself(rule: Any) -> None:
    student = FewStep(Mapping(), edm(), "x0", (80.0, 2.0), rule=rule, guidance=3.0)
    batch = Batch(like=torch.zeros(3, 2, dtype=torch.float64))
    sample = student.sample(batch, STEP)
    last = student.ask(sample.path[1].x, torch.ones(3, dtype=torch.int64), batch.cond)
    assert torch.allclose(last.x0, sample.x, atol=1e-12)
    rolled, asked = student.net.told[1], student.net.told[2]
    for a, b in zip(rolled, asked, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)
    assert asked[1].tolist() == [3.0] * 3


def test_a_noise_scale_multiplies_the_samples_of_linear_networks_and_is_off_by_default() -> None:
    net = GaussianNet()
    roles = {"teacher": Denoiser(net, flow(), "x0"), "student": FewStep(net, flow(), "x0", (0.9, 0.4))}
    batch = Batch(like=torch.zeros(5, 3))
    colder = replace(batch, extra={"noise_scale": 0.5})
    for sampler in (
        student_sampler(),
        solver_sampler("teacher", ddim, 4),
        solver_sampler("teacher", Sde(), 4),
    ):
        full, cold, named = (
            last(sampler.fn(roles, batch, STEP)),
            last(sampler.fn(roles, colder, STEP)),
            last(at_noise_scale(sampler, 0.5).fn(roles, batch, STEP)),
        )
        torch.testing.assert_close(cold, 0.5 * full)
        torch.testing.assert_close(named, cold)
    assert roles["student"].process.noise_scale == 1.0


def test_a_process_without_a_noise_scale_says_so() -> None:
    roles = {"student": FewStepTokens(TokenNet(), Masked(4), "logits", 2)}
    batch = Batch(like=torch.zeros(2, 3, dtype=torch.int64), extra={"noise_scale": 0.5})
    with pytest.raises(FewstepError, match="noise scale"):
        list(student_sampler().fn(roles, batch, STEP))


class GaussianNet(nn.Module):
    """Any network that is linear in the state."""

    def forward(self, x: Tensor, t: Tensor, cond: Cond) -> Tensor:
        return 0.3 * x


class TokenNet(nn.Module):
    """All tokens alike."""

    def forward(self, x: Tensor, t: Tensor, cond: Cond) -> Tensor:
        return torch.zeros(*x.shape, 4)


def last(states: Any) -> Tensor:
    *_, end = states
    return end.x


@pytest.mark.parametrize("sharpness", [1.0, 3.0])
def test_sharpened_beliefs_are_powers_of_the_beliefs(sharpness: float) -> None:
    believed = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)

    class Fixed(nn.Module):
        def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
            return believed.log().expand(*x.shape, 3)

    model = Denoiser(Fixed(), Masked(3), "logits")
    hidden = torch.full((2, 4), 3)
    found = Sharpened(model, sharpness)(hidden, torch.ones(2, dtype=torch.float64), Cond()).x0.softmax(-1)
    expected = believed**sharpness / (believed**sharpness).sum()
    torch.testing.assert_close(found, expected.expand(2, 4, 3))
    assert Sharpened(model, sharpness).process is model.process
