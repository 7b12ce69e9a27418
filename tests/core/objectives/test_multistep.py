"""Students of several steps: a fake that knows the step leads each prefix to the teacher, one for their mixture does not.

Teacher N(0, diag(s^2)), two steps x0 = g_k x_t with fresh noise between them, so that the law after step k is N(0, v_k) with
v_0 = g_0^2 t_0^2 and v_1 = g_1^2 (v_0 + t_1^2). The best linear fake of the mixture of both steps is that of their mean.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from identity_toys import gauss
from objective_toys import At, Listed, student_loss
from torch import Tensor, nn

from fewstep.config.objectives import KINDS
from fewstep.objectives import SiD, UniInstruct, dmd
from fewstep.processes import edm
from fewstep.protocol import Batch, Cond, Estimate, Step, spread
from fewstep.samplers import FewStep
from fewstep.testing.analytic import Exact, GaussianTeacher

PROCESS = edm(sigma_max=10.0)
TIMES, JUDGED = (10.0, 1.0), 0.7
STDS = torch.tensor([0.6, 1.1, 0.3], dtype=torch.float64)

METHODS: dict[str, Any] = {
    "sid": lambda knows: SiD(At(JUDGED), normalize=False, fake_knows=knows),
    "uni-instruct": lambda knows: UniInstruct(At(JUDGED), normalize=False, fake_knows=knows),
    "dmd": lambda knows: dmd(At(JUDGED), normalize=False, fake_knows=knows),
}


@dataclass(frozen=True)
class Picked(Listed):
    """Listed noise, and a training sample from this step."""

    pick: int = 0

    def integer(self, high: int) -> int:
        return self.pick


class Steps(FewStep):
    """x0 = gains[k] x_t in step k, element by element."""

    def __init__(self, variances: Tensor) -> None:
        super().__init__(nn.Identity(), PROCESS, "x0", TIMES, rule="renoise", pick="random")
        before = torch.stack([torch.full_like(STDS, TIMES[0] ** 2), variances[0] + TIMES[1] ** 2])
        self.gains = nn.Parameter((variances / before).sqrt())

    def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
        if cond is None or cond.index is None:
            raise ValueError("this student must know its step")
        return Estimate(self.gains[cond.index] * xt)

    def variances(self) -> Tensor:
        """(2, 3) of the sample after each step."""
        first = self.gains[0].square() * TIMES[0] ** 2
        return torch.stack([first, self.gains[1].square() * (first + TIMES[1] ** 2)]).detach()


class StepFake(Exact):
    """The exact fake of a step, or where none is named the best linear fake of the mixture of all."""

    def __init__(self, student: Steps) -> None:
        super().__init__(PROCESS)
        object.__setattr__(self, "student", student)

    student: Steps

    def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        each = self.student.variances()
        variance = each.mean(0) if cond.index is None else each[cond.index]
        return variance / (variance + spread(t, xt).square()) * xt


class MixtureFake(StepFake):
    """The exact posterior mean of the mixture, element by element: nothing about it is approximated."""

    def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        noise = spread(t, xt).square()
        total = self.student.variances().unsqueeze(1) + noise
        share = torch.softmax(-xt.square() / (2 * total) - total.log() / 2, 0)
        return xt * (share * (1 - noise / total)).sum(0)


def roles(variances: Tensor, fake: type[StepFake] = StepFake) -> dict[str, Any]:
    student = Steps(variances)
    return {"teacher": GaussianTeacher(PROCESS, 0.0, STDS), "student": student, "fake": fake(student)}


def noises(count: int = 2) -> tuple[Batch, dict[str, Tensor], Tensor]:
    """All combinations of points for the noises of start, step and judge, the same in every element; their masses."""
    at, mass = gauss(count)
    points = torch.tensor(list(itertools.product(at.tolist(), repeat=3)), dtype=torch.float64)
    weight = torch.tensor(list(itertools.product(mass.tolist(), repeat=3)), dtype=torch.float64).prod(1)
    names = ("sample", "roll", "judge")
    values = {name: points[:, [i]].expand(-1, 3).contiguous() for i, name in enumerate(names)}
    values["critic"] = values["judge"]
    return Batch(like=values["sample"]), values, weight * len(weight)


def gradient(objective: Any, made: dict[str, Any], count: int = 2) -> Tensor:
    """(2, 3): with respect to each step's gains, from samples of that step; exact for the linear fakes."""
    batch, values, mass = noises(count)
    weighted = replace(objective, weight=lambda process, t: mass)
    rows = []
    for pick in range(2):
        loss = student_loss(weighted, made, batch, Picked(0, values=values, pick=pick))
        rows.append(torch.autograd.grad(loss.total, made["student"].gains)[0][pick])
    return torch.stack(rows)


