"""Critics first: a student that waits until who judges it has learned something."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fewstep.protocol import Batch, Loss, Objective, Phase, Role, Roles, Step, cautions_of


@dataclass(frozen=True)
class HeadStart:
    """An objective whose student waits while its critics learn: what an untrained critic says is noise.

    Args:
        inner: the objective; one without critics is left as it is.
        cycles: how long the student waits.
        student: its role name.
    """

    inner: Objective
    cycles: int
    student: str = "student"

    @property
    def roles(self) -> Mapping[str, Role]:
        """Those of the objective."""
        return self.inner.roles

    @property
    def reads(self) -> frozenset[str]:
        """Those of the objective."""
        return self.inner.reads

    def phases(self, index: int) -> Sequence[Phase]:
        """The critics' phases alone at first, then all."""
        phases = self.inner.phases(index)
        critics = [phase for phase in phases if self.student not in phase.updates]
        return critics if critics and index < self.cycles else phases

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss | Iterator[Loss]:
        """That of the objective."""
        return self.inner.loss(phase, roles, batch, step)

    def cautions(self, roles: Roles, batch: Batch, step: Step) -> Iterator[str]:
        """Those of the objective."""
        return cautions_of([self.inner], roles, batch, step)
