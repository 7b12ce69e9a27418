"""Score distillation: the student's samples are corrupted, and move along fake minus teacher.

dL/dtheta = E[ w(t) h(r) < d coordinates / dtheta, D_fake(x_t) - D_teacher(x_t) > ]

SDS (Poole et al. 2023), VSD (Wang et al. 2023), Diff-Instruct (Luo et al. 2023), DMD (Yin et al. 2024),
f-distill (Xu et al. 2025) and TDM (Luo et al. 2025) are settings of one class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.objectives.corruption import Corruption, fresh
from fewstep.objectives.critic import fake_loss
from fewstep.objectives.discriminator import RatioFactor, discriminator_loss, log_ratio
from fewstep.objectives.rollout import ask_teacher, believed, encoded, penalty, rollout
from fewstep.objectives.weights import Weight, customary, dreamfusion, normalizer, one, scaled
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
    Student,
    at_step,
    pathwise,
)


@dataclass(frozen=True)
class ScoreDistillation:
    """One engine for the family. Roles: teacher, student, and where they are named fake and disc.

    Args:
        times: law of the times at which the student is judged.
        weight: w(t), in x0 units.
        normalize: divide each sample's direction by mean |x - D_teacher| (Yin et al. 2024 eq. 8).
        fake: role of the student's own denoiser; None = the sample itself stands for it (SDS).
        fake_times: the fake's own law; ``times`` by default.
        fake_weight: of its denoising loss.
        critic_updates: updates of fake and disc before each update of the student.
        corruption: how a sample is brought to its time; ``Segment`` is TDM's.
        guidance: the teacher's guidance scale g, for teachers that take one.
        disc: role of an optional discriminator; needed by ``ratio_factor`` and ``adversarial``.
        ratio_factor: h(r) of r = p / q, estimated by the disc.
        ratio_normalize: divide h by its mean over the batch (Xu et al. 2025 sec. 4.2).
        adversarial: weight of the non-saturating loss softplus(-logit) (Yin et al. 2024 DMD2 eq. 4).
        reference: batch field with the disc's real samples, "x" or "extra.<name>".
        smoothing: of the disc's labels.
        penalties: weights of ``Sample.penalties``.
        share_rollout: critic and student of one cycle judge one sample, made once.
        teacher: role name.
        student: role name.
        from_teacher: the student starts as a copy of the teacher, where their shapes allow; False = by itself, which
            all but one of several mixed teachers must say.

    Raises:
        ValueError: if a ratio factor or an adversarial weight comes without a disc.
    """

    times: TimeLaw
    weight: Weight = one
    normalize: bool = False
    fake: str | None = "fake"
    fake_times: TimeLaw | None = None
    fake_weight: Weight = customary
    critic_updates: int = 1
    corruption: Corruption = fresh
    guidance: Ramp | float | None = None
    disc: str | None = None
    ratio_factor: RatioFactor | None = None
    ratio_normalize: bool = True
    adversarial: Ramp | float = 0.0
    reference: str = "x"
    smoothing: float = 0.0
    penalties: Mapping[str, Ramp | float] = field(default_factory=dict)
    share_rollout: bool = False
    teacher: str = "teacher"
    student: str = "student"
    from_teacher: bool = True

    def __post_init__(self) -> None:
        """Refuse settings that ask for a network that is not there."""
        if self.disc is None and (self.ratio_factor is not None or self.adversarial != 0.0):
            raise ValueError("ratio_factor and adversarial need a discriminator; name its role with disc=")

    @property
    def critics(self) -> tuple[str, ...]:
        """Roles that learn about the student."""
        return tuple(name for name in (self.fake, self.disc) if name is not None)

    @property
    def roles(self) -> Mapping[str, Role]:
        """Teacher and student, and the critics."""
        roles = {
            self.teacher: Role(kind=nn.Module, trainable=False),
            self.student: Role(kind=Student, init=self.teacher if self.from_teacher else None),
        }
        if self.fake is not None:
            roles[self.fake] = Role(kind=nn.Module, init=self.teacher)
        if self.disc is not None:
            roles[self.disc] = Role(kind=nn.Module)
        return roles

    @property
    def reads(self) -> frozenset[str]:
        """Nothing, unless a discriminator needs reference samples."""
        return frozenset({self.reference} if self.disc is not None else ())

    def phases(self, index: int) -> Sequence[Phase]:
        """The critics' updates, then the student's."""
        return critic_phases(self.critics, self.student, self.critic_updates, self.share_rollout)

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss:
        """The loss of the critics or of the student."""
        learns = self.student in phase.updates
        sample = rollout(
            roles[self.student], self.student, batch, step, shared=self.share_rollout, graph=learns
        )
        sample = encoded(sample, roles[self.teacher])
        return self._student(roles, sample, step) if learns else self._critic(roles, sample, batch, step)

    def _critic(self, roles: Roles, sample: Sample, batch: Batch, step: Step) -> Loss:
        total: Tensor | float = 0.0
        logs: dict[str, Tensor] = {}
        if self.fake is not None:
            law = self.fake_times or self.times
            total = fake_loss(roles[self.fake], sample, self.corruption, law, self.fake_weight, step)
            logs["fake"] = total.detach()
        if self.disc is not None:
            judged, found = discriminator_loss(
                roles[self.disc],
                roles[self.teacher].process,
                sample,
                batch,
                step,
                reference=self.reference,
                corruption=self.corruption,
                times=self.times,
                smoothing=self.smoothing,
            )
            total, logs = total + judged, {**logs, **found}
        return Loss(torch.as_tensor(total), logs)

    def _student(self, roles: Roles, sample: Sample, step: Step) -> Loss:
        teacher = roles[self.teacher]
        process = teacher.process.on(sample.mask)
        with torch.set_grad_enabled(self.adversarial != 0.0):
            xt, t, *_ = self.corruption(process, sample, self.times, step, step.key.at("judge"))
        with torch.no_grad():
            real = ask_teacher(teacher, xt, t, sample.cond, self.guidance, step)
            own = believed(sample)
            fake = own if self.fake is None else roles[self.fake](xt, t, sample.cond)
            direction = process.geometry.difference(fake, real, xt)
            weight = self.weight(process, t)
            if self.normalize:
                weight = weight / _like(normalizer(process.geometry, own, real, xt), weight)
            if self.ratio_factor is not None:
                weight = weight * _like(self._factor(roles, process, xt, t, sample), weight)
            direction = scaled(direction, weight)
        total = pathwise(sample, direction, process.geometry)
        logs = {"direction": process.geometry.inner(direction, direction).mean().sqrt()}
        if self.adversarial != 0.0:
            logit = log_ratio(roles[str(self.disc)], process, xt, t, sample.cond)
            logs["adversarial"] = F.softplus(-logit).mean().detach()
            total = total + at_step(self.adversarial, step) * F.softplus(-logit).mean()
        extra, found = penalty(sample, self.penalties, step)
        return Loss(total + extra, {**logs, **found})

    def _factor(self, roles: Roles, process: Any, xt: Any, t: Tensor, sample: Sample) -> Tensor:
        """(B,) h(r), divided by its mean over the batch."""
        if self.ratio_factor is None:
            raise ValueError("this objective has no ratio factor")
        ratio = log_ratio(roles[str(self.disc)], process, xt, t, sample.cond, clip=10.0).exp()
        factor = self.ratio_factor(ratio)
        return factor / factor.mean().clamp(min=1e-12) if self.ratio_normalize else factor


def critic_phases(
    critics: tuple[str, ...], student: str, updates: int, shared: bool = False
) -> tuple[Phase, ...]:
    """``updates`` phases "critic", then one "student"; with a shared sample the critic's phases build its graph."""
    last = (Phase("student", (student,)),)
    if not critics:
        return last
    return (Phase("critic", critics, builds=(student,) if shared else ()),) * updates + last


