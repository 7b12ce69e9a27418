"""One contender made of several students, each serving its part of the conditions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fewstep.protocol import Batch, Cond, Roles, Sampler, State, Step, Tree, tree_map


def router_sampler(
    partition: Callable[[Cond], Tensor], students: Sequence[str], steps: int | None = None
) -> Sampler:
    """Look up who serves each row; every student is called on its own rows only, and not at all if it has none.

    Shares its initial noise with the other contenders, row by row.

    Args:
        partition: condition -> (B,) int64 number of the student.
        students: shelf names, by number.
        steps: of every student; its own number by default.

    Raises:
        ValueError: while drawing, if the partition names a student that is not there.
    """

    def draw(roles: Roles, batch: Batch, step: Step) -> Iterator[State]:
        part = partition(batch.cond)
        if int(part.max()) >= len(students) or int(part.min()) < 0:
            raise ValueError(
                f"the partition names students {sorted(set(part.tolist()))}, but there are {len(students)}: "
                f"{', '.join(students)}; use the partition that they were trained with"
            )
        served, drawn = [], []
        for i, name in enumerate(students):
            mine = (part == i).nonzero().squeeze(1)
            if len(mine):
                served.append(mine)
                drawn.append(_part(roles[name], batch, mine, step, i, steps))
        back = torch.cat(served).argsort()
        x = tree_map(lambda *leaves: torch.cat(leaves)[back], *drawn)
        yield State(x, torch.zeros(len(back), dtype=torch.float64, device=back.device))

    return Sampler(draw, tuple(students), lambda count: router_sampler(partition, students, count))


def _part(student: Any, batch: Batch, mine: Tensor, step: Step, number: int, steps: int | None) -> Tree:
    """The samples of one student for its rows, from their share of the whole batch's noise."""
    noise = tree_map(lambda leaf: leaf[mine], student.process.noise(batch, step.key.at("noise")))
    inner = replace(step, key=step.key.at("part", number))
    return student.sample(batch.take(mine), inner, noise=noise, steps=steps).x
