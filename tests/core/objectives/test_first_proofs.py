"""The protocol carries what its hardest users need: two judges, second diffusions, preferences, parameters as samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from objective_toys import ANGLE, MEAN, STD, At, Listed, duel, four_points, student_loss
from torch import Tensor, nn

from fewstep.objectives import (
    Consistency,
    DensityRatio,
    Segment,
    SiD,
    diff_instruct,
    dmd,
    fresh,
    sds,
    segment_ends,
)
from fewstep.objectives.critic import fake_loss
from fewstep.objectives.ratios import forward_kl
from fewstep.objectives.weights import one
from fewstep.processes import Gaussian, edm, flow
from fewstep.protocol import (
    Batch,
    Cond,
    Denoiser,
    Estimate,
    Euclidean,
    Flow,
    Key,
    Loss,
    Mix,
    Phase,
    Role,
    Roles,
    Sample,
    Step,
    Stochastic,
    Student,
    pathwise,
    spread,
)
from fewstep.samplers import FewStep
from fewstep.testing.analytic import GaussianTeacher, ProjectedTeacher, project_points
from fewstep.testing.exact import Exact
from fewstep.testing.linear import LinearFake, LinearStudent


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_inner_product_has_the_gradient_of_the_quadratic_form(reduction: Any) -> None:
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]], dtype=torch.bool)
    geometry = Euclidean(reduction).on(mask)
    x = Key(0).normal(torch.zeros(2, 3, dtype=torch.float64)).requires_grad_()
    direction = geometry.project(Key(1).normal(torch.zeros(2, 3, dtype=torch.float64)))
    weight = torch.tensor([0.5, 2.0], dtype=torch.float64)
    (inner,) = torch.autograd.grad(pathwise(Sample(x), direction, geometry, weight), x)
    aim = (x - spread(weight, x) * direction).detach()
    (square,) = torch.autograd.grad(0.5 * geometry.reduce((x - aim).square()).mean(), x)
    assert float((inner - square).abs().max()) < 1e-15


# --- two teachers on different processes --------------------------------------------------------------------------


def test_two_teachers_on_different_processes_agree_on_one_student() -> None:
    student = LinearStudent(edm(), 0.2, 0.0)
    roles: dict[str, Any] = {"student": student}
    terms = {}
    for name, process, time in (("fine", edm(), 0.5), ("straight", flow(), 0.4)):
        roles |= {
            f"{name}_teacher": GaussianTeacher(process, MEAN, STD),
            f"{name}_fake": LinearFake(process, student),
        }
        first = name == "fine"
        term = dmd(At(time), teacher=f"{name}_teacher", fake=f"{name}_fake", from_teacher=first)
        terms[name] = (1.0, term)
    mix = Mix(terms)
    assert set(mix.roles) == set(roles)
    assert mix.roles["student"].init == "fine_teacher"
    assert mix.phases(0)[0].updates == ("fine_fake", "straight_fake")
    batch, _ = four_points()
    key = Listed(0, values={"sample": batch.like, "judge": four_points()[1].values["judge"]})
    optimizer = torch.optim.Adam(student.parameters(), lr=0.05)
    for i in range(400):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - i / 400) ** 2 + 1e-7
        optimizer.zero_grad()
        student_loss(mix, roles, batch, key).total.backward()
        optimizer.step()
    assert (float(student.gain.detach()), float(student.shift.detach())) == pytest.approx(
        (STD, MEAN), abs=1e-5
    )


def test_mixing_two_beginnings_of_one_student_is_refused() -> None:
    two = {name: (1.0, dmd(At(1.0), teacher=name, fake=f"{name}_fake")) for name in ("one", "other")}
    with pytest.raises(ValueError, match="student"):
        Mix(two)


def test_consistency_and_matching_mix_over_one_student() -> None:
    mix = Mix({"consistency": (100.0, Consistency(target=None)), "matching": (1.0, dmd(At(1.0)))})
    assert mix.roles["student"] == Role(Student, init="teacher", process=Flow)
    assert [phase.name for phase in mix.phases(0)] == ["critic", "student"]


# --- trajectory matching through `since` --------------------------------------------------------------------------

TIMES = (10.0, 1.0)


class Gains(FewStep):
    """x0 = gain_k x in step k."""

    def __init__(self, process: Gaussian, gains: Sequence[float]) -> None:
        super().__init__(nn.Identity(), process, "x0", TIMES, rule="ddim", pick="random")
        self.gains = nn.Parameter(torch.tensor(gains, dtype=torch.float64))

    def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
        if cond is None or cond.index is None:
            raise ValueError("this student must know its step")
        return Estimate(spread(self.gains[cond.index], xt) * xt)


class PathFake(Exact):
    """The exact denoiser of the student's own path, diffused on from the end of each segment."""

    def __init__(self, process: Gaussian, student: Gains) -> None:
        super().__init__(process)
        object.__setattr__(self, "student", student)

    student: Gains

    def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        ends = torch.tensor(segment_ends(TIMES, self.process), dtype=torch.float64)[cond.index]
        variance = t.square() - ends.square() + self.path_variances()[cond.index]
        return xt * spread(1 - t.square() / variance, xt)

    def path_variances(self) -> Tensor:
        """Of the state at the end of each segment."""
        gains, variance, found = self.student.gains.detach(), TIMES[0] ** 2, []
        for gain, start, end in zip(gains, TIMES, segment_ends(TIMES, self.process), strict=True):
            variance = variance * float((1 - end / start) * gain + end / start) ** 2
            found.append(variance)
        return torch.tensor(found, dtype=torch.float64)