def sds(times: TimeLaw, **settings: Any) -> ScoreDistillation:
    """Score distillation sampling: no fake; w = sigma^2 on the noise estimate (Poole et al. 2023 eq. 3)."""
    return ScoreDistillation(times, **{"weight": dreamfusion, "fake": None, **settings})


def vsd(times: TimeLaw, **settings: Any) -> ScoreDistillation:
    """Variational score distillation: SDS with a fake (Wang et al. 2023 eq. 9)."""
    return ScoreDistillation(times, **{"weight": dreamfusion, **settings})


def diff_instruct(times: TimeLaw, **settings: Any) -> ScoreDistillation:
    """Diff-Instruct: weight 1 in x0 units, as its authors train (Luo et al. 2023 algorithm 1)."""
    return ScoreDistillation(times, **{"weight": one, **settings})


def dmd(times: TimeLaw, **settings: Any) -> ScoreDistillation:
    """Distribution matching: each sample's direction over mean |x - D_teacher| (Yin et al. 2024 eq. 7-8)."""
    return ScoreDistillation(times, **{"weight": one, "normalize": True, **settings})


def _like(per_sample: Tensor, weight: Tensor) -> Tensor:
    """(B,) shaped to multiply (B, ...) weights."""
    return per_sample.to(weight.dtype).reshape(per_sample.shape + (1,) * (weight.ndim - 1))
