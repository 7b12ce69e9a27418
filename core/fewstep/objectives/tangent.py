"""The derivative of a network along a direction, without a graph: in forward mode, as a difference, or half and half.

All three share one signature, ``(fn, primals, tangents) -> derivative``: ``fn(state, *times)`` gives a tree, a tangent
of None stands still. Continuous-time objectives stop the gradient at this derivative, so none is ever built through it.
Dropout draws the same numbers in every pass of a difference.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from fewstep.objectives.rollout import forked
from fewstep.protocol import Tree, tensors, tree_map

Function: TypeAlias = Callable[..., Tree]
Derivative: TypeAlias = Callable[[Function, Sequence[Tree], Sequence[Tree | None]], Tree]


def jvp(fn: Function, primals: Sequence[Tree], tangents: Sequence[Tree | None]) -> tuple[Tree, Tree]:
    """The value, and its exact derivative by dual numbers.

    ``torch.func.jvp`` would do but for sharded parameters, which it cannot enter; dual numbers under ``no_grad`` can.
    """
    with _plain(primals), forward_ad.dual_level():
        out = fn(*(_dual(primal, tangent) for primal, tangent in zip(primals, tangents, strict=True)))
        value = tree_map(lambda leaf: forward_ad.unpack_dual(leaf).primal, out)
        return value, tree_map(_tangent, out)


def forward(fn: Function, primals: Sequence[Tree], tangents: Sequence[Tree | None]) -> Tree:
    """Forward mode: exact, one pass that costs about four plain ones (benchmarks/jvp.py)."""
    return jvp(fn, primals, tangents)[1]


@dataclass(frozen=True)
class Difference:
    """Central difference along the path, for networks with operations that have no forward mode; two plain passes.

    Args:
        step: how far to each side, in units of the tangents; None = the cube root of the state's machine precision.
    """

    step: float | None = None

    def __call__(self, fn: Function, primals: Sequence[Tree], tangents: Sequence[Tree | None]) -> Tree:
        """Error O(step^2)."""
        h = self.step or _precision(primals) ** (1 / 3)
        with _plain(primals):
            with forked():
                ahead = fn(*_moved(primals, tangents, h))
            behind = fn(*_moved(primals, tangents, -h))
        return tree_map(lambda a, b: (a - b) / (2 * h), ahead, behind)


@dataclass(frozen=True)
class SemiContinuous:
    """Forward mode in the state, a backward difference in the times (Zheng et al. 2025 rCM sec. 3).

    For networks whose time embedding has no forward mode or is too steep for it. The authors' quotient
    (cos h F(t) - F(t - h)) / sin h agrees with this one to O(h), the error of both.

    Args:
        step: of the difference, in units of the tangents; None = the square root of the state's machine precision.
    """

    step: float | None = None

    def __call__(self, fn: Function, primals: Sequence[Tree], tangents: Sequence[Tree | None]) -> Tree:
        """One forward-mode pass and a plain one; error O(step)."""
        h = self.step or _precision(primals) ** (1 / 2)
        state, times = primals[:1], primals[1:]
        with forked():
            value, slope = jvp(fn, primals, (tangents[0], *(None for _ in times)))
        with _plain(primals):
            behind = fn(*state, *_moved(times, tangents[1:], -h))
        return tree_map(lambda s, v, b: s + (v - b) / h, slope, value, behind)


def _precision(primals: Sequence[Tree]) -> float:
    return torch.finfo(tensors(primals[0])[0].dtype).eps


@contextlib.contextmanager
def _plain(primals: Sequence[Tree]) -> Iterator[None]:
    """No graph, no reduced precision, and attention by its formula: fused kernels have no forward mode on any device."""
    device = tensors(primals[0])[0].device.type
    with torch.no_grad(), torch.autocast(device, enabled=False), sdpa_kernel(SDPBackend.MATH):
        yield


def _dual(primal: Tree, tangent: Tree | None) -> Tree:
    if tangent is None:
        return primal
    return tree_map(lambda p, d: forward_ad.make_dual(p, d.to(p.dtype)), primal, tangent)


def _tangent(leaf: Tensor) -> Tensor:
    """What does not depend on the path has no tangent."""
    found: Tensor | None = forward_ad.unpack_dual(leaf).tangent
    return torch.zeros_like(leaf) if found is None else found


def _moved(primals: Sequence[Tree], tangents: Sequence[Tree | None], by: float) -> list[Tree]:
    """The point ``by`` further along the path; summed in float64 and rounded once."""

    def move(p: Tensor, d: Tensor) -> Tensor:
        return (p.double() + by * d.double()).to(p.dtype)

    return [p if d is None else tree_map(move, p, d) for p, d in zip(primals, tangents, strict=True)]