def exact_gains(process: Gaussian) -> list[float]:
    """The gains for which the path has the teacher's marginals (the first state is the prior N(0, t_1^2))."""
    found, variance = [], TIMES[0] ** 2
    for start, end in zip(TIMES, segment_ends(TIMES, process), strict=True):
        kept, wanted = end / start, STD**2 + end**2
        found.append(((wanted / variance) ** 0.5 - kept) / (1 - kept))
        variance = wanted
    return found


def path_roles(gains: Sequence[float]) -> dict[str, Any]:
    process = edm(sigma_max=10.0)
    student = Gains(process, gains)
    return {
        "teacher": GaussianTeacher(process, 0.0, STD),
        "student": student,
        "fake": PathFake(process, student),
    }


def trajectory_matching(process: Gaussian) -> Any:
    return diff_instruct(At(1.0), corruption=Segment(segment_ends(TIMES, process), rho=3.0), weight=one)


def test_trajectory_matching_stands_still_where_path_marginals_agree() -> None:
    process = edm(sigma_max=10.0)
    batch = Batch(like=torch.zeros(32, 1, dtype=torch.float64))

    def slope(gains: Sequence[float]) -> float:
        roles = path_roles(gains)
        found = []
        for i in range(8):
            total = student_loss(trajectory_matching(process), roles, batch, Key(i)).total
            found.append(torch.autograd.grad(total, [roles["student"].gains])[0].abs().max())
        return float(torch.stack(found).max())

    right = exact_gains(process)
    assert slope(right) < 1e-12
    assert slope([1.05 * g for g in right]) > 1e-4


def test_trajectory_matching_descends_to_the_path_of_the_teacher() -> None:
    process = edm(sigma_max=10.0)
    roles = path_roles([0.02, 0.5])
    gains = roles["student"].gains
    scale = torch.tensor(exact_gains(process), dtype=torch.float64)
    batch = Batch(like=torch.zeros(64, 1, dtype=torch.float64))
    for i in range(400):
        total = student_loss(trajectory_matching(process), roles, batch, Key(3).at(i)).total
        (slope,) = torch.autograd.grad(total, [gains])
        with torch.no_grad():
            # steps in proportion to 1 / E[x^2] of each step's own input
            gains -= 0.5 * slope / torch.tensor([TIMES[0] ** 2, STD**2 + 1], dtype=torch.float64)
    assert torch.allclose(gains.detach(), scale, rtol=1e-3)


def test_the_fake_of_a_second_diffusion_regresses_the_score_of_the_path() -> None:
    roles = path_roles([0.05, 0.4])
    process = roles["teacher"].process
    batch = Batch(like=torch.zeros(200_000, 1, dtype=torch.float64))
    step = Step(0, 10, Key(8))
    sample = roles["student"].generate(batch, step)
    seen = Segment(segment_ends(TIMES, process), rho=3.0)(process, sample, At(1.0), step, Key(9))
    exact = roles["fake"](seen.xt, seen.t, sample.cond).x0
    root = seen.trust.sqrt().unsqueeze(1)
    residual = (root * (seen.target - exact)).detach()
    against = (root * seen.xt / (1 + seen.t.unsqueeze(1))).detach()
    product = (residual * against).squeeze(1)
    error = float(product.std() / len(product) ** 0.5)
    assert abs(float(product.mean())) < 3 * error
    naive = (root * (sample.x - exact)).detach() * against
    assert abs(float(naive.mean())) > 20 * error, "the clean estimate is not the target of this score"


