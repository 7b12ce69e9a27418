"""Policy gradient on a learned density ratio: distillation of students that draw discrete samples.

grad E_t[KL(q_t | p_t)] = -E[ R(x_t) grad log q(x | noise) ] with R = log p(x_t) / q(x_t), the optimal logit of a
discriminator between corrupted reference samples and the student's (DiDi-Instruct, Zheng et al. 2025 eq. 8-10).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.objectives.corruption import Corruption, fresh
from fewstep.objectives.discriminator import Adversary, discriminator_loss, log_ratio
from fewstep.objectives.rollout import ask_teacher, penalty, rollout
from fewstep.objectives.score_distillation import critic_phases
from fewstep.objectives.weights import Weight, one
from fewstep.processes import TimeLaw
from fewstep.protocol import (
    Batch,
    Loss,
    Phase,
    Ramp,
    Role,
    Roles,
    Sample,
    Step,
    Stochastic,
    at_step,
    reinforce,
)


@dataclass(frozen=True)
class RatioPolicy:
    """Roles: teacher (process and anchor), student (draws, with ``logp``), disc.

    Args:
        times: law of the times at which samples are judged.
        corruption: ``Coupled()`` judges at the level the student passed through.
        reference: batch field with reference samples: "x" for data, "extra.<name>" for stored teacher samples.
        weight: omega(t).
        group: rows of one leave-one-out baseline, consecutive in the batch; 0 = the whole batch.
        whiten: divide the advantage by the group's standard deviation.
        reward_clip: largest |logit|.
        advantage_clip: largest |advantage|.
        smoothing: of the disc's labels; the reward is then squashed, its sign is not.
        anchor: weight of KL(teacher | student) at the visited states, mass covering.
        critic_updates: updates of the disc before each update of the student.
        penalties: weights of ``Sample.penalties``.
        teacher: role name.
        student: role name.
        disc: role name.
    """

    times: TimeLaw
    corruption: Corruption = fresh
    reference: str = "x"
    weight: Weight = one
    group: int = 0
    whiten: bool = False
    reward_clip: float | None = 8.0
    advantage_clip: float | None = None
    smoothing: float = 0.0
    anchor: Ramp | float = 0.0
    critic_updates: int = 1
    penalties: Mapping[str, Ramp | float] = field(default_factory=dict)
    teacher: str = "teacher"
    student: str = "student"
    disc: str = "disc"

    @property
    def roles(self) -> Mapping[str, Role]:
        """Teacher, student, disc."""
        return {
            self.teacher: Role(kind=nn.Module, trainable=False),
            self.student: Role(kind=Stochastic, init=self.teacher),
            **Adversary(self.disc).asked(self.teacher, self.student),
        }

    @property
    def reads(self) -> frozenset[str]:
        """Reference samples."""
        return frozenset({self.reference})

    def phases(self, index: int) -> Sequence[Phase]:
        """The disc's updates, then the student's."""
        return critic_phases((self.disc,), self.student, self.critic_updates)

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss | Iterator[Loss]:
        """The loss of the disc or of the student."""
        learns = self.student in phase.updates
        sample = rollout(roles[self.student], self.student, batch, step, shared=False, graph=learns)
        process = roles[self.teacher].process
        if learns:
            return self._student(roles, sample, batch, step)
        total, logs = discriminator_loss(
            roles[self.disc],
            process,
            sample,
            batch,
            step,
            reference=self.reference,
            corruption=self.corruption,
            times=self.times,
            smoothing=self.smoothing,
        )
        return Loss(total, logs)

    def _student(self, roles: Roles, sample: Sample, batch: Batch, step: Step) -> Loss:
        process = roles[self.teacher].process.on(sample.mask)
        with torch.no_grad():
            xt, t, *_ = self.corruption(process, sample, self.times, step, step.key.at("judge"))
            reward = log_ratio(roles[self.disc], process, xt, t, sample.cond, self.reward_clip)
            gain = advantage(reward, self.group, self.whiten)
            if self.advantage_clip is not None:
                gain = gain.clamp(-self.advantage_clip, self.advantage_clip)
            weight = self.weight(process, t).to(gain.dtype)
        total = reinforce(sample, weight * gain, 0.0)
        logs = {"reward": reward.mean(), "reward_spread": reward.std(unbiased=False)}
        strength = at_step(self.anchor, step)
        if strength != 0.0:
            anchor = visited_divergence(roles[self.teacher], roles[self.student], sample, step)
            total, logs = total + strength * anchor, {**logs, "anchor": anchor.detach()}
        extra, found = penalty(sample, self.penalties, step)
        return Loss(total + extra, {**logs, **found})


def advantage(reward: Tensor, group: int = 0, whiten: bool = False) -> Tensor:
    """(B,) reward minus the mean of the *other* rows of its group (Kool et al. 2019): unbiased, unlike the own mean.

    Args:
        reward: (B,).
        group: rows of one group; 0 = all.
        whiten: divide by the group's standard deviation.

    Raises:
        ValueError: if the batch does not divide into groups of at least two rows.
    """
    size = group or reward.shape[0]
    if size < 2 or reward.shape[0] % size:
        raise ValueError(
            f"{reward.shape[0]} rows do not divide into groups of {size} >= 2: a leave-one-out baseline needs company"
        )
    rows = reward.reshape(-1, size)
    others = (rows.sum(1, keepdim=True) - rows) / (size - 1)
    gain = rows - others
    if whiten:
        gain = gain / (rows.std(1, keepdim=True, unbiased=False) + 1e-8)
    return gain.reshape(-1)


def visited_divergence(teacher: Any, student: Any, sample: Sample, step: Step) -> Tensor:
    """Mean KL(teacher | student) over the states that the sample visited, with the student's graph."""
    geometry = teacher.process.on(sample.mask).geometry
    terms = []
    for state in sample.path:
        with torch.no_grad():
            target = ask_teacher(teacher, state.x, state.t, sample.cond, None, step)
        own = state.est if state.est is not None else student(state.x, state.t, sample.cond)
        terms.append(geometry.distance(own, target).mean())
    return torch.stack(terms).mean()
