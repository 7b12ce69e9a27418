"""Score distillation does not depend on the process in which its judges speak, at one sigma / alpha = .75.

Numbers are those of alpha = .8, sigma = .6 in test_gaussian_oracles; x_t, times and estimates' coefficients all differ.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from objective_toys import GAIN, MEAN, SHIFT, STD, At, four_points, linear_gradient
from torch import Tensor

from fewstep.objectives import SiD, dmd
from fewstep.objectives.weights import one, score
from fewstep.processes import Converted, Gaussian, cosine, ddpm, edm, flow, trig, vp
from fewstep.testing.analytic import GaussianTeacher
from fewstep.testing.linear import LinearFake, LinearStudent

PROCESSES = {
    "vp": vp(),
    "edm": edm(),
    "flow": flow(),
    "trig": trig(),
    "cosine": cosine(),
    "ddpm": ddpm(),
}
every_process = pytest.mark.parametrize("name", PROCESSES)


def judged_in(process: Gaussian) -> dict[str, Any]:
    """Teacher, fake and student, all on one process."""
    student = LinearStudent(process, GAIN, SHIFT)
    return {
        "teacher": GaussianTeacher(process, MEAN, STD),
        "student": student,
        "fake": LinearFake(process, student),
    }


def at_one_ratio(process: Gaussian, ratio: float = 0.75) -> At:
    return At(float(process.law.time_of_ratio(torch.tensor(ratio, dtype=torch.float64))))


def fisher(process: Any, t: Tensor) -> Tensor:
    return process.alpha(t).square() / process.sigma(t).pow(4)


@every_process
def test_matching_distributions_has_one_gradient(name: str) -> None:
    process, (batch, key) = PROCESSES[name], four_points()
    objective = dmd(at_one_ratio(process), weight=score, normalize=False)
    found = linear_gradient(objective, judged_in(process), batch, key)
    assert found == pytest.approx((0.319872, -1.192412), abs=1e-6)
    elsewhere = dmd(at_one_ratio(process, 0.8), weight=score, normalize=False)
    assert linear_gradient(elsewhere, judged_in(process), batch, key) != pytest.approx(found, abs=1e-3)


@every_process
def test_the_score_identity_has_one_gradient_up_to_the_size_of_states(name: str) -> None:
    """Scores of states alpha times as large are 1 / alpha times as large: the weight alpha^2 / sigma^4 says so."""
    process, (batch, key) = PROCESSES[name], four_points()
    objective = SiD(at_one_ratio(process), alpha=1.2, normalize=False, weight=fisher)
    found = linear_gradient(objective, judged_in(process), batch, key)
    alpha = float(process.alpha(torch.tensor(at_one_ratio(process).time)))
    expected = tuple(value * 0.64 / alpha**2 for value in (0.657252, -1.092607))
    assert found == pytest.approx(expected, abs=2e-6)


@every_process
def test_a_teacher_from_elsewhere_judges_as_one_at_home(name: str) -> None:
    process, (batch, key) = PROCESSES[name], four_points()
    objective = dmd(at_one_ratio(process), weight=one, normalize=False)
    home = linear_gradient(objective, judged_in(process), batch, key)
    foreign = judged_in(process) | {"teacher": Converted(GaussianTeacher(flow(), MEAN, STD), process)}
    assert linear_gradient(objective, foreign, batch, key) == pytest.approx(home, abs=1e-12)
    wrong = judged_in(process) | {"teacher": Converted(GaussianTeacher(flow(), MEAN, 0.7), process)}
    assert linear_gradient(objective, wrong, batch, key) != pytest.approx(home, abs=1e-3)
