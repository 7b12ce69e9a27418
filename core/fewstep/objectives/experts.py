"""Several students, each for a part of the conditions (multi-student distillation, Song et al. 2024 MSD).

A partition maps a condition to the number of its part. Each part is a stage of its own, on a source that shows only
its conditions; at inference a router looks up who serves each row (:func:`fewstep.samplers.router_sampler`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fewstep.protocol import Assembly, Batch, Cond, Key, Shelf, Source, Stage, rows, tree_map

Partition: TypeAlias = Callable[[Cond], Tensor]
"""Condition -> (B,) int64 number of the part, in [0, M)."""


@dataclass(frozen=True)
class ByLabel:
    """Parts of integer labels (B,).

    Args:
        table: part of each label.
        field: where ``cond.data`` holds the labels; None = it is them.
    """

    table: tuple[int, ...]
    field: str | None = None

    def __call__(self, cond: Cond) -> Tensor:
        """(B,) parts."""
        labels: Tensor = cond.data if self.field is None else cond.data[self.field]
        return torch.tensor(self.table, device=labels.device)[labels]


@dataclass(frozen=True, eq=False)
class ByCentroid:
    """Parts of embeddings (B, d): the nearest centroid.

    Args:
        centroids: (M, d).
        field: where ``cond.data`` holds the embeddings; None = it is them.
    """

    centroids: Tensor
    field: str | None = None

    def __call__(self, cond: Cond) -> Tensor:
        """(B,) parts."""
        found: Tensor = cond.data if self.field is None else cond.data[self.field]
        return torch.cdist(found, self.centroids.to(found)).argmin(1)


def k_means(points: Tensor, parts: int, key: Key, rounds: int = 50) -> Tensor:
    """(M, d) centroids of points (N, d): Lloyd's rounds from a k-means++ beginning (Arthur & Vassilvitskii 2007).

    Raises:
        ValueError: if there are fewer different points than parts.
    """
    if len(points.unique(dim=0)) < parts:
        raise ValueError(f"{len(points.unique(dim=0))} different points cannot make {parts} parts")
    centroids = points[key.at("first").integer(len(points))].unsqueeze(0)
    for i in range(1, parts):
        far = torch.cdist(points, centroids).amin(1).square().double().cumsum(0)
        mark = key.whole().at("next", i).uniform((1,)).to(far.device) * far[-1]
        chosen = torch.searchsorted(far, mark, right=True).clamp(max=len(points) - 1)
        centroids = torch.cat([centroids, points[chosen]])
    for _ in range(rounds):
        nearest = torch.cdist(points, centroids).argmin(1)
        means = [points[nearest == i].mean(0) if (nearest == i).any() else c for i, c in enumerate(centroids)]
        if torch.equal(moved := torch.stack(means), centroids):
            break
        centroids = moved
    return centroids


@dataclass(frozen=True)
class PartSource:
    """The rows of a source that fall into one part, at full batch size; a pure function of the counter.

    Batch ``index`` is gathered from the source's batches ``index * reach ... (index + 1) * reach - 1``; if they hold
    too few rows of the part, those they hold are repeated.

    Args:
        source: of all conditions.
        partition: says which part a row belongs to.
        part: the one to keep.
        reach: batches to look through, about twice the number of parts.

    Raises:
        ValueError: from ``batch``, if no row of the part is found within reach.
    """

    source: Source
    partition: Partition
    part: int
    reach: int = 8

    def batch(self, index: int, key: Key) -> Batch:
        """As many rows as the source's own batch has."""
        found: list[Batch] = []
        wanted = held = 0
        for i in range(self.reach):
            seen = self.source.batch(index * self.reach + i, key)
            mine = (self.partition(seen.cond) == self.part).nonzero().squeeze(1)
            wanted = rows(seen.like)
            if len(mine):
                found.append(seen.take(mine))
                held += len(mine)
            if held >= wanted:
                break
        if not held:
            raise ValueError(
                f"none of {self.reach} batches has a row of part {self.part}; is the part empty? Else raise reach"
            )
        return _joined(found).take(torch.arange(wanted) % held)


def experts(
    name: str, parts: int, build: Callable[[int, Shelf], Assembly], steps: int, role: str = "student"
) -> tuple[Stage, ...]:
    """One training stage for each part; part i leaves its student on the shelf as "student/i".

    Args:
        name: of the stages: "name-0", "name-1", ...
        parts: M.
        build: (part, shelf) -> its assembly, with a :class:`PartSource` of that part.
        steps: training cycles of each.
        role: what each stage leaves.
    """

    def builder(part: int) -> Callable[[Shelf], Assembly]:
        return lambda shelf: build(part, shelf)

    return tuple(Stage(f"{name}-{i}", builder(i), steps, {role: f"{role}/{i}"}) for i in range(parts))


def _joined(batches: list[Batch]) -> Batch:
    """Rows one after another; what has no row for each sample is the first batch's."""
    first = batches[0]
    if len(batches) == 1:
        return first
    sizes = [rows(batch.like) for batch in batches]

    def join(*leaves: Any) -> Any:
        own = all(
            isinstance(x, Tensor) and x.ndim and len(x) == n for x, n in zip(leaves, sizes, strict=True)
        )
        return torch.cat(leaves) if own else leaves[0]

    def of(part: Callable[[Batch], Any]) -> Any:
        return tree_map(join, *(part(batch) for batch in batches))

    cond = Cond(of(lambda b: b.cond.data), of(lambda b: b.cond.mask), of(lambda b: b.cond.index))
    return Batch(of(lambda b: b.like), of(lambda b: b.x), cond, of(lambda b: dict(b.extra)))
