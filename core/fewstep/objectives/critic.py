"""The fake: a denoiser that learns the law of what the student makes, sample by sample."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, TypeAlias

from torch import Tensor

from fewstep.objectives.corruption import Corrupted, Corruption
from fewstep.objectives.denoising import weighted_nll
from fewstep.objectives.weights import Weight
from fewstep.processes import TimeLaw
from fewstep.protocol import Cond, Estimate, Process, Sample, Step

Knows: TypeAlias = Literal["per-step", "shared"]
"""What a fake knows of a student of several steps: which step made a sample, or nothing (one law for their mixture)."""


def told(cond: Cond, knows: Knows) -> Cond:
    """The condition as the fake sees it."""
    return cond if knows == "per-step" else replace(cond, index=None)


def fake_loss(
    fake: Any,
    sample: Sample,
    corruption: Corruption,
    times: TimeLaw,
    weight: Weight,
    step: Step,
    knows: Knows = "per-step",
) -> Tensor:
    """Denoising loss on the student's samples; the fake is told ``cond.index``, the step that made them.

    Args:
        fake: a denoiser.
        sample: data, without a graph, in the space of the process.
        corruption: how the judges see samples.
        times: the fake's own time law.
        weight: in x0 units.
        step: randomness.
        knows: "shared" keeps the index from it.
    """
    process = fake.process.on(sample.mask)
    seen = corruption(process, sample, times, step, step.key.at("critic"))
    return fitted(process, fake(seen.xt, seen.t, told(sample.cond, knows)), seen, weight)


def fitted(process: Process, est: Estimate, seen: Corrupted, weight: Weight) -> Tensor:
    """The loss of an estimate of what was corrupted."""
    strength = weight(process, seen.t)
    if seen.trust is not None:
        strength = strength * seen.trust
    return weighted_nll(process.geometry, est, seen.target, strength, seen.xt).mean()
