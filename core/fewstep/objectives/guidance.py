"""Guidance: the scale as an input of the student's network, one call where its teacher needs two.

L = E[ w(t) d( D_student(x_t, t, c, g), u + g (c - u) ) ] with g drawn from a law (Meng et al. 2023 eq. 5, stage one);
u and c are the teacher's estimates without and with the condition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from fewstep.objectives.corruption import draw_times
from fewstep.objectives.distances import Distance, l2
from fewstep.objectives.weights import Weight, truncated_snr
from fewstep.processes import TimeLaw
from fewstep.protocol import Batch, Denoiser, Key, Loss, Phase, Role, Roles, Step, Tree, rows, tensors

Scale: TypeAlias = TimeLaw | float | None
"""A guidance scale g: drawn per sample from a law, one number, or none."""


def from_w(w: float) -> float:
    """The scale g of a paper that writes (1 + w) c - w u (Ho & Salimans 2022 eq. 6): u + g (c - u) with g = 1 + w."""
    return 1 + w


def drawn_scale(scale: Scale, like: Tree, step: Step, key: Key) -> Tensor | None:
    """(B,) float64 scales."""
    if scale is None:
        return None
    if callable(scale):
        return draw_times(scale, like, step, key)
    return torch.full((rows(like),), scale, dtype=torch.float64, device=tensors(like)[0].device)


def told_scale(model: Any, scale: Tensor | None) -> dict[str, Tensor]:
    """The scale as a keyword, for a network that takes one."""
    return {} if scale is None or "guidance" not in model.accepts else {"guidance": scale}


@dataclass(frozen=True)
class GuidanceDistillation:
    """One network for every guidance scale. Roles: teacher (frozen, guided), student (takes ``guidance``).

    Args:
        times: law of the times.
        scale: law of g; a number trains for that scale alone.
        weight: w(t) in x0 units.
        distance: of the two estimates.
        teacher: role name.
        student: role name.
    """

    times: TimeLaw
    scale: TimeLaw | float
    weight: Weight = truncated_snr
    distance: Distance = l2
    teacher: str = "teacher"
    student: str = "student"

    @property
    def roles(self) -> Mapping[str, Role]:
        """Both take a scale."""
        takes = frozenset({"guidance"})
        return {
            self.teacher: Role(kind=nn.Module, trainable=False, accepts=takes),
            self.student: Role(kind=Denoiser, init=self.teacher, accepts=takes),
        }

    @property
    def reads(self) -> frozenset[str]:
        """Clean states."""
        return frozenset({"x"})

    def phases(self, index: int) -> Sequence[Phase]:
        """One update."""
        return (Phase("student", (self.student,)),)

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss:
        """Weighted distance to the guided estimate."""
        student = roles[self.student]
        process = student.process.on(batch.mask)
        t = draw_times(self.times, batch.x, step, step.key.at("time"))
        scale = drawn_scale(self.scale, batch.x, step, step.key.at("guidance"))
        xt = process.corrupt(batch.x, process.noise(batch, step.key.at("noise")), t)
        with torch.no_grad():
            aim = roles[self.teacher](xt, t, batch.cond, guidance=scale)
        own = student(xt, t, batch.cond, guidance=scale)
        gap = self.distance(process.geometry, own, aim, xt)
        total = (self.weight(process, t).to(gap.dtype) * gap).mean()
        return Loss(total, {"loss": total.detach()})
