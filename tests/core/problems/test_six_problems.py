"""Six problems with known answers: the student is near the truth, the control is not. STUDY.md holds the thresholds."""

from __future__ import annotations

import pytest
from six_problems import PROBLEMS

# name: (the student stays below, the control stays above); from the seeds in STUDY.md, with a margin of two.
BOUNDS = {
    "consistency": (0.2, 0.8),
    "distribution matching": (0.25, 0.8),
    "score distillation": (0.02, 0.4),
    "variational": (0.05, 0.4),
    "causal clip": (0.4, 0.7),
    "language": (0.9, 0.95),
}


@pytest.mark.parametrize("name", sorted(PROBLEMS))
def test_the_student_reaches_the_truth_and_the_control_does_not(name: str) -> None:
    below, above = BOUNDS[name]
    student, control = PROBLEMS[name](0)
    assert student < below
    assert control > above
