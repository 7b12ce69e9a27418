"""A discriminator as an estimate of the log density ratio log p(x_t) / q(x_t): real against the student's.

A discriminator is called ``disc(x_t, t, cond)``, or ``disc(features, t, cond)`` where it says in its ``accepts`` that it
reads "features": activations of a judge, channels last. It returns logits (B,), or one logit per position (B, L): where
a process hides positions, only the hidden ones count (the others' masks have one law in both classes and cancel).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.objectives.corruption import Corrupted, Corruption
from fewstep.objectives.heads import default_disc
from fewstep.processes import TimeLaw
from fewstep.protocol import Batch, Cond, Estimate, Process, Ramp, Role, Roles, Sample, Step, Tree, tree_map

Ask: TypeAlias = Callable[[Tree, Tensor, Cond], Estimate]
"""How the network whose features are read is asked at (x_t, t, cond)."""


@dataclass(frozen=True)
class Adversary:
    """How a discriminator learns, and how the student plays against it.

    Args:
        role: name of the discriminator.
        weight: of the student's loss; 0 = only the density ratio is read.
        disc_weight: of the discriminator's loss beside the fake's.
        features_of: role whose activations a disc that reads "features" is shown; in one call with its estimate.
        features: indices of those activations.
        reference: batch field with the disc's real samples, "x" or "extra.<name>".
        loss: "softplus" = non-saturating (Goodfellow et al. 2014 sec. 3), "saturating" = its minimax form, "hinge" (Lim &
            Ye 2017, as in Sauer et al. 2023 ADD eq. 2). A hinge disc estimates no density ratio.
        smoothing: of the disc's labels.
        r1: weight of the approximate gradient penalty |d(x) - d(x + r1_noise n)|^2 on real samples (Lin et al. 2025 eq. 4).
        r1_noise: size of its step in data units.

    Raises:
        ValueError: if labels are smoothed for a loss that has none.
    """

    role: str = "disc"
    weight: Ramp | float = 1.0
    disc_weight: float = 1.0
    features_of: str | None = None
    features: tuple[int, ...] = (0,)
    reference: str = "x"
    loss: Literal["softplus", "saturating", "hinge"] = "softplus"
    smoothing: float = 0.0
    r1: float = 0.0
    r1_noise: float = 0.1

    def __post_init__(self) -> None:
        """Labels belong to cross-entropy."""
        if self.loss == "hinge" and self.smoothing:
            raise ValueError("the hinge loss has no labels to smooth; set smoothing=0 or loss='softplus'")

    def asked(self, *origins: str | None) -> Mapping[str, Role]:
        """The discriminator's role; where nobody offers one it is made from the first network among ``origins``."""
        names = tuple(name for name in origins if name is not None)
        return {self.role: Role(default=partial(default_disc, self.features_of, self.features, names))}

    def shows(self, name: str | None, roles: Roles) -> tuple[int, ...]:
        """Which activations of role ``name`` the disc reads; none where it reads states."""
        if "features" not in getattr(roles[self.role], "accepts", ()):
            return ()
        if self.features_of is None:
            raise ValueError(
                f"{self.role!r} reads features, but nobody's are named; set features_of to a role such as 'teacher'"
            )
        return self.features if name == self.features_of else ()

    def logits(self, roles: Roles, xt: Tree, t: Tensor, cond: Cond, est: Estimate | None) -> Tensor:
        """(B,) or (B, L); ``est`` carries the features, where they are read."""
        shown = est.features if est is not None and self.shows(self.features_of, roles) else xt
        found: Tensor = roles[self.role](shown, t, cond)
        return found

    def student_loss(self, logit: Tensor) -> Tensor:
        """(B,) loss of the student on per-sample logits."""
        if self.loss == "softplus":
            return F.softplus(-logit)
        return -F.softplus(logit) if self.loss == "saturating" else -logit

    def disc_loss(
        self,
        roles: Roles,
        process: Process,
        seen: Corrupted,
        of_fake: Tensor,
        sample: Sample,
        batch: Batch,
        step: Step,
        ask: Ask | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Reference (label 1) against student (label 0), at the same times, each with its own noise.

        Args:
            roles: hold the disc.
            process: of the judges, without a mask.
            seen: the student's samples, corrupted.
            of_fake: their logits.
            sample: the student's, as data.
            batch: holds the reference.
            step: randomness.
            ask: how the network whose features are read is asked.
        """
        theirs, ours = process.on(sample.mask), process.on(batch.mask)
        # Real samples are told the same step index: a network that reads it must not tell the classes apart by it.
        cond = replace(batch.cond, index=sample.cond.index)
        clean, noise = (
            reference_of(batch, self.reference),
            ours.noise(batch, step.key.at("disc", "reference")),
        )

        def judged(x: Tree) -> tuple[Tensor, Tensor]:
            xt = ours.corrupt(x, noise, seen.t)
            est = ask(xt, seen.t, cond) if ask is not None and self.shows(self.features_of, roles) else None
            logits = self.logits(roles, xt, seen.t, cond, est)
            return logits, counts(ours, logits, xt)

        (of_real, real_counts), fake_counts = judged(clean), counts(theirs, of_fake, seen.xt)
        loss = (self._class(of_real, real_counts, True) + self._class(of_fake, fake_counts, False)) / 2
        right = accuracy(_averaged(of_real.detach(), real_counts), _averaged(of_fake.detach(), fake_counts))
        logs = {"disc": loss.detach(), "disc_accuracy": right}
        if self.r1 == 0.0:
            return loss, logs
        near, _ = judged(_nudged(ours, clean, batch, step, self.r1_noise))
        slope = _averaged((of_real - near).square(), real_counts).mean()
        return loss + self.r1 * slope, {**logs, "r1": slope.detach()}

    def _class(self, logits: Tensor, counted: Tensor, real: bool) -> Tensor:
        if self.loss == "hinge":
            return _averaged(F.relu(1 - logits if real else 1 + logits), counted).mean()
        return class_loss(logits, counted, 1 - self.smoothing if real else self.smoothing)


def log_ratio(
    disc: Any, process: Process, xt: Tree, t: Tensor, cond: Cond, clip: float | None = None
) -> Tensor:
    """(B,) logit, averaged over the positions that count; 0 for a sample in which none does."""
    return per_sample(disc(xt, t, cond), process, xt, clip)


def per_sample(logits: Tensor, process: Process, xt: Tree, clip: float | None = None) -> Tensor:
    """(B,) logits, averaged over the positions that count."""
    return _averaged(logits if clip is None else logits.clamp(-clip, clip), counts(process, logits, xt))


def discriminator_loss(
    disc: nn.Module,
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
    """The cross-entropy of a discriminator that reads states.

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
    adversary, roles = Adversary(reference=reference, smoothing=smoothing), {"disc": disc}
    seen = corruption(process.on(sample.mask), sample, times, step, step.key.at("disc"))
    of_fake = adversary.logits(roles, seen.xt, seen.t, sample.cond, None)
    return adversary.disc_loss(roles, process, seen, of_fake, sample, batch, step)


def reference_of(batch: Batch, name: str) -> Tree:
    """The batch's reference samples.

    Raises:
        ValueError: if the batch does not hold them.
    """
    found = batch.x if name == "x" else batch.extra.get(name.removeprefix("extra."))
    if found is None:
        raise ValueError(
            f"the objective compares with {name!r}, which this batch does not hold; "
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


def _nudged(process: Process, clean: Tree, batch: Batch, step: Step, size: float) -> Tree:
    """Real samples moved a little at random.

    Raises:
        ValueError: if they are discrete.
    """
    nudge = process.noise(batch, step.key.at("disc", "nudge"))

    def move(x: Tensor, n: Tensor) -> Tensor:
        if not x.dtype.is_floating_point:
            raise ValueError(
                "the gradient penalty moves real samples a little; discrete samples cannot move: set r1=0"
            )
        return x + size * n

    return tree_map(move, clean, nudge)
