"""Small exact parts that the tests of the objectives share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.processes import Gaussian, trig
from fewstep.protocol import Batch, Cond, Key, Loss, Objective, Phase, Step, parts
from fewstep.testing.analytic import GaussianTeacher
from fewstep.testing.linear import LinearFake, LinearStudent

MEAN, STD, GAIN, SHIFT = 0.7, 0.6, 0.9, -0.4
"""Teacher N(.7, .6^2), student x = .9 z - .4: the setting of every number that is quoted in these tests."""

ANGLE = math.acos(0.8)
"""On the trigonometric process with unit data this time has alpha = .8, sigma = .6."""


@dataclass(frozen=True)
class Listed(Key):
    """A key that hands out listed numbers: expectations over noise become finite sums.

    Args:
        values: name in the key's path -> what ``normal`` returns below it.
    """

    values: Mapping[str, Tensor] = field(default_factory=dict)

    def normal(self, like: Tensor) -> Tensor:
        for name in reversed(self.path):
            if name in self.values:
                return self.values[str(name)].reshape(like.shape).to(like.dtype)
        return super().normal(like)


@dataclass(frozen=True)
class Permuted(Key):
    """A key whose rows come in another order."""

    order: tuple[int, ...] = ()

    def normal(self, like: Tensor) -> Tensor:
        return self._ordered(super().normal(like))

    def uniform(self, shape: Sequence[int], **kind: Any) -> Tensor:
        return self._ordered(super().uniform(shape, **kind))

    def integers(self, shape: Sequence[int], high: int, **kind: Any) -> Tensor:
        return self._ordered(super().integers(shape, high, **kind))

    def _ordered(self, drawn: Tensor) -> Tensor:
        return drawn[list(self.order)] if drawn.ndim and len(drawn) == len(self.order) else drawn


@dataclass(frozen=True)
class Cropped(Key):
    """A key whose events are the beginning of longer ones: a cropped batch sees the noise of the padded one."""

    length: int = 0

    def normal(self, like: Tensor) -> Tensor:
        if like.ndim < 2:
            return super().normal(like)
        long = like.new_zeros((like.shape[0], self.length, *like.shape[2:]))
        return super().normal(long)[:, : like.shape[1]]

    def uniform(self, shape: Sequence[int], **kind: Any) -> Tensor:
        if len(shape) < 2:
            return super().uniform(shape, **kind)
        return super().uniform((shape[0], self.length, *shape[2:]), **kind)[:, : shape[1]]


@dataclass(frozen=True)
class At:
    """The time law that knows one time."""

    time: float

    def __call__(self, shape: Sequence[int], step: Step, key: Key) -> Tensor:
        return torch.full(tuple(shape), self.time, dtype=torch.float64)


def unit_process() -> Gaussian:
    return trig(sigma_data=1.0)


def duel(gain: float = GAIN, shift: float = SHIFT) -> dict[str, Any]:
    """Teacher, linear student and its exact fake."""
    process = unit_process()
    student = LinearStudent(process, gain, shift)
    return {
        "teacher": GaussianTeacher(process, MEAN, STD),
        "student": student,
        "fake": LinearFake(process, student),
    }


def four_points() -> tuple[Batch, Listed]:
    """z and eps each in {-1, 1}: exact for expectations of polynomials up to degree three in each."""
    grid = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    z, eps = (x.reshape(-1, 1) for x in torch.meshgrid(grid, grid, indexing="ij"))
    return Batch(like=z), Listed(0, values={"sample": z, "judge": eps})


def hermite(order: int = 60) -> tuple[Batch, Listed, Tensor]:
    """Gauss-Hermite points for z and eps, and their weights times their number, so that plain means integrate."""
    import numpy as np

    nodes, mass = (torch.as_tensor(part) for part in np.polynomial.hermite_e.hermegauss(order))
    z, eps = (x.reshape(-1, 1) for x in torch.meshgrid(nodes, nodes, indexing="ij"))
    weight = (mass[:, None] * mass[None, :]).reshape(-1) / mass.sum() ** 2
    return Batch(like=z), Listed(0, values={"sample": z, "judge": eps}), weight * len(z)


def student_loss(objective: Objective, roles: Any, batch: Batch, key: Key, index: int = 0) -> Loss:
    """The one-part loss of the student's phase."""
    phase = next(p for p in objective.phases(index) if p.name == "student")
    found = list(parts(objective.loss(phase, roles, batch, Step(index, 10, key))))
    return Loss(torch.stack([part.total for part in found]).sum(), found[0].logs)


def linear_gradient(objective: Objective, roles: Any, batch: Batch, key: Key) -> tuple[float, float]:
    """(d / d gain, d / d shift) of the student's loss."""
    student = roles["student"]
    total = student_loss(objective, roles, batch, key).total
    gain, shift = torch.autograd.grad(total, [student.gain, student.shift])
    return float(gain), float(shift)


def grant(roles: Mapping[str, nn.Module], phase: Phase) -> None:
    """Gradient flags as the engine sets them for one phase."""
    for module in roles.values():
        module.zero_grad(set_to_none=True)
        module.requires_grad_(False)
    for name in (*phase.updates, *phase.builds):
        roles[name].requires_grad_(True)


class Height(nn.Module):
    """A reward: the mean over real positions of a smooth function of the first coordinate."""

    def forward(self, x: Tensor, cond: Cond) -> Tensor:
        each = torch.sin(x[..., :1]) + 0.5 * x[..., :1]
        real = torch.ones_like(each) if cond.mask is None else cond.mask.to(each.dtype).expand_as(each)
        return (each * real).flatten(1).sum(1) / real.flatten(1).sum(1)
