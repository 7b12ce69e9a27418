"""Distances of two estimates: small pure functions ``(geometry, a, b, at) -> (B,)`` over real elements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from fewstep.protocol import Estimate, Geometry, Tree, tree_map

Distance: TypeAlias = Callable[[Geometry, Estimate, Estimate, Tree], Tensor]


def l2(geometry: Geometry, a: Estimate, b: Estimate, at: Tree) -> Tensor:
    """(B,) squared distance; KL(b | a) where estimates are laws."""
    return geometry.distance(a, b)


def l1(geometry: Geometry, a: Estimate, b: Estimate, at: Tree) -> Tensor:
    """(B,) absolute difference."""
    gap = geometry.difference(a, b, at)
    return geometry.inner(tree_map(torch.abs, gap), tree_map(torch.ones_like, gap))


@dataclass(frozen=True)
class PseudoHuber:
    """sqrt(d + c^2) - c of the squared distance d of one sample (Song & Dhariwal 2024 eq. 7).

    The paper sums over the event and takes c = 0.00054 sqrt(numel); with the mean over elements c is 0.00054.
    """

    c: float = 5.4e-4

    def __call__(self, geometry: Geometry, a: Estimate, b: Estimate, at: Tree) -> Tensor:
        """(B,)."""
        return (geometry.distance(a, b) + self.c**2).sqrt() - self.c


def pseudo_huber(c: float = 5.4e-4) -> PseudoHuber:
    """The pseudo-Huber distance with its bend at ``c``."""
    return PseudoHuber(c)
