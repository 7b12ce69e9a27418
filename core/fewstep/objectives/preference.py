"""Preferences between pairs of samples tune a distilled student without making it slow again.

Pairwise sample optimization (PSO, Miao et al. 2024): direct preference optimization (Rafailov et al. 2023 eq. 7) over
the few random steps that a few-step student really takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.objectives.discriminator import reference_of
from fewstep.objectives.reward import made_by, valued
from fewstep.objectives.rollout import detach_sample, rollout
from fewstep.protocol import (
    Batch,
    Estimate,
    Loss,
    Phase,
    Ramp,
    Role,
    Roles,
    Sample,
    Step,
    Stepwise,
    Stochastic,
    Tree,
    at_step,
    tensors,
)

_ADVICE = "this recipe has no reward; name your own: -s objective.target=module:callable"


@dataclass(frozen=True)
class PairPolicy:
    """Online: the student draws two samples, a reward says which is better, the better path becomes more probable.

    L = mean over rows and draws k of -log sigmoid(beta [c(h_k(winner)) - c(h_k(loser))]), h = log student / reference,
    c = clip to log(1 -+ clip). Its optimum under a Bradley-Terry reward of temperature T is
    h(a) - h(b) = (r(a) - r(b)) / (T beta): the reference, tilted by exp(r / (T beta)).

    Args:
        beta: strength of the pull towards the reference.
        clip: largest departure of the ratio from 1 that still has a gradient; None = no bound.
        temperature: of the reward; 0 = the larger reward wins, else it wins with probability sigmoid(difference / T).
        student: role name; a student that draws (``logp``).
        reference: role name; a frozen copy of the student as it starts.
        reward: role name; called ``reward(x, cond) -> (B,)``.
        make: builds the reward where the assembly offers none.
        origin: whose weights the student starts from, if there is such a role: the distilled student to be tuned.

    Raises:
        ValueError: if the clip is not in (0, 1).
    """

    beta: Ramp | float = 50.0
    clip: float | None = 0.1
    temperature: float = 0.0
    student: str = "student"
    reference: str = "reference"
    reward: str = "reward"
    make: Callable[[], nn.Module] | None = None
    origin: str = "teacher"

    def __post_init__(self) -> None:
        """Refuse a clip that clips everything, or nothing below."""
        if self.clip is not None and not 0 < self.clip < 1:
            raise ValueError(f"clip bounds a ratio to 1 -+ clip and must be in (0, 1), not {self.clip}")

    @property
    def roles(self) -> Mapping[str, Role]:
        """Student, its frozen copy, and the judge of samples."""
        default = None if self.make is None else partial(made_by, self.make)
        return {
            self.origin: Role(trainable=False, optional=True),
            self.student: Role(kind=Stochastic, init=self.origin),
            self.reference: Role(kind=Stochastic, init=self.student, trainable=False),
            self.reward: Role(trainable=False, default=default, advice=_ADVICE),
        }

    @property
    def reads(self) -> frozenset[str]:
        """No data."""
        return frozenset()

    def phases(self, index: int) -> Sequence[Phase]:
        """One update."""
        return (Phase("student", (self.student,)),)

    def cautions(self, roles: Roles, batch: Batch, step: Step) -> Iterator[str]:
        """A reward that prefers nothing."""
        sample = roles[self.student].sample(batch, step)
        values = self._valued(roles, sample)
        if len(values) > 1 and bool((values == values[0]).all()):
            yield (
                f"the reward gives every sample of the first batch the same number, {float(values[0]):g}; then no sample "
                "wins and the student learns nothing; look at the reward's input and scale"
            )

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss:
        """Two rolls of the student with graph; the reference sees the same paths."""
        ratios, rewards = [], []
        for name in ("first", "second"):
            inner = replace(step, key=step.key.at(name))
            sample = rollout(roles[self.student], self.student, batch, inner, shared=False, graph=True)
            with torch.no_grad():
                known = roles[self.reference].logp(detach_sample(sample), batch)
                rewards.append(self._valued(roles, sample))
            ratios.append(log_probability(sample) - known)
        bound = None if self.clip is None else (math.log(1 - self.clip), math.log(1 + self.clip))
        clipped = [h if bound is None else h.clamp(*bound) for h in ratios]
        wins = preference(rewards[0] - rewards[1], self.temperature)
        total = pair_loss(clipped[0] - clipped[1], wins, at_step(self.beta, step)).mean()
        away = torch.cat([h.detach() != c.detach() for h, c in zip(ratios, clipped, strict=True)])
        logs = {
            "preference": total.detach(),
            "clipped": away.to(total.dtype).mean(),
            "reward": torch.cat(rewards).mean(),
        }
        return Loss(total, logs)

    def _valued(self, roles: Roles, sample: Sample) -> Tensor:
        """(B,) of a reward that is not told which step made a sample."""
        return valued(roles[self.reward], sample.x, replace(sample.cond, index=None))


@dataclass(frozen=True)
class PairTarget:
    """Offline: what the batch holds wins against what the student makes.

    With m(x) = |D(x_t) - x|^2 at a start time t of the student, and the same m of a frozen reference,
    L = -log sigmoid(beta [(m_ref(x) - d m_ref(y)) - (m(x) - d m(y))]) for target x and own sample y. Without a reference
    L = beta max(0, margin + m(x) - d m(y)).

    Args:
        beta: strength.
        discount: d, how much the loser counts.
        margin: of the hinge form.
        target: batch field of x, "x" or "extra.<name>".
        student: role name.
        reference: role name of a frozen copy of the student as it starts; None = the hinge form.
        origin: whose weights the student starts from, if there is such a role.
    """

    beta: Ramp | float = 200.0
    discount: float = 0.1
    margin: float = 0.0
    target: str = "x"
    student: str = "student"
    reference: str | None = "reference"
    origin: str = "teacher"

    @property
    def roles(self) -> Mapping[str, Role]:
        """Student, and its frozen copy if there is one."""
        roles = {
            self.origin: Role(trainable=False, optional=True),
            self.student: Role(kind=Stepwise, init=self.origin),
        }
        if self.reference is not None:
            roles[self.reference] = Role(kind=Stepwise, init=self.student, trainable=False)
        return roles

    @property
    def reads(self) -> frozenset[str]:
        """The targets."""
        return frozenset({self.target})

    def phases(self, index: int) -> Sequence[Phase]:
        """One update."""
        return (Phase("student", (self.student,)),)

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss:
        """Target and own sample, hidden by one noise at one of the student's own times."""
        student = roles[self.student]
        with torch.no_grad():
            own = student.sample(batch, replace(step, key=step.key.at("sample"))).x
        pair = (reference_of(batch, self.target), own)
        gap = self._gap(student, pair, batch, step)
        strength = at_step(self.beta, step)
        if self.reference is None:
            total = strength * F.relu(self.margin + gap).mean()
        else:
            with torch.no_grad():
                known = self._gap(roles[self.reference], pair, batch, step)
            total = -F.logsigmoid(strength * (known - gap)).mean()
        return Loss(total, {"preference": total.detach(), "gap": gap.detach().mean()})

    def _gap(self, model: Any, pair: tuple[Tree, Tree], batch: Batch, step: Step) -> Tensor:
        """(B,) m(target) - d m(own sample)."""
        process = model.process.on(batch.mask)
        noise = process.noise(batch, step.key.at("noise"))
        first = tensors(batch.like)[0]
        which = step.key.at("time").integers((len(first),), len(model.times)).to(first.device)
        t = torch.tensor(model.times, dtype=torch.float64, device=first.device)[which]
        target, own = (
            process.geometry.distance(model.ask(process.corrupt(x, noise, t), which, batch.cond), Estimate(x))
            for x in pair
        )
        found: Tensor = target - self.discount * own
        return found


def preference(difference: Tensor, temperature: float = 0.0) -> Tensor:
    """(B,) probability that the first of a pair wins (Bradley & Terry 1952); equal rewards are a draw."""
    if temperature == 0.0:
        return 0.5 * (1 + difference.sign())
    return torch.sigmoid(difference / temperature)


def pair_loss(difference: Tensor, wins: Tensor, beta: float) -> Tensor:
    """(B, K) cross-entropy of sigmoid(beta difference) against the probability (B,) that the first wins."""
    first = wins.to(difference.dtype).unsqueeze(1)
    return -first * F.logsigmoid(beta * difference) - (1 - first) * F.logsigmoid(-beta * difference)


def log_probability(sample: Sample) -> Tensor:
    """(B, K) of a drawn sample.

    Raises:
        ValueError: if the sample was mapped.
    """
    if sample.logp is None:
        raise ValueError(
            "this sample carries no logp, so no path of it can become more probable; use a student that draws"
        )
    return sample.logp
