"""A discriminator as an estimate of the log density ratio log p(x_t) / q(x_t): real against the student's.

A discriminator is called ``disc(x_t, t, cond)`` and returns logits (B,), or one logit per position (B, L): where
a process hides positions, only the hidden ones count (the others' masks have one law in both classes and cancel).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from fewstep.objectives.corruption import Corruption
from fewstep.processes import TimeLaw
from fewstep.protocol import Batch, Cond, Process, Sample, Step, Tree

RatioFactor: TypeAlias = Callable[[Tensor], Tensor]
"""h(r) of the density ratio r = p / q, (B,) -> (B,)."""


def log_ratio(
    disc: Any, process: Process, xt: Tree, t: Tensor, cond: Cond, clip: float | None = None
) -> Tensor:
    """(B,) logit, averaged over the positions that count; 0 for a sample in which none does."""
    raw: Tensor = disc(xt, t, cond)
    return _averaged(raw if clip is None else raw.clamp(-clip, clip), counts(process, raw, xt))


def discriminator_loss(
    disc: Any,
    process: Process,
    sample: Sample,
    batch: Batch,
    step: Step,
    *,
    reference: str,
    corruption: Corruption,
    times: TimeLaw,
    smoothing: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy of reference (label 1) against student (label 0), at the same times, each with its own noise.

    Args:
        disc: called ``disc(x_t, t, cond)``.
        process: of the judges, without a mask.
        sample: the student's, as data.
        batch: holds the reference.
        step: randomness.
        reference: batch field with reference samples: "x" or "extra.<name>".
        corruption: how samples are judged; its times are the reference's too.
        times: time law.
        smoothing: of the labels.
    """
    theirs, ours = process.on(sample.mask), process.on(batch.mask)
    xt, t, *_ = corruption(theirs, sample, times, step, step.key.at("disc"))
    noise = ours.noise(batch, step.key.at("disc", "reference"))
    real = ours.corrupt(reference_of(batch, reference), noise, t)
    of_real, of_fake = disc(real, t, batch.cond), disc(xt, t, sample.cond)
    real_counts, fake_counts = counts(ours, of_real, real), counts(theirs, of_fake, xt)
    loss = class_loss(of_real, real_counts, 1 - smoothing) + class_loss(of_fake, fake_counts, smoothing)
    right = accuracy(_averaged(of_real.detach(), real_counts), _averaged(of_fake.detach(), fake_counts))
    return loss / 2, {"disc": loss.detach() / 2, "disc_accuracy": right}


def reference_of(batch: Batch, name: str) -> Tree:
    """The batch's reference samples.

    Raises:
        ValueError: if the batch does not hold them.
    """
    found = batch.x if name == "x" else batch.extra.get(name.removeprefix("extra."))
    if found is None:
        raise ValueError(
            f"the discriminator compares with {name!r}, which this batch does not hold; "
            f"it holds {'x and ' if batch.x is not None else ''}extra {sorted(batch.extra)}"
        )
    return found


def class_loss(logits: Tensor, counted: Tensor, label: float) -> Tensor:
    """Cross-entropy of one class: a mean over what counts in a sample, then over samples.

    Args:
        logits: (B,) or (B, ...).
        counted: 1 where a logit counts.
        label: 1 - smoothing for reference samples, smoothing for the student's. Smoothing s squashes the optimal
            logit to |D| <= ln((1 - s) / s).
    """
    each = F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label), reduction="none")
    return _averaged(each, counted).mean()


def counts(process: Any, logits: Tensor, xt: Tree) -> Tensor:
    """1 where a logit counts, else 0; shaped like the logits."""
    if logits.ndim == 1:
        return torch.ones_like(logits)
    if hasattr(process, "hidden"):
        return process.hidden(xt).to(logits.dtype).reshape(logits.shape)
    mask = getattr(process.geometry, "mask", None)
    if mask is None:
        return torch.ones_like(logits)
    thin = mask.flatten(logits.ndim).amax(-1) if mask.ndim > logits.ndim else mask
    return thin.expand_as(logits).to(logits.dtype)


def accuracy(real: Tensor, fake: Tensor) -> Tensor:
    """Share of samples that the discriminator tells right; .55 to .75 is healthy."""
    return ((real > 0).float().mean() + (fake < 0).float().mean()) / 2


def _averaged(elements: Tensor, counted: Tensor) -> Tensor:
    if elements.ndim == 1:
        return elements
    return (elements * counted).flatten(1).sum(1) / counted.flatten(1).sum(1).clamp(min=1)
