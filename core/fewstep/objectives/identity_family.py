"""Members of the score identity family beside SiD: any distance of scores (SIM), any f-divergence (Uni-Instruct)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from fewstep.objectives.discriminator import Adversary, discriminator_loss, log_ratio
from fewstep.objectives.identity import Judged, ScoreIdentity
from fewstep.objectives.ratios import RatioFactor
from fewstep.objectives.weights import Weight, scaled, snr
from fewstep.protocol import Batch, Geometry, Loss, Role, Roles, Sample, Step, Tree, tensors, tree_map


class ScoreDistance(Protocol):
    """A distance d(y) of two scores as a function of their gap y."""

    def __call__(self, geometry: Geometry, gap: Tree) -> Tensor:
        """(B,) d(y)."""
        ...

    def slope(self, geometry: Geometry, gap: Tree) -> Tree:
        """d'(y): the tree with <d'(y), v> = the derivative of d along v, in the geometry's inner product."""
        ...


@dataclass(frozen=True)
class Squared:
    """|y|^2: twice SiD with alpha = 1."""

    def __call__(self, geometry: Geometry, gap: Tree) -> Tensor:
        """(B,)."""
        return geometry.inner(gap, gap)

    def slope(self, geometry: Geometry, gap: Tree) -> Tree:
        """2 y."""
        return tree_map(lambda y: 2 * y, gap)


@dataclass(frozen=True)
class Huber:
    """sqrt(|y|^2 + c^2) - c of a sample's whole gap: its slope has length below 1 (Luo et al. 2024 SIM sec. 3.3)."""

    c: float = 1.0

    def __call__(self, geometry: Geometry, gap: Tree) -> Tensor:
        """(B,)."""
        return (geometry.inner(gap, gap) + self.c**2).sqrt() - self.c

    def slope(self, geometry: Geometry, gap: Tree) -> Tree:
        """The gap over sqrt(|y|^2 + c^2)."""
        return scaled(gap, (geometry.inner(gap, gap) + self.c**2).rsqrt())


@dataclass(frozen=True)
class ElementHuber:
    """The same of every element: close to the absolute difference for small c."""

    c: float = 1.0

    def __call__(self, geometry: Geometry, gap: Tree) -> Tensor:
        """(B,)."""
        each = tree_map(lambda y: (y.square() + self.c**2).sqrt() - self.c, gap)
        return geometry.inner(each, tree_map(torch.ones_like, gap))

    def slope(self, geometry: Geometry, gap: Tree) -> Tree:
        """y_i / sqrt(y_i^2 + c^2)."""
        return tree_map(lambda y: y * (y.square() + self.c**2).rsqrt(), gap)


@dataclass(frozen=True)
class Power:
    """(|y|^2 + floor)^(power / 2), the floor so that it has a slope at 0."""

    power: float = 1.5
    floor: float = 1e-8

    def __call__(self, geometry: Geometry, gap: Tree) -> Tensor:
        """(B,)."""
        return (geometry.inner(gap, gap) + self.floor).pow(self.power / 2)

    def slope(self, geometry: Geometry, gap: Tree) -> Tree:
        """Its power rule: power (|y|^2 + floor)^(power / 2 - 1) y."""
        length = (geometry.inner(gap, gap) + self.floor).pow(self.power / 2 - 1)
        return scaled(gap, self.power * length)


def in_noise(process: Any, t: Tensor) -> Tensor:
    """The factor alpha / sigma: from a gap of x0 estimates to one of noise estimates."""
    return snr(process, t).sqrt()


def in_scores(process: Any, t: Tensor) -> Tensor:
    """The factor alpha / sigma^2: from a gap of x0 estimates to one of scores."""
    return snr(process, t).sqrt() / process.sigma(t)