def test_the_loss_of_the_fake_is_least_at_the_exact_fake() -> None:
    roles = path_roles([0.05, 0.4])
    process, batch = roles["teacher"].process, Batch(like=torch.zeros(50_000, 1, dtype=torch.float64))
    sample = roles["student"].generate(batch, Step(0, 10, Key(8)))
    corruption = Segment(segment_ends(TIMES, process), rho=3.0)

    class Scaled(PathFake):
        factor = 1.0

        def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
            return self.factor * super().believe(xt, t, cond)

    fake = Scaled(process, roles["student"])
    losses = []
    for factor in (0.9, 1.0, 1.1):
        fake.factor = factor
        losses.append(float(fake_loss(fake, sample, corruption, At(1.0), one, Step(0, 10, Key(2))).detach()))
    assert losses[1] < min(losses[0], losses[2])


# --- preferences through Stochastic.logp --------------------------------------------------------------------------


class Policy(nn.Module):
    """Draws x ~ N(m, s^2), one step."""

    def __init__(self, mean: float, std: float = STD) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(mean, dtype=torch.float64))
        self.std = std

    def generate(self, batch: Batch, step: Step, **asked: Any) -> Sample:
        x = (self.mean + self.std * step.key.normal(batch.like)).detach()
        sample = Sample(x, batch.cond)
        return Sample(x, batch.cond, logp=self.logp(sample, batch))

    def sample(self, batch: Batch, step: Step, **asked: Any) -> Sample:
        return self.generate(batch, step, **asked)

    def logp(self, sample: Sample, batch: Batch) -> Tensor:
        each: Tensor = -((sample.x - self.mean) ** 2) / (2 * self.std**2)
        return each


@dataclass(frozen=True)
class Preference:
    """Pairwise preference of two rollouts (Rafailov et al. 2023 eq. 7) with Bradley-Terry odds of reward lam x."""

    reward: float
    beta: float

    @property
    def roles(self) -> Mapping[str, Role]:
        return {
            "student": Role(Stochastic, init="reference"),
            "reference": Role(Stochastic, trainable=False),
        }

    @property
    def reads(self) -> frozenset[str]:
        return frozenset()

    def phases(self, index: int) -> Sequence[Phase]:
        return (Phase("student", ("student",)),)

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss:
        student, reference = roles["student"], roles["reference"]
        pair = [student.generate(batch, Step(step.index, step.total, step.key.at(name))) for name in "ab"]
        lead = [student.logp(s, batch).sum(1) - reference.logp(s, batch).sum(1) for s in pair]
        odds = torch.sigmoid(self.reward * (pair[0].x - pair[1].x)).squeeze(1)
        gap = self.beta * (lead[0] - lead[1])
        return Loss(nn.functional.binary_cross_entropy_with_logits(gap, odds))


def test_preferences_are_satisfied_at_the_closed_form_policy() -> None:
    batch = Batch(like=torch.zeros(256, 1, dtype=torch.float64))
    objective, reference = Preference(reward=2.0, beta=5.0), Policy(0.3)
    optimum = 0.3 + 2.0 * STD**2 / 5.0
    assert optimum == pytest.approx(0.444)
    student = Policy(optimum)
    total = student_loss(objective, {"student": student, "reference": reference}, batch, Key(0)).total
    (slope,) = torch.autograd.grad(total, [student.mean])
    assert abs(float(slope)) < 1e-14
    start = Policy(0.3)
    first = student_loss(objective, {"student": start, "reference": reference}, batch, Key(0)).total
    assert float(first.detach()) == pytest.approx(0.6931471805599453, abs=1e-15)
    assert float(torch.autograd.grad(first, [start.mean])[0]) < -0.1
    assert isinstance(start, Stochastic)


# --- a student that is its parameters -----------------------------------------------------------------------------


