"""Denoising: how teachers and fakes learn what was there before the noise.

L = mean_b w(t_b) S(D(x_t), x0) with S the proper score of the geometry: squared error (Vincent 2011 eq. 11),
cross-entropy for categorical states (Sahoo et al. 2024 eq. 8).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.objectives.corruption import draw_times
from fewstep.objectives.weights import Weight, one
from fewstep.processes import TimeLaw
from fewstep.protocol import (
    Batch,
    Cond,
    Estimate,
    Geometry,
    Key,
    Loss,
    Phase,
    Role,
    Roles,
    Step,
    Tree,
    spread,
    tree_map,
)


@dataclass(frozen=True)
class Denoising:
    """Train one denoiser on data.

    Args:
        times: law of the times.
        weight: of the loss in x0 units.
        role: the denoiser that learns.
        leading: leading dimensions of a state that have a time of their own: 1 = one time per sample, 2 = one per
            frame or block (diffusion forcing, Chen et al. 2024).
        null: maps a condition to its unconditional twin; for teachers that will be guided.
        drop: probability that a sample sees the unconditional twin (Ho & Salimans 2022).
    """

    times: TimeLaw
    weight: Weight = one
    role: str = "student"
    leading: int = 1
    null: Callable[[Cond], Cond] | None = None
    drop: float = 0.0

    @property
    def roles(self) -> Mapping[str, Role]:
        """The denoiser alone."""
        return {self.role: Role(kind=nn.Module)}

    @property
    def reads(self) -> frozenset[str]:
        """Clean states."""
        return frozenset({"x"})

    def phases(self, index: int) -> Sequence[Phase]:
        """One update."""
        return (Phase(self.role, (self.role,)),)

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss:
        """Weighted proper score at a drawn time."""
        model: Any = roles[self.role]
        process = model.process.on(batch.mask)
        t = draw_times(self.times, batch.x, step, step.key.at("time"), self.leading)
        xt = process.corrupt(batch.x, process.noise(batch, step.key.at("noise")), t)
        est = model(xt, t, self._shown(batch.cond, step.key.at("drop"), t))
        total = weighted_nll(process.geometry, est, batch.x, self.weight(process, t), xt).mean()
        return Loss(total, {"loss": total.detach()})

    def _shown(self, cond: Cond, key: Key, t: Tensor) -> Cond:
        if self.null is None or self.drop == 0.0:
            return cond
        return forget(cond, self.null, key.uniform((t.shape[0],)).to(t.device) < self.drop)


def forget(cond: Cond, null: Callable[[Cond], Cond], gone: Tensor) -> Cond:
    """The condition, replaced by its unconditional twin where ``gone`` (B,) is true."""
    if cond.data is None:
        return cond
    mixed = tree_map(lambda c, u: torch.where(spread(gone, c), u, c), cond.data, null(cond).data)
    return replace(cond, data=mixed)


def weighted_nll(geometry: Geometry, est: Estimate, x0: Tree, weight: Tensor, at: Tree = None) -> Tensor:
    """(B,) weighted proper score; ``at`` is the noisy state, as in ``Geometry.nll``.

    A weight (B,) multiplies the score. A weight with more dimensions (one per frame) enters each squared residual,
    which only squared errors allow.

    Raises:
        ValueError: if per-element weights meet a categorical state.
    """
    if weight.ndim == 1:
        score = geometry.nll(est, x0, at)
        return weight.to(score.dtype) * score
    root = weight.sqrt()
    return geometry.nll(Estimate(tree_map(lambda d, x: _pulled(d, x, root), est.x0, x0)), x0)


def _pulled(estimate: Tensor, x0: Tensor, root: Tensor) -> Tensor:
    if not x0.dtype.is_floating_point:
        raise ValueError(
            "a weight per frame or block needs a squared error; categorical states take one per sample"
        )
    return x0 + spread(root.to(x0.dtype), x0) * (estimate - x0)
