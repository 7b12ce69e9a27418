"""Losses that use the score identity: their gradient runs through x_t *into* both frozen networks.

With delta = D_teacher - D_fake and toward = D_fake - x0, both in x0 units, E[<delta, toward>] = 0 is the score
identity at the exact fake, and every member of the family is E[ w (pair(delta, toward) + own(delta)) ].
SiD: Zhou et al. 2024. SIM: Luo et al. 2024. Uni-Instruct (Wang et al. 2025) adds a density ratio to both terms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch import Tensor, nn

from fewstep.objectives.corruption import Corruption, fresh
from fewstep.objectives.critic import fake_loss
from fewstep.objectives.rollout import ask_teacher, believed, encoded, penalty, rollout
from fewstep.objectives.score_distillation import critic_phases
from fewstep.objectives.weights import Weight, customary, normalizer, one
from fewstep.processes import TimeLaw
from fewstep.protocol import (
    Batch,
    Geometry,
    Loss,
    Phase,
    Ramp,
    Role,
    Roles,
    Sample,
    Step,
    Student,
    Tree,
    at_step,
    tensors,
)

Surrogate: TypeAlias = Callable[[Geometry, Tree, Tree, Step], Tensor]
"""``(geometry, delta, toward, step) -> (B,)``, differentiable in both trees."""


@dataclass(frozen=True)
class SiD:
    """Score identity distillation. Roles: teacher, student, fake.

    Zhou et al. 2024 eq. 23: <delta, toward> + (1 - alpha) |delta|^2, per sample divided by mean |x - D_teacher|.
    Its value is (1 - alpha) times the Fisher divergence: near 0 for alpha = 1 and negative above; it says nothing about
    convergence.

    Args:
        times: law of the times at which the student is judged.
        alpha: 1 or 1.2. Above 1 a student much wider than the teacher moves the wrong way: start narrow.
        normalize: divide by omega = mean |x - D_teacher|, cut from its graph.
        weight: w(t) in x0 units.
        fake_times: the fake's own law; ``times`` by default.
        fake_weight: of its denoising loss.
        critic_updates: updates of the fake before each update of the student.
        corruption: how a sample is brought to its time.
        guidance: the teacher's guidance scale g.
        penalties: weights of ``Sample.penalties``.
        share_rollout: critic and student of one cycle judge one sample, made once.
        surrogate: another member of the family in place of eq. 23.
        teacher: role name.
        student: role name.
        from_teacher: the student starts as a copy of the teacher, where their shapes allow; False = by itself, which
            all but one of several mixed teachers must say.
        fake: role name.
    """

    times: TimeLaw
    alpha: Ramp | float = 1.2
    normalize: bool = True
    weight: Weight = one
    fake_times: TimeLaw | None = None
    fake_weight: Weight = customary
    critic_updates: int = 1
    corruption: Corruption = fresh
    guidance: Ramp | float | None = None
    penalties: Mapping[str, Ramp | float] = field(default_factory=dict)
    share_rollout: bool = False
    surrogate: Surrogate | None = None
    teacher: str = "teacher"
    student: str = "student"
    from_teacher: bool = True
    fake: str = "fake"

    @property
    def roles(self) -> Mapping[str, Role]:
        """Teacher, student, fake."""
        return {
            self.teacher: Role(kind=nn.Module, trainable=False),
            self.student: Role(kind=Student, init=self.teacher if self.from_teacher else None),
            self.fake: Role(kind=nn.Module, init=self.teacher),
        }

    @property
    def reads(self) -> frozenset[str]:
        """No data."""
        return frozenset()

    def phases(self, index: int) -> Sequence[Phase]:
        """The fake's updates, then the student's."""
        return critic_phases((self.fake,), self.student, self.critic_updates, self.share_rollout)

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss:
        """The loss of the fake or of the student."""
        learns = self.student in phase.updates
        sample = rollout(
            roles[self.student], self.student, batch, step, shared=self.share_rollout, graph=learns
        )
        sample = encoded(sample, roles[self.teacher])
        if learns:
            return self._student(roles, sample, step)
        law = self.fake_times or self.times
        total = fake_loss(roles[self.fake], sample, self.corruption, law, self.fake_weight, step)
        return Loss(total, {"fake": total.detach()})

    def _student(self, roles: Roles, sample: Sample, step: Step) -> Loss:
        _require_continuous(sample)
        teacher: Any = roles[self.teacher]
        process = teacher.process.on(sample.mask)
        geometry = process.geometry
        xt, t, *_ = self.corruption(process, sample, self.times, step, step.key.at("judge"))
        real = ask_teacher(teacher, xt, t, sample.cond, self.guidance, step)
        fake, own = roles[self.fake](xt, t, sample.cond), believed(sample)
        delta, toward = geometry.difference(real, fake, xt), geometry.difference(fake, own, xt)
        value = self._value(geometry, delta, toward, step)
        weight = self.weight(process, t).to(value.dtype)
        if self.normalize:
            weight = weight / normalizer(geometry, own, real, xt)
        total = (weight * value).mean()
        extra, logs = penalty(sample, self.penalties, step)
        fisher = geometry.inner(delta, delta).detach().mean()
        return Loss(total + extra, {"identity": total.detach(), "fisher": fisher, **logs})

    def _value(self, geometry: Geometry, delta: Tree, toward: Tree, step: Step) -> Tensor:
        if self.surrogate is not None:
            return self.surrogate(geometry, delta, toward, step)
        alpha = at_step(self.alpha, step)
        return geometry.inner(delta, toward) + (1 - alpha) * geometry.inner(delta, delta)


def _require_continuous(sample: Sample) -> None:
    if not all(leaf.dtype.is_floating_point for leaf in tensors(sample.x)):
        raise ValueError(
            "the score identity differentiates x_t with respect to x; discrete samples have no such gradient. "
            "Use score distillation (pathwise through probabilities) or a ratio policy."
        )