TRUTH = STDS.square().expand(2, 3)
EVEN = torch.stack([1.5 * STDS.square(), 0.5 * STDS.square()])
"""Both steps are wrong, and the mean of their variances is right."""
LATE = torch.stack([2.0 * STDS.square(), STDS.square()])
"""The first step is not done yet, the second is right."""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("knows", ["per-step", "shared"])
def test_where_every_step_is_right_both_stand_still(method: str, knows: str) -> None:
    assert float(gradient(METHODS[method](knows), roles(TRUTH)).abs().max()) < 1e-12


@pytest.mark.parametrize("method", METHODS)
def test_a_shared_fake_stands_still_at_wrong_steps_whose_mean_is_right(method: str) -> None:
    assert float(gradient(METHODS[method]("shared"), roles(EVEN)).abs().max()) < 1e-12
    assert float(gradient(METHODS[method]("per-step"), roles(EVEN)).abs().min()) > 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_a_shared_fake_moves_a_right_step_because_another_is_wrong(method: str) -> None:
    alone = gradient(METHODS[method]("per-step"), roles(LATE))
    pooled = gradient(METHODS[method]("shared"), roles(LATE))
    assert float(alone[1].abs().max()) < 1e-12
    assert float(alone[0].abs().min()) > 1e-4
    assert float(pooled[1].abs().min()) > 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_the_exact_law_of_the_mixture_moves_it_too(method: str) -> None:
    """It is the sharing that fails, not the Gaussian approximation."""
    pooled = gradient(METHODS[method]("shared"), roles(LATE, MixtureFake), 24)
    assert float(pooled[1].abs().min()) > 1e-4
    still = gradient(METHODS[method]("shared"), roles(TRUTH, MixtureFake), 24)
    assert float(still.abs().max()) < 1e-10


@pytest.mark.parametrize("method", ["sid", "dmd"])
def test_descent_reaches_every_step_only_with_a_fake_that_knows_it(method: str) -> None:
    alone, pooled = (descended(METHODS[method](knows)) for knows in ("per-step", "shared"))
    assert far(alone) < 1e-4
    assert far(pooled) > 0.2
    assert torch.allclose(pooled.mean(0), STDS.square(), rtol=1e-3)


def descended(objective: Any) -> Tensor:
    made = roles(torch.stack([2.5 * STDS.square(), 0.2 * STDS.square()]))
    gains = made["student"].gains
    # Each gain in units of what it should be, so that one rate serves all.
    scale = Steps(TRUTH).gains.detach()
    moment = torch.zeros_like(gains)
    for i in range(150):
        slope = gradient(objective, made) * scale
        moment = 0.9 * moment + 0.1 * slope.square()
        with torch.no_grad():
            gains -= 0.05 * (1 - i / 150) ** 2 * scale * slope / (moment.sqrt() + 1e-9)
    return made["student"].variances()


def far(variances: Tensor) -> float:
    """Largest relative error of a standard deviation."""
    return float((variances.sqrt() / STDS - 1).abs().max())


class Gain(Exact):
    """D = c x_t, with a gain for each step, or one for all where none is named."""

    def __init__(self, gains: Tensor) -> None:
        super().__init__(PROCESS)
        self.gains = nn.Parameter(gains)

    def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        return (self.gains[0] if cond.index is None else self.gains[cond.index]) * xt


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("knows", ["per-step", "shared"])
def test_what_the_fake_learns_is_the_law_that_it_is_told_of(method: str, knows: str) -> None:
    made, (batch, values, _) = roles(LATE), noises()
    each = LATE.mean(0).expand(2, 3) if knows == "shared" else LATE
    made["fake"] = Gain(each / (each + JUDGED**2))
    objective = METHODS[method](knows)
    slope = sum(
        torch.autograd.grad(
            objective.loss(
                objective.phases(0)[0], made, batch, Step(0, 1, Picked(0, values=values, pick=pick))
            ).total,
            made["fake"].gains,
        )[0]
        for pick in range(2)
    )
    assert float(slope.abs().max()) < 1e-12
    assert float((LATE - LATE.mean(0)).abs().min()) > 0.01


@pytest.mark.parametrize("kind", ["sid", "sim", "uni-instruct", "vsd", "dmd"])
def test_what_a_fake_knows_is_a_setting(kind: str) -> None:
    build = lambda **given: KINDS[kind](**given).build(edm())  # type: ignore[attr-defined]  # noqa: E731
    assert build().fake_knows == "per-step"
    assert build(fake_knows="shared").fake_knows == "shared"
