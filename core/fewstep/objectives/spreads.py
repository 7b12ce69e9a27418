"""How wide a student and its teacher are: what an objective that dislikes wide students looks at before training."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fewstep.protocol import Batch, Estimate, Key, Tree, rows, tensors, tree_map


def variance(geometry: Any, x: Tree, mask: Tree = None) -> float:
    """Variance over the batch, per real element; ``mask`` is the one that the geometry has bound."""
    center = _center(x, mask)
    ones = tree_map(torch.ones_like, x)
    square = geometry.distance(Estimate(x), Estimate(center)) / geometry.inner(ones, ones)
    return float(square.mean()) * rows(x) / max(1, rows(x) - 1)


def teacher_variance(process: Any, ask: Callable[[Tree, Tensor], Estimate], batch: Batch, key: Key) -> float:
    """Of the batch's clean states, or where it has none of what the teacher draws in 32 DDIM steps.

    Args:
        process: with ``grid`` and ``jump``, and the batch's mask bound.
        ask: (x_t, t) -> the teacher's estimate.
        batch: shape, condition and perhaps data.
        key: of the initial noise.
    """
    if batch.x is not None:
        return variance(process.geometry, batch.x, batch.mask)
    noise = process.noise(batch, key)
    times = process.grid(32).to(tensors(noise)[0].device)
    x = process.corrupt(None, noise, times[0].expand(rows(noise)))
    for now, then in itertools.pairwise(times):
        t, s = (time.expand(rows(noise)) for time in (now, then))
        x = process.jump(x, ask(x, t), t, s)
    return variance(process.geometry, x, batch.mask)


def _center(x: Tree, mask: Tree) -> Tree:
    """The mean over the rows in which an element is real, in every row."""
    if not isinstance(x, Tensor):
        return {name: _center(leaf, (mask or {}).get(name)) for name, leaf in x.items()}
    real = torch.ones_like(x) if mask is None else mask.expand_as(x).to(x.dtype)
    return ((x * real).sum(0) / real.sum(0).clamp(min=1)).expand_as(x)