class Scene(nn.Module):
    """Points (N, 3), shown through a camera of its own choice."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.points = nn.Parameter(torch.zeros(count, 3, dtype=torch.float64))

    def generate(self, batch: Batch, step: Step, **asked: Any) -> Sample:
        like = torch.zeros(batch.like.shape[0], 2, 3, dtype=torch.float64)
        camera = step.key.at("camera").normal(like)
        return Sample(project_points(self.points, camera), Cond(camera))

    def sample(self, batch: Batch, step: Step, **asked: Any) -> Sample:
        return self.generate(batch, step, **asked)


def test_a_scene_moves_to_the_points_whose_views_the_teacher_knows() -> None:
    process = edm()
    points = Key(4).normal(torch.zeros(5, 3, dtype=torch.float64))
    scene = Scene(5)
    roles: dict[str, Any] = {"teacher": ProjectedTeacher(process, points, 0.01), "student": scene}
    batch = Batch(like=torch.zeros(8, 5, 2, dtype=torch.float64))
    optimizer = torch.optim.Adam(scene.parameters(), lr=0.1)
    for i in range(300):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (1 - i / 300)
        optimizer.zero_grad()
        student_loss(sds(At(2.0), weight=one), roles, batch, Key(5).at(i)).total.backward()
        optimizer.step()
    assert float((scene.points.detach() - points).abs().max()) < 0.02
    assert float(points.abs().max()) > 0.5


def test_a_teacher_that_encodes_judges_what_it_encoded() -> None:
    class Halved(GaussianTeacher):
        def encode(self, shown: Tensor) -> Tensor:
            return shown / 2

    batch, key = four_points()
    roles = duel(2 * STD, 2 * MEAN)
    process = roles["teacher"].process
    seen_as = LinearStudent(process, STD, MEAN)
    roles |= {"teacher": Halved(process, MEAN, STD), "fake": LinearFake(process, seen_as)}
    for objective in (dmd(At(ANGLE)), SiD(At(ANGLE))):
        total = student_loss(objective, roles, batch, key).total
        slopes = torch.autograd.grad(total, [roles["student"].gain, roles["student"].shift])
        assert max(abs(float(s)) for s in slopes) < 1e-12


def test_guidance_reaches_the_teacher_as_a_ramp() -> None:
    asked: list[Any] = []

    class Asked(GaussianTeacher):
        def forward(
            self, xt: Tensor, t: Tensor, cond: Cond | None = None, guidance: Any = None, **rest: Any
        ) -> Estimate:
            asked.append(guidance)
            return super().forward(xt, t, cond)

    batch, key = four_points()
    roles = duel()
    roles["teacher"] = Asked(roles["teacher"].process, MEAN, STD)
    student_loss(dmd(At(ANGLE), guidance=lambda step: 2.0 + step.index), roles, batch, key, index=3)
    assert asked[0].tolist() == [5.0] * 4


def test_a_discrete_sample_cannot_enter_the_score_identity() -> None:
    class Ids(nn.Module):
        def generate(self, batch: Batch, step: Step, **asked: Any) -> Sample:
            return Sample(torch.zeros(4, 1, dtype=torch.int64))

    batch, key = four_points()
    with pytest.raises(ValueError, match="discrete"):
        student_loss(SiD(At(ANGLE)), {**duel(), "student": Ids()}, batch, key)


def test_a_segment_needs_to_know_the_step() -> None:
    process = edm(sigma_max=10.0)
    roles = path_roles(exact_gains(process))
    sample = roles["student"].generate(Batch(like=torch.zeros(4, 1, dtype=torch.float64)), Step(0, 1, Key(0)))
    blind = Sample(sample.x, Cond(), sample.est, sample.path)
    with pytest.raises(ValueError, match="index"):
        Segment(segment_ends(TIMES, process))(process, blind, At(1.0), Step(0, 1, Key(0)), Key(0))
    assert fresh(process, blind, At(1.0), Step(0, 1, Key(0)), Key(0)).target is blind.x


def test_a_ratio_factor_without_a_discriminator_is_refused() -> None:
    with pytest.raises(ValueError, match="discriminator"):
        dmd(At(1.0), ratio=DensityRatio(forward_kl))


def test_a_denoiser_is_told_nothing_that_it_cannot_take() -> None:
    with pytest.raises(ValueError, match="guidance"):
        Denoiser(nn.Identity(), edm(), "x0")(
            torch.zeros(1, 1), torch.ones(1).double(), guidance=torch.ones(1)
        )
