"""Forgetting a label (O15): its law becomes that of its replacement, all others stay, and their parameters are apart.

Teacher: a rotated Gaussian in three dimensions for each of four labels; student x = A_c z + b_c with an exact fake.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from identity_toys import cross, rotated
from objective_cases import every_case
from objective_toys import ANGLE, At, Listed, unit_process
from pydantic import ValidationError
from torch import Tensor, nn

from fewstep.config.objectives import KINDS
from fewstep.objectives import SIM, Forgetting, Labeled, SiD, UniInstruct
from fewstep.objectives.forgetting import without
from fewstep.processes import edm
from fewstep.protocol import Batch, Cond, Euclidean, Key, Sample, Step, parts, spread
from fewstep.testing.analytic import Exact

STDS = ((0.6, 0.9, 0.3), (0.5, 0.4, 0.8), (0.7, 0.7, 0.2), (0.3, 1.0, 0.5))
COVARIANCES = torch.stack([rotated(stds, seed) for seed, stds in enumerate(STDS)])
MEANS = torch.tensor([[0.5, 0.0, -0.3], [-0.6, 0.2, 0.1], [0.0, 0.8, 0.4], [0.2, -0.7, 0.6]]).double()
FORGOTTEN, SAFE = 1, 2
OTHERS = [0, 2, 3]
PROCESS = replace(unit_process(), geometry=Euclidean("sum"))


class ByLabel(nn.Module):
    """A matrix and a shift for each label, at first the teacher's."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.linalg.cholesky(COVARIANCES))
        self.shift = nn.Parameter(MEANS.clone())

    def generate(self, batch: Batch, step: Step, **asked: Any) -> Sample:
        z, label = step.key.at("noise").normal(batch.like), batch.cond.data
        return Sample((self.matrix[label] @ z.unsqueeze(-1)).squeeze(-1) + self.shift[label], batch.cond)

    def law(self) -> tuple[Tensor, Tensor]:
        return (self.matrix @ self.matrix.mT).detach(), self.shift.detach()


class Labels(Exact):
    """The posterior mean of each label's Gaussian: the teacher's, or the student's now."""

    def __init__(self, student: ByLabel | None = None) -> None:
        super().__init__(PROCESS)
        object.__setattr__(self, "student", student)
        self.asked: list[list[int]] = []

    student: ByLabel | None

    def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        self.asked.append(cond.data.tolist())
        covariance, mean = (COVARIANCES, MEANS) if self.student is None else self.student.law()
        c, m = covariance[cond.data], mean[cond.data]
        alpha, sigma = (spread(f(t), c) for f in (self.process.alpha, self.process.sigma))
        evidence = alpha.square() * c + sigma.square() * torch.eye(3, dtype=torch.float64)
        residual = xt - spread(self.process.alpha(t), m) * m
        return m + (alpha * c @ torch.linalg.solve(evidence, residual.unsqueeze(-1))).squeeze(-1)


def roles() -> dict[str, Any]:
    student = ByLabel()
    return {"teacher": Labels(), "student": student, "fake": Labels(student)}


def every_label() -> tuple[Batch, Listed]:
    """Each of the four labels with noise that integrates exactly."""
    plain, key = cross(3)
    values = {name: noise.repeat(4, 1) for name, noise in key.values.items()}
    label = torch.arange(4).repeat_interleave(len(plain.like))
    return Batch(like=values["sample"], cond=Cond(data=label)), Listed(0, values=values)


def forgetting(weight: float = 0.01, **settings: Any) -> Forgetting:
    return Forgetting(SiD(At(ANGLE), **settings), Labeled(FORGOTTEN), Labeled(SAFE), weight)


def gradients(objective: Any, made: dict[str, Any], only: str | None = None) -> tuple[Tensor, Tensor]:
    """Of the student's phase, or of one of its terms, with respect to matrices and shifts."""
    batch, key = every_label()
    losses = list(parts(objective.loss(objective.phases(0)[-1], made, batch, Step(0, 10, key))))
    chosen = [loss.total for loss in losses if only is None or f"{only}/identity" in loss.logs]
    student = made["student"]
    matrix, shift = torch.autograd.grad(torch.stack(chosen).sum(), [student.matrix, student.shift])
    return matrix, shift


def forgot(made: dict[str, Any]) -> dict[str, Any]:
    """The student after it has forgotten."""
    with torch.no_grad():
        for parameter in made["student"].parameters():
            parameter[FORGOTTEN] = parameter[SAFE]
    return made


def test_a_student_equal_to_its_teacher_is_moved_in_the_forgotten_label_only() -> None:
    for slope in gradients(forgetting(), roles()):
        assert float(slope[OTHERS].abs().max()) < 1e-12
        assert float(slope[FORGOTTEN].abs().max()) > 1e-4


def test_it_stands_still_where_the_forgotten_label_has_the_law_of_its_replacement() -> None:
    for slope in gradients(forgetting(), forgot(roles())):
        assert float(slope.abs().max()) < 1e-12


