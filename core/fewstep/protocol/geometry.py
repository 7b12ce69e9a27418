"""Seam 1a: what a state is, apart from time and noise.

Shape legend: B batch, ... event dimensions, L positions, V vocabulary. Masks broadcast over a state, True = real.
A geometry has its batch's mask *bound* (``geometry.on(mask)``): no other code reduces over events, so no mean can
forget the padding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Protocol, Self, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from fewstep.protocol.tree import Tree
from fewstep.protocol.values import Estimate, Sample


@runtime_checkable
class Geometry(Protocol):
    """Projection, differences and inner products of one kind of state."""

    def on(self, mask: Tree) -> Self:
        """This geometry with a batch's mask bound."""
        ...

    def project(self, x: Tree) -> Tree:
        """Onto the set of legal states; applied where noise is made and where a network output becomes x0."""
        ...

    def difference(self, a: Estimate, b: Estimate, at: Tree) -> Tree:
        """The tangent that points from ``b`` to ``a``: a - b, log p_a - log p_b, or a log map at ``at``."""
        ...

    def coordinates(self, sample: Sample) -> Tree:
        """The differentiable thing that a direction is paired with: x, or probabilities."""
        ...

    def inner(self, x: Tree, direction: Tree) -> Tensor:
        """(B,) masked inner product of coordinates and a direction."""
        ...

    def distance(self, a: Estimate, b: Estimate) -> Tensor:
        """(B,) squared distance of two estimates, or KL(b || a) where estimates are laws."""
        ...

    def nll(self, est: Estimate, x0: Tree, at: Tree = None) -> Tensor:
        """(B,) proper scoring rule of an estimate against the clean state.

        ``at`` is the noisy state where the estimate was made: curved geometries take the residual in its tangent space.
        """
        ...


@dataclass(frozen=True)
class Euclidean:
    """Vectors. ``reduction`` says whether event sums are means over real elements (default) or plain sums."""

    reduction: Literal["mean", "sum"] = "mean"
    mask: Tensor | None = None

    def on(self, mask: Tree) -> Self:
        """Bind a mask that broadcasts over states."""
        return self if mask is self.mask else replace(self, mask=mask)

    def project(self, x: Tensor) -> Tensor:
        """Zero where the mask is False."""
        return x if self.mask is None else x * self.mask

    def difference(self, a: Estimate, b: Estimate, at: Tensor) -> Tensor:
        """The plain difference a - b."""
        return self.project(a.x0 - b.x0)

    def coordinates(self, sample: Sample) -> Tensor:
        """The sample itself."""
        x: Tensor = sample.x
        return x

    def inner(self, x: Tensor, direction: Tensor) -> Tensor:
        """(B,) sum or mean of x * direction over real elements."""
        return self.reduce(x * direction)

    def distance(self, a: Estimate, b: Estimate) -> Tensor:
        """(B,) squared distance."""
        return self.reduce((a.x0 - b.x0).square())

    def nll(self, est: Estimate, x0: Tensor, at: Tree = None) -> Tensor:
        """(B,) squared error."""
        return self.reduce((est.x0 - x0).square())

    def reduce(self, elements: Tensor) -> Tensor:
        """(B, ...) -> (B,) over real elements only."""
        if self.mask is None:
            flat = elements.flatten(1)
            return flat.mean(1) if self.reduction == "mean" else flat.sum(1)
        real = self.mask.expand_as(elements).to(elements.dtype)
        total = (elements * real).flatten(1).sum(1)
        return total / real.flatten(1).sum(1).clamp(min=1) if self.reduction == "mean" else total


@dataclass(frozen=True)
class Centered(Euclidean):
    """Point sets (B, N, d) whose real points have zero mean: translations are quotiented out."""

    def project(self, x: Tensor) -> Tensor:
        """Subtract the mean of the real points, then zero the padding."""
        if self.mask is None:
            return x - x.mean(-2, keepdim=True)
        if x.dtype not in self._real:
            real = self.mask.to(x.dtype)
            self._real[x.dtype] = real, real.sum(-2, keepdim=True).clamp(min=1)
        real, count = self._real[x.dtype]
        return (x - (x * real).sum(-2, keepdim=True) / count) * real

    @cached_property
    def _real(self) -> dict[torch.dtype, tuple[Tensor, Tensor]]:
        """The mask as numbers, and how many points are real: counted once for all steps of a sampler."""
        return {}


@dataclass(frozen=True)
class Categorical:
    """Token ids (B, L) int64; estimates are logits (B, L, V). A mask is (B, L)."""

    reduction: Literal["mean", "sum"] = "mean"
    mask: Tensor | None = None

    def on(self, mask: Tree) -> Self:
        """Bind a mask (B, L)."""
        return replace(self, mask=mask)

    def project(self, x: Tensor) -> Tensor:
        """Ids and logits are legal as they are."""
        return x

    def difference(self, a: Estimate, b: Estimate, at: Tensor) -> Tensor:
        """(B, L, V) log p_a - log p_b."""
        return F.log_softmax(a.x0, -1) - F.log_softmax(b.x0, -1)

    def coordinates(self, sample: Sample) -> Tensor:
        """(B, L, V) probabilities of the sample's last estimate.

        Raises:
            ValueError: if the sample carries no estimate.
        """
        if sample.est is None:
            raise ValueError(
                "a categorical sample without its last estimate has no pathwise gradient; "
                "let the student return Sample.est, or use an objective that reads Sample.logp"
            )
        return torch.softmax(sample.est.x0, -1)

    def inner(self, x: Tensor, direction: Tensor) -> Tensor:
        """(B,) expectation of the direction under x, reduced over real positions."""
        return self.reduce((x * direction).sum(-1))

    def distance(self, a: Estimate, b: Estimate) -> Tensor:
        """(B,) KL(p_b || p_a)."""
        log_a, log_b = F.log_softmax(a.x0, -1), F.log_softmax(b.x0, -1)
        return self.reduce((log_b.exp() * (log_b - log_a)).sum(-1))

    def nll(self, est: Estimate, x0: Tensor, at: Tree = None) -> Tensor:
        """(B,) cross-entropy."""
        return self.reduce(F.cross_entropy(est.x0.movedim(-1, 1), x0, reduction="none"))

    def reduce(self, elements: Tensor) -> Tensor:
        """(B, L) -> (B,) over real positions only."""
        return Euclidean(self.reduction, self.mask).reduce(elements)