@dataclass(frozen=True)
class SIM(ScoreIdentity):
    """Score implicit matching (Luo et al. 2024 eq. 3.7): E[d(s_fake - s_teacher)] for any distance d.

    Loss -d'(y) . (s_fake - score(x_t | x0)) with y = s_fake - s_teacher. It is kept in x0 units, as all weights are: with
    u = ``units``, d'(u delta) / u . toward; weight alpha^2 / sigma^4 and ``in_scores`` give the paper's own loss.

    Args:
        distance: d.
        units: in which d measures the gap, which says where a Huber distance bends: ``in_scores`` as published,
            ``in_noise``, or the weight ``one`` for x0.
    """

    normalize: bool = False
    distance: ScoreDistance = Huber()
    units: Weight = in_scores

    def value(self, judged: Judged, roles: Roles, step: Step) -> Tensor:
        """Eq. 3.7."""
        geometry = judged.process.geometry
        units = self.units(judged.process, judged.t).clamp(min=1e-12)
        slope = self.distance.slope(geometry, scaled(judged.delta, units))
        found: Tensor = geometry.inner(scaled(slope, 1 / units), judged.toward)
        return found


@dataclass(frozen=True)
class UniInstruct(ScoreIdentity):
    """Any f-divergence at time 0 as an integral of ratio-weighted Fisher divergences (Wang et al. 2025 theorem 3.1).

    D_f = int g^2 / 2 E_q[h(r) |s_fake - s_teacher|^2] dt with r = p / q and h(r) = f''(r) r^2, the factors of f-distill.
    The gradient of each term is that of (h - r h') |delta|^2 + 2 h <delta, toward>, where r moves with x_t by
    d log r / dx = s_teacher - s_fake: the discriminator gives the value of r and needs no graph.

    Args:
        factor: h; None = 1, the reverse KL(q | p), which needs no ratio and no discriminator (twice SiD, alpha = 1/2).
        limit: of |log r|.
        disc: role of the discriminator, if there is a factor.
        reference: batch field with the disc's real samples, "x" or "extra.<name>".
        smoothing: of the disc's labels.
    """

    factor: RatioFactor | None = None
    limit: float = 3.0
    disc: str = "disc"
    reference: str = "x"
    smoothing: float = 0.0

    @property
    def roles(self) -> Mapping[str, Role]:
        """Teacher, student, fake, and disc where there is a factor."""
        if self.factor is None:
            return super().roles
        return {**super().roles, **Adversary(self.disc).asked(self.teacher, self.fake, self.student)}

    @property
    def reads(self) -> frozenset[str]:
        """Nothing, unless a discriminator needs reference samples."""
        return super().reads | frozenset(() if self.factor is None else {self.reference})

    @property
    def critics(self) -> tuple[str, ...]:
        """Roles that learn about the student."""
        return (self.fake,) if self.factor is None else (self.fake, self.disc)

    def value(self, judged: Judged, roles: Roles, step: Step) -> Tensor:
        """The integrand's surrogate."""
        inner = judged.process.geometry.inner
        own, cross = inner(judged.delta, judged.delta), inner(judged.delta, judged.toward)
        if self.factor is None:
            return own + 2 * cross
        ratio, moves = self._ratio(judged, roles[self.disc])
        both: Any = torch.func.jvp(self.factor, (ratio,), (ratio * moves,))
        factor, slope = both
        return (factor - slope) * own + 2 * factor * cross

    def _ratio(self, judged: Judged, disc: Any) -> tuple[Tensor, Tensor]:
        """(B,) r with its exact gradient in x_t, and 1 where it is not held at its limit."""
        with torch.no_grad():
            log = log_ratio(disc, judged.process, judged.xt, judged.t, judged.cond)
            scores = scaled(judged.delta, in_scores(judged.process, judged.t))
        # The value stays, the slope is the scores'. A ratio is of whole events, so it is summed whatever the reduction.
        for slope, x in zip(tensors(scores), tensors(judged.xt), strict=True):
            log = log + (slope * (x - x.detach())).flatten(1).sum(1)
        return log.clamp(-self.limit, self.limit).exp(), (log.detach().abs() < self.limit).to(log.dtype)

    def _critic(self, roles: Roles, sample: Sample, batch: Batch, step: Step) -> Loss:
        found = super()._critic(roles, sample, batch, step)
        if self.factor is None:
            return found
        judged, logs = discriminator_loss(
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
        return Loss(found.total + judged, {**found.logs, **logs})
