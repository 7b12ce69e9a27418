"""A reward beside distillation: tilting moves the fixed point, weighting only says which samples matter more.

Tilt (Hyper-SD, Ren et al. 2024 eq. 8; ReFL, Xu et al. 2023): with weight lambda, distillation of p ends at p exp(lambda R).
Weight (Re-DMD, Lu et al. 2025 eq. 9): each sample's direction times exp(beta R); where all directions vanish, weights
change nothing, so the fixed point stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.errors import FewstepError
from fewstep.protocol import (
    Batch,
    Cond,
    Geometry,
    Ramp,
    Role,
    Roles,
    Sample,
    Step,
    Tree,
    at_step,
    pathwise,
    rows,
    tensors,
    tree_map,
)


@dataclass(frozen=True)
class Reward:
    """How a reward ``(x, cond) -> (B,)`` takes part. It reads samples in the space of the judges.

    Args:
        tilt: lambda; the direction -lambda dR/dx is added to each sample's. Needs a continuous state.
        margin: if given, only samples with a reward below it are tilted: max(0, margin - R).
        cap: if given, the tilt's gradient is at most this share of the distillation's, sample by sample.
        weight: beta; samples are weighted by exp(beta R) over its mean of the batch.
        clip: largest weight of a sample.
        least: effective sample size (sum w)^2 / sum w^2 that must remain, as a share of the batch; beta is lowered
            until it does.
        role: name of the reward's role.
        make: builds it where the assembly offers none.

    Raises:
        ValueError: if the share is not in (0, 1].
    """

    tilt: Ramp | float = 0.0
    margin: float | None = None
    cap: float | None = None
    weight: Ramp | float = 0.0
    clip: float = 10.0
    least: float = 0.25
    role: str = "reward"
    make: Callable[[], nn.Module] | None = None

    def __post_init__(self) -> None:
        """A share is a share."""
        if not 0 < self.least <= 1:
            raise ValueError(f"least is a share of the batch in (0, 1], got {self.least}")

    @property
    def roles(self) -> Mapping[str, Role]:
        """The reward, frozen."""
        default = None if self.make is None else partial(made_by, self.make)
        advice = "this recipe has no reward; name your own: -s objective.reward.target=module:callable"
        return {self.role: Role(kind=nn.Module, trainable=False, default=default, advice=advice)}

    def assess(self, roles: Roles, sample: Sample, step: Step) -> Assessment:
        """One call of the reward on a sample: weights, and the direction of the tilt."""
        strength, beta = at_step(self.tilt, step), at_step(self.weight, step)
        cond = replace(sample.cond, index=None)
        values, slope = _valued(roles[self.role], sample.x, cond, self.margin, strength != 0.0)
        direction = None if slope is None else tree_map(lambda leaf: -strength * leaf, slope)
        logs = {"reward": values.mean()}
        if beta == 0.0:
            return Assessment(torch.ones_like(values), direction, logs)
        weight, used = tempered(values, beta, self.clip, self.least)
        return Assessment(weight, direction, {**logs, "ess": effective(weight), "beta": used})

    def cautions(self, roles: Roles, sample: Sample, step: Step) -> Iterator[str]:
        """Whether the weights rest on few samples."""
        beta = at_step(self.weight, step)
        if beta == 0.0:
            return
        values = valued(roles[self.role], sample.x, replace(sample.cond, index=None))
        share = float(effective(exponential(values, beta, self.clip)))
        if share < self.least:
            used = float(tempered(values, beta, self.clip, self.least)[1])
            yield (
                f"the weights exp({beta:g} R) of the first batch rest on {share:.1%} of its {len(values)} samples (standard "
                f"deviation of R {float(values.std()):.3g}); gradients will be noisy. beta is lowered to {used:.3g} so that "
                f"{self.least:.0%} remain; choose a smaller weight, a larger batch, or standardize the reward."
            )


@dataclass(frozen=True)
class Assessment:
    """What a reward says about a batch.

    Args:
        weight: (B,) of each sample's distillation.
        direction: of the tilt, in coordinates; None = no tilt.
        logs: numbers to log.
    """

    weight: Tensor
    direction: Tree | None
    logs: Mapping[str, Tensor] = field(default_factory=dict)

    def tilted(self, total: Tensor, sample: Sample, geometry: Geometry, cap: float | None) -> Tensor:
        """The loss with the tilt added; ``total`` must reach the student through ``sample.x`` alone.

        With a cap, the loss is replaced by its linearization at the sample, which has the same gradient: so the
        judges are differentiated once.
        """
        if self.direction is None:
            return total
        if cap is None:
            return total + pathwise(sample, self.direction, geometry)
        x = tensors(sample.x)
        ours = torch.autograd.grad(total, x)
        theirs = torch.autograd.grad(pathwise(sample, self.direction, geometry), x)
        share = (cap * _norm(ours) / _norm(theirs).clamp(min=1e-30)).clamp(max=1)
        linear = torch.stack([(leaf * slope).sum() for leaf, slope in zip(x, ours, strict=True)]).sum()
        return linear + pathwise(sample, self.direction, geometry, share)


def rewarded(
    reward: Reward | None, each: Tensor, roles: Roles, sample: Sample, geometry: Geometry, step: Step
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The mean of per-sample losses (B,), weighted and tilted by a reward, and what to log."""
    if reward is None:
        return each.mean(), {}
    found = reward.assess(roles, sample, step)
    return found.tilted((found.weight * each).mean(), sample, geometry, reward.cap), found.logs