def test_descent_gives_the_forgotten_label_the_other_law_and_leaves_the_rest() -> None:
    made = roles()
    student = made["student"]
    optimizer = torch.optim.Adam(student.parameters(), lr=0.1, eps=1e-7)
    for i in range(80):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - i / 80) ** 2
        student.matrix.grad, student.shift.grad = gradients(forgetting(normalize=False), made)
        optimizer.step()
    covariance, mean = student.law()
    expected = [0, SAFE, 2, 3]
    assert torch.allclose(mean, MEANS[expected], atol=0.01)
    assert torch.allclose(covariance, COVARIANCES[expected], atol=0.02)
    assert float((COVARIANCES[SAFE] - COVARIANCES[FORGOTTEN]).abs().max()) > 0.1


def test_without_the_forgetting_term_nothing_is_forgotten() -> None:
    for slope in gradients(forgetting(weight=0.0), roles()):
        assert float(slope.abs().max()) < 1e-12


def test_each_term_reaches_only_the_parameters_of_its_own_labels() -> None:
    made = roles()
    with torch.no_grad():
        made["student"].matrix += 0.1 * Key(1).normal(made["student"].matrix)
    for slope in gradients(forgetting(), made, "remain"):
        assert float(slope[FORGOTTEN].abs().max()) == 0.0
        assert float(slope[OTHERS].abs().min()) > 0.0
    for slope in gradients(forgetting(), made, "forget"):
        assert float(slope[OTHERS].abs().max()) == 0.0
        assert float(slope[FORGOTTEN].abs().min()) > 0.0


def test_only_the_teacher_is_asked_about_the_replacement() -> None:
    made = roles()
    gradients(forgetting(), made)
    count = len(made["teacher"].asked[1])
    assert made["teacher"].asked[1] == [SAFE] * count
    assert made["fake"].asked[1] == [FORGOTTEN] * count
    assert made["teacher"].asked[0] == made["fake"].asked[0]
    assert set(made["teacher"].asked[0]) == set(OTHERS)


def test_a_remaining_term_that_still_asks_for_the_label_would_hold_it_back() -> None:
    """Why rows with the forgotten label are replaced: on them the plain objective outweighs the small other term."""
    plain = gradients(SiD(At(ANGLE)), forgot(roles()))
    pull = gradients(forgetting(), roles(), "forget")
    for back, away in zip(plain, pull, strict=True):
        assert float(back[FORGOTTEN].norm()) > 20 * float(away[FORGOTTEN].norm())


@pytest.mark.parametrize("inner", [SiD(At(ANGLE), alpha=1.0), SIM(At(ANGLE)), UniInstruct(At(ANGLE))])
def test_any_member_of_the_family_can_forget(inner: Any) -> None:
    objective = Forgetting(inner, Labeled(FORGOTTEN), Labeled(SAFE))
    assert max(float(slope.abs().max()) for slope in gradients(objective, forgot(roles()))) < 1e-12
    assert max(float(slope.abs().max()) for slope in gradients(objective, roles())) > 1e-5


def test_both_terms_roll_out_apart_when_phases_share_a_sample() -> None:
    case = every_case()["sfd with one rollout"]
    made: Any = case.roles()
    seen: list[list[int]] = []
    generate = made["student"].generate
    object.__setattr__(
        made["student"],
        "generate",
        lambda b, *a, **k: seen.append(b.cond.data.tolist()) or generate(b, *a, **k),
    )
    step = Step(0, 10, Key(1), cycle_key=Key(1))
    for phase in case.objective.phases(0):
        list(parts(case.objective.loss(phase, made, case.batch(), step)))
    assert seen == [[0, 0, 2, 0], [1, 1, 1, 1]]


def test_the_settings_must_say_what_is_forgotten() -> None:
    with pytest.raises(ValidationError, match=r"objective\.forget"):
        KINDS["sfd"]()
    with pytest.raises(ValidationError, match="its own place"):
        KINDS["sfd"](forget=1, override=1)
    made: Any = KINDS["sfd"](forget=1, override=2, alpha_warmup=0.5).build(edm())  # type: ignore[attr-defined]
    assert (made.forget, made.override, made.weight) == (Labeled(1), Labeled(2), 0.01)
    assert made.reads == {"cond"}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (None, "NoneType"),
        (torch.zeros(4, 2).long(), r"\(4, 2\) of torch.int64"),
        (torch.zeros(4), r"\(4,\) of torch.float32"),
        ({"kind": torch.zeros(4).long()}, "kind: .*int64"),
    ],
)
def test_conditions_without_labels_are_refused_with_what_they_hold(data: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Labeled(1)(Cond(data=data))


def test_labels_may_be_one_part_of_the_condition() -> None:
    cond = Cond(data={"kind": torch.tensor([0, 1, 1]), "size": torch.tensor([5.0, 6.0, 7.0])})
    forgotten, safe = Labeled(1, "kind")(cond), Labeled(2, "kind")(cond)
    assert forgotten.data["kind"].tolist() == [1, 1, 1]
    kept = without(cond, forgotten, safe)
    assert kept.data["kind"].tolist() == [0, 2, 2]
    assert kept.data["size"].tolist() == [5.0, 6.0, 7.0]
