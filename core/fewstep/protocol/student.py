"""Seam 2: how samples come, and how a gradient reaches the student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from fewstep.protocol.geometry import Geometry
from fewstep.protocol.process import Process
from fewstep.protocol.tree import Tree, detach
from fewstep.protocol.values import Batch, Cond, Estimate, Sample, Step


@runtime_checkable
class Student(Protocol):
    """A module that puts samples forward. What it does to make one (a network, a render, a rollout) is its own."""

    def generate(
        self, batch: Batch, step: Step, *, noise: Tree | None = None, steps: int | None = None
    ) -> Sample:
        """A *training* sample with its gradient; it may be a random prefix of the roll.

        Args:
            batch: says the shape (``like``) and the condition; ``x`` is ignored.
            step: randomness comes from ``step.key`` only.
            noise: the initial noise, where the caller must know it.
            steps: how many network steps; the student's own number by default.
        """
        ...

    def sample(
        self, batch: Batch, step: Step, *, noise: Tree | None = None, steps: int | None = None
    ) -> Sample:
        """A finished sample: the whole roll, for inference."""
        ...


@runtime_checkable
class Stochastic(Student, Protocol):
    """A student whose samples carry a probability."""

    def logp(self, sample: Sample, batch: Batch) -> Float[Tensor, "B K"]:
        """(B, K) log-probability of the sample's path, step by step, under *these* weights."""
        ...


@runtime_checkable
class Stepwise(Student, Protocol):
    """A student that walks from start time to start time, and may be asked for a clean estimate at each."""

    @property
    def process(self) -> Process:
        """How its states are corrupted."""
        ...

    @property
    def times(self) -> Sequence[float]:
        """Decreasing start times of its steps."""
        ...

    def ask(self, x: Tree, which: Tensor, cond: Cond) -> Estimate:
        """The clean estimate for states that stand at the times of its steps ``which`` (B,)."""
        ...


@dataclass(frozen=True)
class Regrow:
    """How one parameter changes its rows: keep some, append others."""

    parameter: str
    keep: Tensor
    append: Tensor | None = None


@runtime_checkable
class Growing(Student, Protocol):
    """A student whose parameters change shape (scenes). It returns edits; the engine makes them."""

    def regrow(self, step: Step) -> Sequence[Regrow]:
        """The edits to make after this step; empty most of the time."""
        ...

    def resize(self, shapes: Mapping[str, torch.Size]) -> None:
        """Take these parameter shapes before a checkpoint is loaded."""
        ...


def pathwise(
    sample: Sample, direction: Tree, geometry: Geometry, weight: Float[Tensor, " B"] | float = 1.0
) -> Float[Tensor, " "]:
    """Scalar whose gradient moves the sample against ``direction``: mean over the batch of w <coordinates, sg(d)>.

    The inner-product form has the gradient of 1/2 |x - sg(x - d)|^2 without assuming a flat space, and a weight
    enters once, not squared.

    Args:
        sample: with its graph.
        direction: descent direction in coordinates (x units, or logit differences); its graph is cut here.
        geometry: with the sample's mask bound.
        weight: (B,) or a number; cut from its graph.
    """
    if isinstance(weight, Tensor):
        weight = weight.detach()
    return (weight * geometry.inner(geometry.coordinates(sample), detach(direction))).mean()


def reinforce(
    sample: Sample, reward: Float[Tensor, " B"], baseline: Float[Tensor, " B"] | float
) -> Float[Tensor, " "]:
    """Score-function surrogate: minus the mean of (reward - baseline) log p (Williams 1992).

    Args:
        sample: carries ``logp`` (B, K) with its graph.
        reward: (B,).
        baseline: (B,) or a number; must not depend on the row it is subtracted from, or the estimate is biased.

    Raises:
        ValueError: if the sample carries no log-probability.
    """
    if sample.logp is None:
        raise ValueError(
            "this sample was mapped, not drawn: it has no logp, so the score-function gradient does not exist; "
            "use a pathwise objective, or a student that samples"
        )
    advantage = (reward - baseline).detach()
    return -(advantage * sample.logp.sum(1)).mean()
