"""What keeps a long distillation stable: a fake that begins again, and learning rates that restart with it.

Xie et al. 2025 copy the fake from the teacher again after every 400,000 generated chains; all rates follow cosines with
warm restarts (Loshchilov & Hutter 2017, SGDR).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fewstep.protocol import Batch, Loss, Objective, Phase, Role, Roles, Step, cautions_of


@dataclass(frozen=True)
class WarmRestarts:
    """A cosine from ``high`` to ``low`` that begins again after ``first`` cycles, then after twice as many, and so on.

    Args:
        high: value at the beginning of each period.
        low: value at its end.
        first: cycles of the first period.
        every: cycles after which the periods themselves begin again; None = never.
    """

    high: float
    low: float
    first: int
    every: int | None = None

    def __call__(self, step: Step) -> float:
        """The value at this step."""
        done = step.index if self.every is None else step.index % self.every
        # Periods before the n-th add up to first (2^n - 1).
        period = math.floor(math.log2(done / self.first + 1))
        length = self.first * 2**period
        share = (done - self.first * (2**period - 1)) / length
        return self.low + (self.high - self.low) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class Renewed:
    """An objective one of whose roles goes back to where it began every so many cycles.

    Args:
        base: the objective.
        role: which role; left alone where the objective has none of that name.
        every: cycles between its returns.
    """

    base: Objective
    role: str
    every: int

    @property
    def roles(self) -> Mapping[str, Role]:
        """Those of the base, one of them with a lifetime."""
        found = dict(self.base.roles)
        if self.role in found:
            found[self.role] = replace(found[self.role], reset_every=self.every)
        return found

    @property
    def reads(self) -> frozenset[str]:
        """What the base reads."""
        return self.base.reads

    def phases(self, index: int) -> Sequence[Phase]:
        """The updates of the base."""
        return self.base.phases(index)

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss | Iterator[Loss]:
        """The loss of the base."""
        return self.base.loss(phase, roles, batch, step)

    def cautions(self, roles: Roles, batch: Batch, step: Step) -> Iterator[str]:
        """Those of the base."""
        return cautions_of([self.base], roles, batch, step)