def made_by(make: Callable[[], nn.Module], roles: Roles, batch: Batch) -> nn.Module:
    """A reward that needs neither roles nor a batch to be made.

    Raises:
        ValueError: if it is no module.
    """
    made: object = make()
    if not isinstance(made, nn.Module):
        name = getattr(make, "__name__", "the reward's target")
        raise ValueError(
            f"{name} returns a {type(made).__name__}; it must return a torch module (x, cond) -> (B,)"
        )
    return made


def valued(module: Any, x: Tree, cond: Cond) -> Tensor:
    """(B,) rewards.

    Raises:
        FewstepError: they are not one number per sample.
    """
    values: Tensor = module(x, cond)
    if values.shape != (rows(x),):
        raise FewstepError(
            f"the reward {type(module).__name__} returns the shape {tuple(values.shape)} for {rows(x)} samples",
            f"one number per sample: ({rows(x)},)",
            "reduce over all but the first dimension",
        )
    return values


def exponential(values: Tensor, beta: Tensor | float, clip: float) -> Tensor:
    """(B,) exp(beta R) over its mean, at most ``clip``."""
    return (torch.softmax(beta * values, 0) * len(values)).clamp(max=clip)


def effective(weight: Tensor) -> Tensor:
    """(sum w)^2 / sum w^2 as a share of the batch: 1 for equal weights, 1 / B for a single one (Kish 1965)."""
    return weight.sum().square() / weight.square().sum().clamp(min=1e-30) / len(weight)


def tempered(values: Tensor, beta: float, clip: float, least: float) -> tuple[Tensor, Tensor]:
    """Weights with the largest exponent up to ``beta`` whose effective share is at least ``least``, and that exponent."""
    low, high = values.new_zeros(()), values.new_full((), beta)
    if effective(exponential(values, high, clip)) >= least:
        return exponential(values, high, clip), high
    for _ in range(40):
        middle = (low + high) / 2
        enough = effective(exponential(values, middle, clip)) >= least
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
    return exponential(values, low, clip), low


def _valued(module: Any, x: Tree, cond: Any, margin: float | None, slope: bool) -> tuple[Tensor, Tree | None]:
    """(B,) rewards, and the gradient of min(R, margin) by the sample.

    Raises:
        ValueError: if a tilt is asked for and the state is discrete.
    """
    if not slope:
        with torch.no_grad():
            return valued(module, x, cond), None
    if not all(leaf.dtype.is_floating_point for leaf in tensors(x)):
        raise ValueError(
            "a tilt differentiates the reward by the sample; a discrete one has no gradient: set tilt=0"
        )
    free = tree_map(lambda leaf: leaf.detach().requires_grad_(True), x)
    with torch.enable_grad():
        values = valued(module, free, cond)
        kept = values if margin is None else values.clamp(max=margin)
        found = iter(torch.autograd.grad(kept.sum(), tensors(free)))
    return values.detach(), tree_map(lambda _: next(found), free)


def _norm(leaves: tuple[Tensor, ...]) -> Tensor:
    """(B,) over all leaves."""
    return torch.stack([leaf.reshape(rows(leaf), -1).square().sum(1) for leaf in leaves]).sum(0).sqrt()
