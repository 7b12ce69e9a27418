"""What this recipe adds to an objective: the judge learns first, and compared rewards are of one noise level."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from fewstep.config.objectives import AnyObjective, RatioPolicyConfig
from fewstep.processes import TimeLaw
from fewstep.protocol import Batch, Key, Loss, Objective, Phase, Process, Role, Roles, Step


@dataclass(frozen=True)
class JudgeFirst:
    """An objective whose student waits for ``cycles`` while its judges learn: an untrained judge's reward is noise."""

    inner: Objective
    cycles: int

    @property
    def roles(self) -> Mapping[str, Role]:
        """Those of the objective."""
        return self.inner.roles

    @property
    def reads(self) -> frozenset[str]:
        """Those of the objective."""
        return self.inner.reads

    def phases(self, index: int) -> Sequence[Phase]:
        """The judges' phases alone at first; an objective without judges is left as it is."""
        phases = self.inner.phases(index)
        judges = [phase for phase in phases if "student" not in phase.updates]
        return judges if judges and index < self.cycles else phases

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss | Iterator[Loss]:
        """That of the objective."""
        return self.inner.loss(phase, roles, batch, step)


@dataclass(frozen=True)
class OneLevel:
    """A time law with one draw per group of ``rows`` consecutive rows (0 = the batch), whose rewards are compared."""

    law: TimeLaw
    rows: int = 0

    def __call__(self, shape: Sequence[int], step: Step, key: Key) -> Tensor:
        """Times (B, ...), equal inside each group."""
        size = self.rows or shape[0]
        groups = -(-shape[0] // size)
        return self.law((groups, *shape[1:]), step, key).repeat_interleave(size, 0)[: shape[0]]


def build_objective(config: AnyObjective, process: Process, head_start: int) -> Objective:
    """The configured objective, its judges first; the groups of a ratio policy at one level."""
    if isinstance(config, RatioPolicyConfig):
        times = OneLevel(config.times.build(process), config.group)
        return JudgeFirst(config.build(process, times=times), head_start)
    return JudgeFirst(config.build(process), head_start)
