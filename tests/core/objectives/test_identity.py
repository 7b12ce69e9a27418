"""Score identity distillation: where its gradient has the right sign, what it cautions against, what it costs.

Setting, if nothing else is said: teacher N(mu, s^2), student x = a z + b, alpha = .8, sigma = .6,
V_p = alpha^2 s^2 + sigma^2, V_q = alpha^2 a^2 + sigma^2, R = V_q / V_p.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from identity_toys import (
    ALPHA,
    PLAIN,
    SIGMA,
    V_P,
    descent,
)
from objective_cases import NATURAL, every_case
from objective_toys import (
    ANGLE,
    MEAN,
    STD,
    At,
    duel,
    four_points,
    grant,
    linear_gradient,
)
from torch import Tensor

from fewstep.config.objectives import KINDS
from fewstep.objectives import (
    SiD,
    widest,
)
from fewstep.processes import edm
from fewstep.protocol import Batch, Key, Linear, Step, parts
from fewstep.testing.analytic import GaussianTeacher
from fewstep.testing.linear import LinearFake, LinearStudent


def student_of(ratio: float, shift: float = 1.2) -> dict[str, Any]:
    """Teacher and student whose variances of x_t have this ratio."""
    return duel(((ratio * V_P - SIGMA**2) / ALPHA**2) ** 0.5, shift)


@pytest.mark.parametrize("alpha", [1.1, 1.2, 1.5, 2.0])
def test_sid_widens_a_student_beyond_the_bound_and_narrows_it_below(alpha: float) -> None:
    batch, key = four_points()
    _, bound = widest(alpha)
    slopes = [
        linear_gradient(SiD(At(ANGLE), alpha=alpha, **PLAIN), student_of(share * bound), batch, key)[0]
        for share in (0.98, 1.0, 1.02)
    ]
    assert slopes[0] > 1e-4
    assert slopes[1] == pytest.approx(0, abs=1e-12)
    assert slopes[2] < -1e-4


@pytest.mark.parametrize("alpha", [1.1, 1.2, 1.5, 2.0])
def test_sid_moves_the_mean_away_beyond_its_own_lower_bound(alpha: float) -> None:
    batch, key = four_points()
    bound, _ = widest(alpha)
    assert bound == pytest.approx((2 * alpha - 1) / (2 * (alpha - 1)))
    slopes = [
        linear_gradient(SiD(At(ANGLE), alpha=alpha, **PLAIN), student_of(share * bound), batch, key)[1]
        for share in (0.98, 1.0, 1.02)
    ]
    assert slopes[0] > 1e-4
    assert slopes[1] == pytest.approx(0, abs=1e-12)
    assert slopes[2] < -1e-4


def test_the_bounds_at_the_customary_alpha_are_three_and_a_half_and_six() -> None:
    assert widest(1.2) == pytest.approx((3.5, 6.0))
    assert widest(1.0) == (torch.inf, torch.inf)


@pytest.mark.parametrize("ratio", [2.0, 6.0, 100.0])
def test_with_alpha_one_no_student_is_too_wide(ratio: float) -> None:
    batch, key = four_points()
    slopes = linear_gradient(SiD(At(ANGLE), alpha=1.0, **PLAIN), student_of(ratio), batch, key)
    assert min(slopes) > 0


def test_a_wide_student_escapes_for_good_unless_alpha_rises_from_one() -> None:
    wide = student_of(8.0)
    constant = descent(SiD(At(ANGLE), alpha=1.2), student_of(8.0))
    assert abs(constant[0]) > float(wide["student"].gain.detach())
    rising = descent(SiD(At(ANGLE), alpha=Linear(1.0, 1.2, 0.5)), student_of(8.0))
    assert rising == pytest.approx((STD, MEAN), abs=1e-5)


def test_the_setting_for_a_warm_start_is_a_ramp() -> None:
    made: Any = KINDS["sid"](alpha_warmup=0.25).build(edm())  # type: ignore[attr-defined]
    assert made.alpha == Linear(1.0, 1.2, 0.25)
    assert KINDS["sid"]().build(edm()).alpha == 1.2  # type: ignore[attr-defined]


def cautions(gain: float, alpha: Any = 1.2, x: Tensor | None = None) -> list[str]:
    process = edm(sigma_data=STD)
    student = LinearStudent(process, gain, MEAN)
    roles = {
        "teacher": GaussianTeacher(process, MEAN, STD),
        "student": student,
        "fake": LinearFake(process, student),
    }
    batch = Batch(like=torch.zeros(512, 3, dtype=torch.float64), x=x)
    objective = SiD(NATURAL, alpha=alpha)
    with torch.no_grad():
        return list(objective.cautions(roles, batch, Step(0, 1, Key(1))))


def test_a_wide_student_is_cautioned_against_with_numbers() -> None:
    (told,) = cautions(5.0)
    assert "standard deviation 4.97, its teacher has 0." in told
    assert "alpha = 1.2" in told
    assert "3.5" in told
    assert "alpha_warmup" in told


def test_a_narrow_student_or_a_small_alpha_needs_no_caution() -> None:
    assert not cautions(0.9)
    assert not cautions(5.0, alpha=1.0)
    assert not cautions(5.0, alpha=Linear(1.0, 1.2, 0.3))


def test_the_teachers_width_is_that_of_the_data_where_the_batch_has_data() -> None:
    noise = Key(4).normal(torch.zeros(512, 3, dtype=torch.float64))
    assert not cautions(5.0, x=5 * noise)
    assert cautions(0.9, x=0.1 * noise)


@pytest.mark.parametrize(
    ("method", "student", "critic"),
    [
        ("sid", {"teacher": 1, "fake": 1}, {"fake": 1}),
        ("sim", {"teacher": 1, "fake": 1}, {"fake": 1}),
        ("uni-instruct", {"teacher": 1, "fake": 1}, {"fake": 1}),
        ("uni-instruct, forward", {"teacher": 1, "fake": 1, "disc": 1}, {"fake": 1, "disc": 2}),
        ("sfd", {"teacher": 2, "fake": 2}, {"fake": 2}),
    ],
)
def test_every_network_is_called_as_often_as_the_mathematics_needs(
    method: str, student: dict[str, int], critic: dict[str, int]
) -> None:
    case = every_case()[method]
    for phase, expected in (("student", student), ("critic", critic)):
        calls, graphs = counted(case, phase)
        assert calls == expected
        # In the student's phase the gradient runs through teacher and fake; the ratio needs none.
        assert graphs == ({"teacher", "fake"} if phase == "student" else set(expected))


def counted(case: Any, name: str) -> tuple[dict[str, int], set[str]]:
    roles = case.roles()
    phase = next(p for p in case.objective.phases(0) if p.name == name)
    grant(roles, phase)
    calls: dict[str, int] = {}
    graphs: set[str] = set()

    def listen(role: str) -> Any:
        def note(module: Any, inputs: Any, out: Tensor) -> None:
            calls[role] = calls.get(role, 0) + 1
            graphs.update({role} if out.requires_grad else ())

        return note

    for role, module in roles.items():
        if role != "student":
            module.net.register_forward_hook(listen(role))
    list(parts(case.objective.loss(phase, roles, case.batch(), Step(0, 10, Key(1)))))
    return calls, graphs


def test_a_teacher_that_takes_no_guidance_cannot_be_asked_for_it() -> None:
    assert SiD(NATURAL, guidance=3.0).roles["teacher"].accepts == {"guidance"}
    assert not SiD(NATURAL).roles["teacher"].accepts
