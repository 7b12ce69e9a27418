"""What both recipes add to an objective: critics first, and one noise level per compared group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from fewstep.config.objectives import AnyObjective, RatioPolicyConfig
from fewstep.processes import TimeLaw
from fewstep.protocol import Batch, Key, Loss, Objective, Phase, Process, Role, Roles, Step


@dataclass(frozen=True)
class HeadStart:
    """An objective whose student waits while its critics learn: a reward from an untrained judge is only noise.

    Args:
        inner: the objective.
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
        """The critics' phases alone at first; an objective without critics is left as it is."""
        phases = self.inner.phases(index)
        critics = [phase for phase in phases if self.student not in phase.updates]
        return critics if critics and index < self.cycles else phases

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss | Iterator[Loss]:
        """That of the objective."""
        return self.inner.loss(phase, roles, batch, step)


@dataclass(frozen=True)
class PerGroup:
    """A time law with one draw for every group of rows whose rewards are compared.

    Rewards at different noise levels differ whatever the samples are; a baseline over mixed levels would teach the
    student which level is easy.

    Args:
        law: the time law.
        rows: consecutive rows of one group; 0 = the whole batch.
    """

    law: TimeLaw
    rows: int = 0

    def __call__(self, shape: Sequence[int], step: Step, key: Key) -> Tensor:
        """Times (B, ...), equal inside each group."""
        size = self.rows or shape[0]
        groups = -(-shape[0] // size)
        return self.law((groups, *shape[1:]), step, key).repeat_interleave(size, 0)[: shape[0]]


def build_objective(config: AnyObjective, process: Process, head_start: int) -> Objective:
    """The configured objective, its judges first and its groups at one level."""
    if isinstance(config, RatioPolicyConfig):
        times = PerGroup(config.times.build(process), config.group)
        return HeadStart(config.build(process, times=times), head_start)
    return HeadStart(config.build(process), head_start)
