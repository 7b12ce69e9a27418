"""The fake: a denoiser that learns the law of what the student makes, sample by sample."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fewstep.objectives.corruption import Corruption
from fewstep.objectives.denoising import weighted_nll
from fewstep.objectives.weights import Weight
from fewstep.processes import TimeLaw
from fewstep.protocol import Sample, Step


def fake_loss(
    fake: Any, sample: Sample, corruption: Corruption, times: TimeLaw, weight: Weight, step: Step
) -> Tensor:
    """Denoising loss on the student's samples; the fake is told ``cond.index``, the step that made them.

    Args:
        fake: a denoiser.
        sample: data, without a graph, in the space of the process.
        corruption: how the judges see samples.
        times: the fake's own time law.
        weight: in x0 units.
        step: randomness.
    """
    process = fake.process.on(sample.mask)
    seen = corruption(process, sample, times, step, step.key.at("critic"))
    est = fake(seen.xt, seen.t, sample.cond)
    strength = weight(process, seen.t)
    if seen.trust is not None:
        strength = strength * seen.trust
    return weighted_nll(process.geometry, est, seen.target, strength).mean()
