"""Losses that use the score identity: their gradient runs through x_t *into* both frozen networks.

With delta = D_teacher - D_fake and toward = D_fake - x0, both in x0 units, E[<v(x_t), toward>] = 0 at the exact fake for
every v: the score identity (Zhou et al. 2024 eq. 8). Its derivative gives what the fake, being exact, would change by
when the student moves. SiD is here; SIM and Uni-Instruct in ``identity_family``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fewstep.objectives.corruption import Corruption, draw_times, fresh
from fewstep.objectives.critic import Knows, fake_loss, told
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
from fewstep.objectives.score_distillation import critic_phases
from fewstep.objectives.spreads import teacher_variance, variance
from fewstep.objectives.weights import Weight, customary, normalizer, one
from fewstep.processes import TimeLaw
from fewstep.protocol import (
    Batch,
    Cond,
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


class Judged(NamedTuple):
    """What a member of the family makes its loss from.

    Args:
        process: of the teacher, with the mask bound.
        xt: the corrupted sample.
        t: (B, ...) its times.
        cond: of the student's sample.
        delta: D_teacher - D_fake at x_t.
        toward: D_fake - x0.
    """

    process: Any
    xt: Tree
    t: Tensor
    cond: Cond
    delta: Tree
    toward: Tree


@dataclass(frozen=True)
class ScoreIdentity:
    """What the family shares; a member defines ``value``. Roles: teacher, student, fake.

    Args:
        times: law of the times at which the student is judged.
        normalize: divide each sample by mean |x - D_teacher|, cut from its graph (Zhou et al. 2024 sec. 3.3).
        weight: w(t) in x0 units.
        fake_times: the fake's own law; ``times`` by default.
        fake_weight: of its denoising loss.
        fake_knows: "shared" = one fake for the mixture of all steps of the student, as published; see ``told``.
        critic_updates: updates of the fake before each update of the student.
        corruption: how a sample is brought to its time.
        guidance: the teacher's guidance scale g.
        override: maps the student's condition to the one that the teacher is asked about; None = the same.
        inputs: "data" = the student's steps see noised data instead of its own roll.
        penalties: weights of ``Sample.penalties``.
        reward: see :class:`Reward`.
        share_rollout: critic and student of one cycle judge one sample, made once.
        teacher: role name.
        student: role name.
        from_teacher: the student starts as a copy of the teacher, where their shapes allow; False = by itself, which
            all but one of several mixed teachers must say.
        fake: role name.
    """

    times: TimeLaw
    normalize: bool = True
    weight: Weight = one
    fake_times: TimeLaw | None = None
    fake_weight: Weight = customary
    fake_knows: Knows = "per-step"
    critic_updates: int = 1
    corruption: Corruption = fresh
    guidance: Ramp | float | None = None
    override: Callable[[Cond], Cond] | None = None
    inputs: Inputs = "roll"
    penalties: Mapping[str, Ramp | float] = field(default_factory=dict)
    reward: Reward | None = None
    share_rollout: bool = False
    teacher: str = "teacher"
    student: str = "student"
    from_teacher: bool = True
    fake: str = "fake"

    def value(self, judged: Judged, roles: Roles, step: Step) -> Tensor:
        """(B,) differentiable in all that was judged, in x0 units."""
        raise NotImplementedError(f"{type(self).__name__} must define value(judged, roles, step)")

    @property
    def roles(self) -> Mapping[str, Role]:
        """Teacher, student, fake."""
        asked = frozenset() if self.guidance is None else frozenset({"guidance"})
        return {
            # A score is a derivative by the state, so states must move smoothly: on tokens there is none.
            self.teacher: Role(kind=nn.Module, trainable=False, accepts=asked, process=Flow),
            self.student: student_role(self.inputs, self.teacher if self.from_teacher else None),
            self.fake: Role(kind=nn.Module, init=self.teacher),
            **({} if self.reward is None else self.reward.roles),
        }

    @property
    def reads(self) -> frozenset[str]:
        """Nothing, unless the student is shown data."""
        return reads_of(self.inputs)

    @property
    def critics(self) -> tuple[str, ...]:
        """Roles that learn about the student."""
        return (self.fake,)

    def phases(self, index: int) -> Sequence[Phase]:
        """The critics' updates, then the student's."""
        return critic_phases(self.critics, self.student, self.critic_updates, self.share_rollout)

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss:
        """The loss of the critics or of the student."""
        learns = self.student in phase.updates
        sample = self._sample(roles, batch, step, shared=self.share_rollout, graph=learns)
        return self._student(roles, sample, step) if learns else self._critic(roles, sample, batch, step)

    def cautions(self, roles: Roles, batch: Batch, step: Step) -> Iterator[str]:
        """What the first batch says about the reward."""
        if self.reward is not None:
            sample = self._sample(roles, batch, step, shared=False, graph=False)
            yield from self.reward.cautions(roles, sample, step)

    def _sample(self, roles: Roles, batch: Batch, step: Step, *, shared: bool, graph: bool) -> Sample:
        sample = rollout(
            roles[self.student], self.student, batch, step, shared=shared, graph=graph, inputs=self.inputs
        )
        return encoded(sample, roles[self.teacher])

    def _critic(self, roles: Roles, sample: Sample, batch: Batch, step: Step) -> Loss:
        law = self.fake_times or self.times
        total = fake_loss(
            roles[self.fake], sample, self.corruption, law, self.fake_weight, step, self.fake_knows
        )
        return Loss(total, {"fake": total.detach()})

    def _student(self, roles: Roles, sample: Sample, step: Step) -> Loss:
        _require_continuous(sample)
        teacher: Any = roles[self.teacher]
        process = teacher.process.on(sample.mask)
        geometry = process.geometry
        xt, t, *_ = self.corruption(process, sample, self.times, step, step.key.at("judge"))
        asked = sample.cond if self.override is None else self.override(sample.cond)
        real = ask_teacher(teacher, xt, t, asked, self.guidance, step)
        fake, own = roles[self.fake](xt, t, told(sample.cond, self.fake_knows)), believed(sample)
        delta, toward = geometry.difference(real, fake, xt), geometry.difference(fake, own, xt)
        value = self.value(Judged(process, xt, t, sample.cond, delta, toward), roles, step)
        weight = self.weight(process, t).to(value.dtype)
        if self.normalize:
            weight = weight / normalizer(geometry, own, real, xt)
        each, fisher = weight * value, geometry.inner(delta, delta).detach().mean()
        total, found = rewarded(self.reward, each, roles, sample, geometry, step)
        extra, logs = penalty(sample, self.penalties, step)
        return Loss(total + extra, {"identity": each.detach().mean(), "fisher": fisher, **found, **logs})


@dataclass(frozen=True)
class SiD(ScoreIdentity):
    """Score identity distillation (Zhou et al. 2024 eq. 23): <delta, toward> + (1 - alpha) |delta|^2.

    Its value is (1 - alpha) times the Fisher divergence: near 0 for alpha = 1 and negative above; it says nothing about
    convergence.

    Args:
        alpha: 1 or 1.2. Above 1 a student much wider than the teacher moves the wrong way (``widest``): start narrow,
            or let it rise from 1.
    """

    alpha: Ramp | float = 1.2

    def value(self, judged: Judged, roles: Roles, step: Step) -> Tensor:
        """Eq. 23."""
        inner, alpha = judged.process.geometry.inner, at_step(self.alpha, step)
        found: Tensor = inner(judged.delta, judged.toward) + (1 - alpha) * inner(judged.delta, judged.delta)
        return found

    def cautions(self, roles: Roles, batch: Batch, step: Step) -> Iterator[str]:
        """Whether the student begins so wide that the gradient has the wrong sign."""
        yield from super().cautions(roles, batch, step)
        alpha, teacher = at_step(self.alpha, step), roles[self.teacher]
        process: Any = teacher.process.on(batch.mask)
        if alpha <= 1 or not hasattr(process, "sigma"):
            return
        sample = self._sample(roles, batch, step, shared=False, graph=False)
        ask = lambda xt, t: ask_teacher(teacher, xt, t, batch.cond, self.guidance, step)  # noqa: E731
        wide = variance(process.geometry, sample.x, batch.mask)
        true = teacher_variance(process, ask, batch, step.key.at("teacher"))
        t = draw_times(self.times, sample.x, step, step.key.at("time"))
        signal, noise = process.alpha(t).square(), process.sigma(t).square()
        ratio = (signal * wide + noise) / (signal * true + noise)
        of_mean, of_spread = widest(alpha)
        wrong = float((ratio > of_mean).double().mean())
        if wrong > 0:
            yield (
                f"the student begins with standard deviation {wide**0.5:.3g}, its teacher has {true**0.5:.3g}: at "
                f"{wrong:.0%} of the times that judge it the variances of x_t have a ratio above {of_mean:.3g} (up to "
                f"{float(ratio.max()):.3g}). Beyond {of_mean:.3g} the gradient of SiD with alpha = {alpha:g} moves the "
                f"mean away from the teacher, beyond {of_spread:.3g} it widens the student further. Use alpha = 1, let "
                "alpha rise from 1 (alpha_warmup), or begin narrower: start as a copy of the teacher, at a lower first "
                "time."
            )


def widest(alpha: float) -> tuple[float, float]:
    """Ratios V_q / V_p of the variances of x_t above which SiD moves a Gaussian's mean, and its spread, the wrong way.

    For N(mu, s^2) and x = a z + b at the exact fake: d/db ~ (b - mu) (1 - 2 (alpha - 1) (R - 1)) and
    d/da ~ (R - 1) (1 - (alpha - 1) (R - 1)), R = V_q / V_p; in several dimensions for each common eigenvector.
    """
    excess = alpha - 1
    if excess <= 0:
        return torch.inf, torch.inf
    return 1 + 1 / (2 * excess), 1 + 1 / excess


def _require_continuous(sample: Sample) -> None:
    if not all(leaf.dtype.is_floating_point for leaf in tensors(sample.x)):
        raise ValueError(
            "the score identity differentiates x_t with respect to x; discrete samples have no such gradient. "
            "Use score distillation (pathwise through probabilities) or a ratio policy."
        )
