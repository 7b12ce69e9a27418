"""Distillation by a discriminator alone: LADD (Sauer et al. 2024), and the adversarial term of others.

The student's samples and real ones are corrupted to a drawn time; the discriminator reads them, or a frozen teacher's
features of them, and learns log p_t / q_t. At its optimum the non-saturating student descends the softened reverse
divergence of :mod:`fewstep.objectives.ratios`, the saturating one Jensen-Shannon.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.objectives.corruption import Corruption, fresh
from fewstep.objectives.discriminator import Adversary, per_sample
from fewstep.objectives.reward import Reward, rewarded
from fewstep.objectives.rollout import Inputs, ask_teacher, encoded, penalty, reads_of, rollout, student_role
from fewstep.objectives.score_distillation import critic_phases
from fewstep.processes import TimeLaw
from fewstep.protocol import (
    Batch,
    Cond,
    Estimate,
    Flow,
    Loss,
    Phase,
    Ramp,
    Role,
    Roles,
    Sample,
    Step,
    Tree,
    at_step,
    tensors,
)


@dataclass(frozen=True)
class Adversarial:
    """Roles: student, disc, and a teacher whose process corrupts and whose features a disc may read.

    Args:
        times: law of the times at which samples are judged.
        adversary: the discriminator: whose features it reads, its loss, its real samples.
        critic_updates: updates of the disc before each update of the student.
        corruption: how a sample is brought to its time.
        inputs: "roll" = the student's own roll, "data" = its steps see noised data (Sauer et al. 2024 sec. 3).
        penalties: weights of ``Sample.penalties``.
        reward: see :class:`Reward`.
        share_rollout: disc and student of one cycle judge one sample, made once.
        teacher: role name; None = the student's own process corrupts, and nobody's features are read.
        student: role name.
        from_teacher: the student starts as a copy of the teacher, where their shapes allow.
    """

    times: TimeLaw
    adversary: Adversary = field(default_factory=Adversary)
    critic_updates: int = 1
    corruption: Corruption = fresh
    inputs: Inputs = "roll"
    penalties: Mapping[str, Ramp | float] = field(default_factory=dict)
    reward: Reward | None = None
    share_rollout: bool = False
    teacher: str | None = "teacher"
    student: str = "student"
    from_teacher: bool = True

    @property
    def roles(self) -> Mapping[str, Role]:
        """Teacher, student, disc, reward."""
        # The student learns through x_t, so states must move smoothly.
        judge = Role(kind=nn.Module, trainable=False, process=Flow)
        teacher = {} if self.teacher is None else {self.teacher: judge}
        student = {self.student: student_role(self.inputs, self.teacher if self.from_teacher else None)}
        disc = self.adversary.asked(self.teacher, self.student)
        return {**teacher, **student, **disc, **(self.reward.roles if self.reward else {})}

    @property
    def reads(self) -> frozenset[str]:
        """Real samples."""
        return frozenset({self.adversary.reference}) | reads_of(self.inputs)

    def phases(self, index: int) -> Sequence[Phase]:
        """The disc's updates, then the student's."""
        return critic_phases((self.adversary.role,), self.student, self.critic_updates, self.share_rollout)

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss:
        """The loss of the disc or of the student."""
        learns = self.student in phase.updates
        sample = rollout(
            roles[self.student], self.student, batch, step,
            shared=self.share_rollout, graph=learns, inputs=self.inputs,
        )  # fmt: skip
        sample = encoded(sample, self._judge(roles))
        return self._student(roles, sample, step) if learns else self._critic(roles, sample, batch, step)

    def cautions(self, roles: Roles, batch: Batch, step: Step) -> Iterator[str]:
        """What the reward's weights rest on."""
        if self.reward is not None:
            sample = rollout(roles[self.student], self.student, batch, step, shared=False, graph=False)
            yield from self.reward.cautions(roles, encoded(sample, self._judge(roles)), step)

    def _critic(self, roles: Roles, sample: Sample, batch: Batch, step: Step) -> Loss:
        process = self._judge(roles).process
        seen = self.corruption(process.on(sample.mask), sample, self.times, step, step.key.at("disc"))
        ask = self._ask(roles, step)
        logits = self._logits(roles, seen.xt, seen.t, sample.cond, step)
        total, logs = self.adversary.disc_loss(roles, process, seen, logits, sample, batch, step, ask)
        return Loss(self.adversary.disc_weight * total, logs)

    def _student(self, roles: Roles, sample: Sample, step: Step) -> Loss:
        process = self._judge(roles).process.on(sample.mask)
        seen = self.corruption(process, sample, self.times, step, step.key.at("judge"))
        logits = self._logits(roles, seen.xt, seen.t, sample.cond, step)
        each = self.adversary.student_loss(per_sample(logits, process, seen.xt))
        weighted = at_step(self.adversary.weight, step) * each
        total, found = rewarded(self.reward, weighted, roles, sample, process.geometry, step)
        logs = {"adversarial": each.detach().mean(), **found}
        extra, of_sample = penalty(sample, self.penalties, step)
        return Loss(total + extra, {**logs, **of_sample})

    def _logits(self, roles: Roles, xt: Tree, t: Tensor, cond: Cond, step: Step) -> Tensor:
        asks = self.adversary.shows(self.adversary.features_of, roles)
        est = self._ask(roles, step)(xt, t, cond) if asks else None
        return self.adversary.logits(roles, xt, t, cond, est)

    def _ask(self, roles: Roles, step: Step) -> Any:
        """One call of the network whose features are read; it is not told the step."""
        name = self.adversary.features_of

        def ask(xt: Tree, t: Tensor, cond: Cond) -> Estimate:
            graph = any(leaf.requires_grad for leaf in tensors(xt))
            with torch.set_grad_enabled(graph):
                return ask_teacher(roles[str(name)], xt, t, cond, None, step, self.adversary.features)

        return ask

    def _judge(self, roles: Roles) -> Any:
        return roles[self.student if self.teacher is None else self.teacher]
