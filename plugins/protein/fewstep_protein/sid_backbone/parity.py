"""How near a contender comes to its teacher, rather than to nature: what distillation can be held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from fewstep.protocol import Batch, Key, Metric, Score

COMPARED = ("rg_distance", "dihedral_distance", "secondary_distance", "pair_distance")
"""Distances to real chains that are also measured to the teacher's chains of the same lengths."""


def to_teacher(metrics: Sequence[Metric], teacher: str = "teacher") -> tuple[Metric, ...]:
    """``rg_to_teacher`` and so on: distances in which the chains of the contender ``teacher`` stand for real ones."""
    known = {metric.name: metric for metric in metrics}
    return tuple(_to(known[name], teacher) for name in COMPARED)


def _to(metric: Metric, teacher: str) -> Metric:
    def measure(x: Tensor, batch: Batch, key: Key) -> Score:
        # Without the teacher's chains beside them, samples are held against real ones.
        like = batch.extra.get("drawn", {}).get(teacher, batch.x)
        return metric.fn(x, replace(batch, x=like), key)

    name = metric.name.replace("_distance", "_to_teacher")
    about = metric.description.replace("real", "the teacher's")
    return replace(metric, name=name, fn=measure, description=about)
