"""Score distillation: the student's samples are corrupted, and move along fake minus teacher.

dL/dtheta = E[ w(t) h(r) < d coordinates / dtheta, D_fake(x_t) - D_teacher(x_t) > ]

SDS (Poole et al. 2023), VSD (Wang et al. 2023), Diff-Instruct (Luo et al. 2023), DMD and DMD2 (Yin et al. 2024),
f-distill (Xu et al. 2025) and TDM (Luo et al. 2025) are settings of one class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.objectives.corruption import Corrupted, Corruption, Segment, fresh
from fewstep.objectives.critic import Knows, fitted, told
from fewstep.objectives.discriminator import Adversary, per_sample
from fewstep.objectives.ratios import DensityRatio
from fewstep.objectives.reward import Reward, rewarded
from fewstep.objectives.rollout import (
    Inputs,
    ask_teacher,
    believed,
    encoded,
    penalty,
    reads_of,
    rollout,
    student_role,
)
from fewstep.objectives.weights import Weight, customary, normalizer, one, scaled
from fewstep.processes import Gaussian, TimeLaw
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
)


@dataclass(frozen=True)
class ScoreDistillation:
    """One engine for the family. Roles: teacher, student, and where they are named fake, disc and reward.

    Args:
        times: law of the times at which the student is judged.
        weight: w(t), in x0 units.
        normalize: divide each sample's direction by mean |x - D_teacher| (Yin et al. 2024 eq. 8).
        fake: role of the student's own denoiser; None = the sample itself stands for it (SDS).
        fake_times: the fake's own law; ``times`` by default.
        fake_weight: of its denoising loss.
        fake_knows: "shared" = one fake for the mixture of all steps of the student, as published; see ``told``.
        critic_updates: updates of fake and disc before each update of the student.
        corruption: how a sample is brought to its time; ``Segment`` is TDM's.
        guidance: the teacher's guidance scale g, for teachers that take one.
        adversary: an optional discriminator, its loss beside the fake's and the student's (Yin et al. 2024 DMD2 eq. 4).
        ratio: h(r) of r = p / q, estimated by the discriminator.
        inputs: "data" = the student's steps see noised data instead of its own roll.
        reward: see :class:`Reward`.
        penalties: weights of ``Sample.penalties``.
        share_rollout: critic and student of one cycle judge one sample, made once.
        teacher: role name.
        student: role name.
        from_teacher: the student starts as a copy of the teacher, where their shapes allow; False = by itself, which
            all but one of several mixed teachers must say.

    Raises:
        ValueError: if a ratio comes without a discriminator that estimates it, or segments without the student's own roll.
    """

    times: TimeLaw
    weight: Weight = one
    normalize: bool = False
    fake: str | None = "fake"
    fake_times: TimeLaw | None = None
    fake_weight: Weight = customary
    fake_knows: Knows = "per-step"
    critic_updates: int = 1
    corruption: Corruption = fresh
    guidance: Ramp | float | None = None
    adversary: Adversary | None = None
    ratio: DensityRatio | None = None
    inputs: Inputs = "roll"
    reward: Reward | None = None
    penalties: Mapping[str, Ramp | float] = field(default_factory=dict)
    share_rollout: bool = False
    teacher: str = "teacher"
    student: str = "student"
    from_teacher: bool = True

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        if self.ratio is not None and (self.adversary is None or self.adversary.loss == "hinge"):
            raise ValueError(
                "a density ratio is read from a discriminator with cross-entropy; give adversary=Adversary()"
            )
        if isinstance(self.corruption, Segment) and self.inputs == "data":
            raise ValueError("the segments of a path belong to the student's own roll; use inputs='roll'")

    @property
    def critics(self) -> tuple[str, ...]:
        """Roles that learn about the student."""
        disc = None if self.adversary is None else self.adversary.role
        return tuple(name for name in (self.fake, disc) if name is not None)

    @property
    def roles(self) -> Mapping[str, Role]:
        """Teacher and student, the critics, the reward."""
        having = getattr(self.corruption, "having", {})
        # An adversary moves the student through x_t: a token does not move.
        moves = self.adversary is not None and self.adversary.weight != 0.0
        init = self.teacher if self.from_teacher else None
        process: type | None = Flow if moves else None
        # Between two noisy times a segment needs the Markov transition, which geodesic flows do not have.
        process = Gaussian if having else process
        asked = frozenset() if self.guidance is None else frozenset({"guidance"})
        roles = {
            self.teacher: Role(kind=nn.Module, trainable=False, accepts=asked, process=process),
            self.student: student_role(self.inputs, init, having=having),
        }
        if self.fake is not None:
            roles[self.fake] = Role(kind=nn.Module, init=self.teacher)
        if self.adversary is not None:
            roles |= self.adversary.asked(self.teacher, self.fake, self.student)
        return roles if self.reward is None else {**roles, **self.reward.roles}

    @property
    def reads(self) -> frozenset[str]:
        """Nothing, unless a discriminator needs reference samples or the student is shown data."""
        reference = frozenset() if self.adversary is None else frozenset({self.adversary.reference})
        return reference | reads_of(self.inputs)

    def phases(self, index: int) -> Sequence[Phase]:
        """The critics' updates, then the student's."""
        return critic_phases(self.critics, self.student, self.critic_updates, self.share_rollout)

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss:
        """The loss of the critics or of the student."""
        learns = self.student in phase.updates
        sample = self._sample(roles, batch, step, shared=self.share_rollout, graph=learns)
        return self._student(roles, sample, step) if learns else self._critic(roles, sample, batch, step)

    def cautions(self, roles: Roles, batch: Batch, step: Step) -> Iterator[str]:
        """What the first batch says about ratio, segments and reward."""
        sample = self._sample(roles, batch, step, shared=False, graph=False)
        if self.ratio is not None:
            process = roles[self.teacher].process.on(sample.mask)
            seen = self.corruption(process, sample, self.times, step, step.key.at("judge"))
            yield from self.ratio.cautions(seen.t, process)
        walks = getattr(roles[self.student], "pick", "random"), len(getattr(roles[self.student], "times", ()))
        if isinstance(self.corruption, Segment) and walks[0] == "last" and walks[1] != 1:
            yield (
                "the student's training samples all come from its last step, so only the last segment of its path is "
                'matched; let it pick="random"'
            )
        if self.reward is not None:
            yield from self.reward.cautions(roles, sample, step)

    def _sample(self, roles: Roles, batch: Batch, step: Step, *, shared: bool, graph: bool) -> Sample:
        sample = rollout(
            roles[self.student], self.student, batch, step, shared=shared, graph=graph, inputs=self.inputs
        )
        return encoded(sample, roles[self.teacher])

    def _critic(self, roles: Roles, sample: Sample, batch: Batch, step: Step) -> Loss:
        judge = self.teacher if self.fake is None else self.fake
        process, law = roles[judge].process, self.fake_times or self.times
        seen = self.corruption(process.on(sample.mask), sample, law, step, step.key.at("critic"))
        total, logs, est = seen.t.new_zeros(()), {}, None
        if self.fake is not None:
            est = self._believes(roles, self.fake, seen.xt, seen.t, sample.cond, step, graph=True)
            total = fitted(process.on(sample.mask), est, seen, self.fake_weight)
            logs = {"fake": total.detach()}
        if self.adversary is None:
            return Loss(total, logs)

        def ask(xt: Tree, t: Tensor, cond: Cond) -> Estimate:
            name = str(self._adversary.features_of)
            return self._believes(roles, name, xt, t, cond, step, graph=name == self.fake)

        if self.adversary.features_of != self.fake and self.adversary.shows(
            self.adversary.features_of, roles
        ):
            est = ask(seen.xt, seen.t, sample.cond)
        logits = self.adversary.logits(roles, seen.xt, seen.t, sample.cond, est)
        judged, found = self.adversary.disc_loss(roles, process, seen, logits, sample, batch, step, ask)
        return Loss(total + self.adversary.disc_weight * judged, {**logs, **found})

    def _student(self, roles: Roles, sample: Sample, step: Step) -> Loss:
        process = roles[self.teacher].process.on(sample.mask)
        against = 0.0 if self.adversary is None else at_step(self.adversary.weight, step)
        plays = against != 0.0
        with torch.set_grad_enabled(plays):
            seen = self.corruption(process, sample, self.times, step, step.key.at("judge"))
            real, fake = self._beliefs(roles, seen, sample, step, graph=plays)
            asked = plays or self.ratio is not None
            logit = self._logit(roles, process, seen, sample, real, fake) if asked else None
        with torch.no_grad():
            direction = self._direction(process, seen, believed(sample), real, fake, logit)
            scale = process.geometry.inner(direction, direction)
        each = process.geometry.inner(process.geometry.coordinates(sample), direction)
        logs = {"direction": scale.mean().sqrt()}
        if plays and logit is not None:
            adversarial = self._adversary.student_loss(logit)
            each = each + against * adversarial
            logs["adversarial"] = adversarial.detach().mean()
        total, found = rewarded(self.reward, each, roles, sample, process.geometry, step)
        extra, of_sample = penalty(sample, self.penalties, step)
        return Loss(total + extra, {**logs, **found, **of_sample})

    def _beliefs(
        self, roles: Roles, seen: Corrupted, sample: Sample, step: Step, *, graph: bool
    ) -> tuple[Estimate, Estimate]:
        """What teacher and fake believe; a graph only where their features are read."""
        reads = lambda name: self.adversary is not None and bool(self.adversary.shows(name, roles))  # noqa: E731
        ask = lambda name: self._believes(  # noqa: E731
            roles, name, seen.xt, seen.t, sample.cond, step, graph=graph and reads(name)
        )
        return ask(self.teacher), believed(sample) if self.fake is None else ask(self.fake)

    def _believes(
        self, roles: Roles, name: str, xt: Tree, t: Tensor, cond: Cond, step: Step, *, graph: bool
    ) -> Estimate:
        """One call of teacher or fake, for its estimate and for the features that the discriminator reads."""
        features = () if self.adversary is None else self.adversary.shows(name, roles)
        with torch.set_grad_enabled(graph and torch.is_grad_enabled()):
            if name == self.teacher:
                return ask_teacher(roles[name], xt, t, cond, self.guidance, step, features)
            asked = {"features": features} if features else {}
            est: Estimate = roles[name](xt, t, told(cond, self.fake_knows), **asked)
            return est

    def _logit(
        self, roles: Roles, process: Any, seen: Corrupted, sample: Sample, real: Estimate, fake: Estimate
    ) -> Tensor:
        """(B,) of the discriminator."""
        est = real if self._adversary.features_of == self.teacher else fake
        logits = self._adversary.logits(roles, seen.xt, seen.t, sample.cond, est)
        return per_sample(logits, process, seen.xt)

    def _direction(
        self,
        process: Any,
        seen: Corrupted,
        own: Estimate,
        real: Estimate,
        fake: Estimate,
        logit: Tensor | None,
    ) -> Tree:
        """w(t) h(r) (D_fake - D_teacher), normalized."""
        weight = self.weight(process, seen.t)
        if self.normalize:
            weight = weight / _like(normalizer(process.geometry, own, real, seen.xt), weight)
        if self.ratio is not None and logit is not None:
            weight = weight * _like(self.ratio(logit, seen.t, process), weight)
        return scaled(process.geometry.difference(fake, real, seen.xt), weight)

    @property
    def _adversary(self) -> Adversary:
        if self.adversary is None:
            raise ValueError("this objective has no discriminator")
        return self.adversary


def critic_phases(
    critics: tuple[str, ...], student: str, updates: int, shared: bool = False
) -> tuple[Phase, ...]:
    """``updates`` phases "critic", then one "student"; with a shared sample the critic's phases build its graph."""
    last = (Phase("student", (student,)),)
    if not critics:
        return last
    return (Phase("critic", critics, builds=(student,) if shared else ()),) * updates + last


def _like(per_sample: Tensor, weight: Tensor) -> Tensor:
    """(B,) shaped to multiply (B, ...) weights."""
    return per_sample.to(weight.dtype).reshape(per_sample.shape + (1,) * (weight.ndim - 1))
