"""Trees of tensors: a state may be one tensor or a mapping of tensors, and core treats both alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils import _pytree

Tree: TypeAlias = Any
"""A tensor, or a (nested) mapping or sequence of tensors whose first dimension is the batch."""


def tree_map(fn: Callable[..., Any], tree: Tree, *rest: Tree) -> Tree:
    """Apply ``fn`` leaf by leaf over trees of one structure; most trees are one tensor, which is done at once."""
    if isinstance(tree, Tensor):
        return fn(tree, *rest)
    return _pytree.tree_map(fn, tree, *rest)


def tensors(tree: Tree) -> list[Tensor]:
    """All tensor leaves of a tree, in a fixed order."""
    if isinstance(tree, Tensor):
        return [tree]
    return [leaf for leaf in _pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def to(tree: Tree, device: torch.device | str) -> Tree:
    """The tree with every tensor on ``device``; other leaves are untouched."""
    return tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, tree)


def detach(tree: Tree) -> Tree:
    """The tree with every tensor cut from its graph."""
    return tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, tree)


def rows(tree: Tree) -> int:
    """Batch size: the length of the first tensor's first dimension.

    Raises:
        ValueError: if the tree holds no tensor.
    """
    leaves = tensors(tree)
    if not leaves:
        raise ValueError("a state must hold at least one tensor; this tree holds none")
    return leaves[0].shape[0]  # not through int(): an exported graph keeps it open


def spread(value: Tensor, like: Tensor) -> Tensor:
    """Append singleton dimensions so that ``value`` (leading dims of ``like``) broadcasts over ``like``.

    Keeps the dtype of ``value``: coefficients stay float64 until they meet a state.
    """
    return value.reshape(value.shape + (1,) * (like.ndim - value.ndim))
