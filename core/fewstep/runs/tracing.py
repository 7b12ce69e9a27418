"""A student as one graph of tensors: it is traced as it answers the evaluation batch, its noise becoming an input."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from fewstep.errors import FewstepError
from fewstep.protocol import (
    Batch,
    Cond,
    Graph,
    Key,
    Portable,
    Product,
    Sampler,
    Shelf,
    Step,
    Tree,
    tensors,
    tree_map,
)

COUNTS = (2, 3)
"""Samples of the two examples; what differs between them is free in the graph."""


@dataclass(frozen=True)
class Noted(Key):
    """A key that remembers what was drawn from it and from every key below it: (law, numbers)."""

    drawn: list[tuple[str, Tensor]] = field(default_factory=list, compare=False)

    def normal(self, like: Tensor) -> Tensor:
        """As any key's."""
        return self._note("standard normal noise", super().normal(like))

    def uniform(self, shape: Sequence[int], **asked: Any) -> Tensor:
        """As any key's."""
        return self._note("uniform numbers in [0, 1)", super().uniform(shape, **asked))

    def _note(self, law: str, drawn: Tensor) -> Tensor:
        self.drawn.append((law, drawn))
        return drawn


@dataclass(frozen=True)
class Told(Key):
    """A key whose numbers were drawn before, in the order in which they are asked for."""

    given: Iterator[Tensor] = field(default=iter(()), compare=False)

    def normal(self, like: Tensor) -> Tensor:
        """The next."""
        return next(self.given)

    def uniform(self, shape: Sequence[int], **asked: Any) -> Tensor:
        """The next."""
        return next(self.given)


def traced(product: Product, shelf: Shelf, key: Key, contender: str = "student") -> Portable:
    """One graph of what the contender draws, with noise and conditions as inputs.

    Raises:
        FewstepError: the contender needs more than tensors.
    """
    sampler = product.contenders[contender]
    roles = {name: shelf[name] for name in sampler.roles}
    shown = [
        replace(product.evaluation(count, key.at("export", count)), x=None, extra={}) for count in COUNTS
    ]
    try:
        drawn = [_drawn(sampler, roles, batch, key) for batch in shown]
    except Exception as error:
        raise FewstepError(
            f"{contender!r} cannot be drawn from noise and conditions alone: {type(error).__name__}: {error}",
            "a sampler that needs nothing of a batch but its shape and its condition",
            "take --format safetensors, or let the recipe offer Product.portable",
        ) from error
    noise = {f"noise{i or ''}": law for i, (law, _) in enumerate(drawn[0][0])}
    told = _named(_conditions(shown[0]), "cond")
    inputs = [
        (*(x for _, x in noises), *tensors(_conditions(batch)))
        for batch, (noises, _) in zip(shown, drawn, strict=True)
    ]
    module = _Drawing(sampler, roles, shown, inputs, len(noise))
    graph = Graph(
        contender,
        module.eval(),
        noise | dict.fromkeys(told, "condition"),
        dict.fromkeys(_named(drawn[0][1], "sample"), "as fewstep sample draws it"),
        [(given, tensors(x)) for given, (_, x) in zip(inputs, drawn, strict=True)],
    )
    return Portable((graph,))


class _Drawing(nn.Module):
    """Noises and conditions, in order, to the tensors of a sample."""

    def __init__(
        self,
        sampler: Sampler,
        roles: Mapping[str, Any],
        shown: Sequence[Batch],
        inputs: Sequence[Sequence[Tensor]],
        noises: int,
    ) -> None:
        """Networks are registered; everything else is remembered."""
        super().__init__()
        self.sampler, self.roles, self.shown, self.noises = sampler, roles, shown[0], noises
        self.networks = nn.ModuleList(role for role in roles.values() if isinstance(role, nn.Module))
        self.leaves, self.structure = _pytree.tree_flatten(_conditions(shown[0]))
        self.likes = tree_map(
            lambda *leaves: _Like.found(leaves, inputs), shown[0].like, *(b.like for b in shown[1:])
        )

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """As ``traced`` says."""
        rest = iter(given[self.noises :])
        filled = [next(rest) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]
        cond = Cond(*_pytree.tree_unflatten(filled, self.structure))
        like = _pytree.tree_map(lambda one: one.like(given), self.likes)
        step = Step.inference(Told(0, given=iter(given[: self.noises])))
        *_, last = self.sampler.fn(self.roles, Batch(like, cond=cond), step)
        return tuple(tensors(last.x))


@dataclass(frozen=True)
class _Like:
    """A shape told by the inputs: each axis is fixed, or as long as (input, its axis)."""

    axes: tuple[int | tuple[int, int], ...]
    dtype: torch.dtype

    @classmethod
    def found(cls, leaves: Sequence[Tensor], inputs: Sequence[Sequence[Tensor]]) -> _Like:
        axes = (
            lengths[0] if len(set(lengths)) == 1 else _source(lengths, inputs)
            for lengths in zip(*(leaf.shape for leaf in leaves), strict=True)
        )
        return cls(tuple(axes), leaves[0].dtype)

    def like(self, given: Sequence[Tensor]) -> Tensor:
        shape = [axis if isinstance(axis, int) else given[axis[0]].shape[axis[1]] for axis in self.axes]
        return given[0].new_zeros(1, dtype=self.dtype).expand(shape)


def _source(lengths: Sequence[int], inputs: Sequence[Sequence[Tensor]]) -> tuple[int, int]:
    """The first (input, axis) that is as long in every example."""
    for number, same in enumerate(zip(*inputs, strict=True)):
        for axis in range(same[0].ndim):
            if [one.shape[axis] for one in same] == list(lengths):
                return number, axis
    raise FewstepError(
        f"no input of the graph tells the length {lengths} of a state",
        "noise or a condition of that length",
        "let the recipe offer Product.portable",
    )


def _drawn(sampler: Sampler, roles: Mapping[str, Any], batch: Batch, key: Key) -> tuple[list[Any], Tree]:
    """What was asked of the key, and the sample."""
    noted = Noted(key.seed, key.at("export", "draw").path)
    with torch.no_grad():
        *_, last = sampler.fn(roles, batch, Step.inference(noted))
    return noted.drawn, last.x


def _conditions(batch: Batch) -> tuple[Tree, Tree]:
    """What a student is told: data and mask."""
    return batch.cond.data, batch.cond.mask


def _named(tree: Tree, alone: str) -> list[str]:
    """A name for every tensor of a tree; the second part of a pair (data, mask) is the mask."""
    found, _ = _pytree.tree_flatten_with_path(tree)
    names = []
    for path, leaf in found:
        if isinstance(leaf, Tensor):
            words = [re.sub(r"\W", "", str(part)) for part in path]
            if isinstance(tree, tuple):
                words = ["mask", *words[1:]] if words[0] == "1" else words[1:]
            names.append("_".join(words) or alone)
    return names
