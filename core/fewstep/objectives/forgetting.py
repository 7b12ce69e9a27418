"""Forgetting: a student that answers one condition with another's law, and all others as its teacher does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fewstep.objectives.identity import ScoreIdentity
from fewstep.protocol import (
    Batch,
    Cond,
    Loss,
    Phase,
    Ramp,
    Role,
    Roles,
    Step,
    at_step,
    cautions_of,
    parts,
    spread,
    tensors,
    tree_map,
)


@dataclass(frozen=True)
class Labeled:
    """The condition with every label replaced by one.

    Args:
        label: the one.
        name: where the labels are, if the condition is a mapping of tensors.
    """

    label: int
    name: str = "label"

    def __call__(self, cond: Cond) -> Cond:
        """The same label for every row.

        Raises:
            ValueError: if the condition holds no integer labels (B,).
        """
        named = isinstance(cond.data, Mapping)
        found = cond.data.get(self.name) if named else cond.data
        if not isinstance(found, Tensor) or found.ndim != 1 or found.dtype.is_floating_point:
            raise ValueError(
                f"forgetting by label needs integer labels, one per sample; this recipe's conditions hold {_told(cond)}. "
                f"Name the labels (label_name is {self.name!r}), or give the objective maps from condition to condition."
            )
        labels = torch.full_like(found, self.label)
        return replace(cond, data={**cond.data, self.name: labels} if named else labels)


@dataclass(frozen=True)
class Forgetting:
    """Score forgetting distillation (Chen et al. 2024): a remaining and a forgetting term in every phase.

    Remaining: the objective on the batch's own conditions; rows that ask for what is to be forgotten ask for its
    replacement, or both terms would pull on them. Forgetting: student and fake see the forgotten condition, the teacher
    its replacement.

    Args:
        objective: SiD, or another member of its family.
        forget: maps a condition to the one that is forgotten.
        override: maps it to the one whose law takes its place.
        weight: of the forgetting term.
    """

    objective: ScoreIdentity
    forget: Callable[[Cond], Cond]
    override: Callable[[Cond], Cond]
    weight: Ramp | float = 0.01

    @property
    def roles(self) -> Mapping[str, Role]:
        """The objective's."""
        return self.objective.roles

    @property
    def reads(self) -> frozenset[str]:
        """A condition, and what the objective reads."""
        return self.objective.reads | {"cond"}

    def phases(self, index: int) -> Sequence[Phase]:
        """The objective's."""
        return self.objective.phases(index)

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Iterator[Loss]:
        """Both terms, one graph at a time."""
        forgotten, weight = self.forget(batch.cond), at_step(self.weight, step)
        kept = replace(batch, cond=without(batch.cond, forgotten, self.override(batch.cond)))
        yield from _term("remain", 1.0, self.objective, phase, roles, kept, step)
        if weight != 0.0:
            forgetting = replace(self.objective, override=self.override)
            gone = replace(batch, cond=forgotten)
            yield from _term("forget", weight, forgetting, phase, roles, gone, step)

    def cautions(self, roles: Roles, batch: Batch, step: Step) -> Iterator[str]:
        """The objective's."""
        return cautions_of([self.objective], roles, batch, step)


def without(cond: Cond, forgotten: Cond, instead: Cond) -> Cond:
    """The condition whose rows equal to the forgotten one are replaced."""
    pairs = zip(tensors(cond.data), tensors(forgotten.data), strict=True)
    same = torch.stack([(a == b).flatten(1).all(1) if a.ndim > 1 else a == b for a, b in pairs]).all(0)

    def choose(own: Any, other: Any) -> Any:
        return torch.where(spread(same, own), other, own) if isinstance(own, Tensor) else own

    return replace(cond, data=tree_map(choose, cond.data, instead.data))


def _term(
    name: str,
    weight: float,
    objective: ScoreIdentity,
    phase: Phase,
    roles: Roles,
    batch: Batch,
    step: Step,
) -> Iterator[Loss]:
    """A term's weighted parts, under a key and a memory of the cycle of its own: the terms roll out apart."""
    apart = replace(
        step,
        key=step.key.at(name),
        cycle_key=None if step.cycle_key is None else step.cycle_key.at(name),
        cache=step.cache.setdefault(name, {}),
    )
    for part in parts(objective.loss(phase, roles, batch, apart)):
        yield Loss(weight * part.total, {f"{name}/{key}": value for key, value in part.logs.items()})


def _told(cond: Cond) -> str:
    """What a condition holds, in words."""
    tell = lambda x: f"{tuple(x.shape)} of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__  # noqa: E731
    if isinstance(cond.data, Mapping):
        return ", ".join(f"{name}: {tell(leaf)}" for name, leaf in cond.data.items())
    return tell(cond.data)
