"""Mean velocities: a network u(x_t, t, r) that knows how far it is from time t to r, and gets there in one step.

Along the flow (s_t - s_r) u = y_t - y_r. Its derivative by the clock s is the MeanFlow identity u = v - (s_t - s_r) du/ds,
which is regressed with the right side as a constant (Geng et al. 2025 eq. 6-8). y and s are those of the rectified flow
that a Gaussian process is after a change of variables; on ``flow`` they are x_t and t themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fewstep.objectives.continuous import Place, answering, rounded, straight, unfinished
from fewstep.objectives.corruption import draw_times
from fewstep.objectives.denoising import forget
from fewstep.objectives.rollout import ask_teacher, same_randomness
from fewstep.objectives.tangent import Derivative, forward
from fewstep.objectives.weights import scaled
from fewstep.processes import Gaussian, TimeLaw
from fewstep.protocol import (
    Batch,
    Cond,
    Denoiser,
    Estimate,
    Key,
    Loss,
    Phase,
    Ramp,
    Role,
    Roles,
    Step,
    at_step,
    rows,
    spread,
)


@dataclass(frozen=True)
class MeanFlow:
    """Roles: student, which is told where to go (``to``), and teacher unless it is None.

    A student that is not told is the plain denoiser, as with to = t.

    Args:
        times: law of t and of r; the larger of two draws is t.
        to_times: r's own law.
        same: share of samples with r = t, where the identity is flow matching.
        ramp: how much of the derivative counts.
        power: p of the weight 1 / (error + constant)^p, cut from its graph; 0 = plain squares, 1 = paper's default.
        constant: c of that weight.
        derivative: how du/ds is taken: ``forward``, ``Difference()``, ``SemiContinuous()``.
        guidance: g. The teacher's; or, without one, of the velocity that the student itself is taught: then ``null``
            says what no condition is (Geng et al. 2025 eq. 13-19).
        mix: kappa of eq. 19: how much of the guided velocity is the student's own conditional one, without a teacher.
        null: maps a condition to its unconditional twin.
        drop: probability that a sample sees that twin, and no guidance.
        teacher: role name; None = the velocity is that of data and noise.
        student: role name.

    Raises:
        ValueError: for guidance without teacher or null, or a mixture without guidance.
    """

    times: TimeLaw
    to_times: TimeLaw | None = None
    same: float = 0.75
    ramp: Ramp | float = 1.0
    power: float = 1.0
    constant: float = 1e-3
    derivative: Derivative = forward
    guidance: Ramp | float | None = None
    mix: float = 0.0
    null: Callable[[Cond], Cond] | None = None
    drop: float = 0.0
    teacher: str | None = "teacher"
    student: str = "student"

    def __post_init__(self) -> None:
        """Refuse guidance that nobody can give."""
        own = self.teacher is None and self.guidance is not None
        if own and self.null is None:
            raise ValueError("guidance without a teacher needs `null`, the condition that says nothing")
        if self.mix != 0.0 and not own:
            raise ValueError("`mix` belongs to guidance without a teacher; leave it 0 or drop the teacher")
        if self.drop != 0.0 and self.null is None:
            raise ValueError("a condition can be dropped only if `null` says what is left of it")

    @property
    def roles(self) -> Mapping[str, Role]:
        """The student, and the teacher."""
        to = frozenset({"to"})
        roles = {self.student: Role(kind=Denoiser, init=self.teacher, accepts=to, process=Gaussian)}
        if self.teacher is not None:
            asked = frozenset(() if self.guidance is None else {"guidance"})
            roles[self.teacher] = Role(kind=Denoiser, trainable=False, accepts=asked, process=Gaussian)
        return roles

    @property
    def reads(self) -> frozenset[str]:
        """Clean states."""
        return frozenset({"x"})

    def phases(self, index: int) -> Sequence[Phase]:
        """One update."""
        return (Phase("student", (self.student,)),)

    def cautions(self, roles: Roles, batch: Batch, step: Step) -> Iterator[str]:
        """Students that will not be told where to go when they sample, or whose derivative is rounded away."""
        student = roles[self.student]
        if getattr(student, "rule", "flow") not in ("flow", "gamma"):
            yield (
                f"the student walks by the rule {student.rule!r} and is not told where to land, so that its samples are "
                "a plain denoiser's; give it rule='flow'"
            )
        yield from rounded(student)
        yield from unfinished(self.ramp, step)

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss:
        """Two passes of the student, one with a graph and one for the derivative where r < t; one of the teacher."""
        student = roles[self.student]
        process = student.process.on(batch.mask)
        t, r = self.pairs(batch, step, step.key)
        noise = process.noise(batch, step.key.at("noise"))
        gone = step.key.at("drop").uniform((rows(batch.x),)).to(t.device) < self.drop
        cond = batch.cond if self.null is None else forget(batch.cond, self.null, gone)
        here = Place(process, straight, process.corrupt(batch.x, noise, t), t, cond)
        with same_randomness(step.key.at("dropout")):
            own = here.ask(student, to=r)
        with torch.no_grad(), same_randomness(step.key.at("dropout")):
            flow = self._flow(roles, here, here.known(batch.x, noise), gone, step)
        with torch.no_grad(), same_randomness(step.key.at("dropout")):
            moving = self._moving(batch, step.key).nonzero().squeeze(1)
            target = self._target(moving, here, student, flow, r, at_step(self.ramp, step))
        error = process.geometry.distance(Estimate(own), Estimate(target))
        total = (error / (error.detach() + self.constant) ** self.power).mean()
        return Loss(total, {"loss": total.detach(), "error": error.detach().mean()})

    def pairs(self, batch: Batch, step: Step, key: Key) -> tuple[Tensor, Tensor]:
        """(B,) t and r <= t."""
        one = draw_times(self.times, batch.x, step, key.at("time"))
        other = draw_times(self.to_times or self.times, batch.x, step, key.at("to"))
        t, r = torch.maximum(one, other), torch.minimum(one, other)
        return t, torch.where(self._moving(batch, key).to(t.device), r, t)

    def target(self, here: Place, student: Any, flow: Tensor, r: Tensor, ramp: float) -> Tensor:
        """The right side of the identity, v - (s_t - s_r) du/ds along the flow with r held fast.

        Args:
            here: straight.
            student: whose mean velocity it is.
            flow: v.
            r: (B,) where the student goes.
            ramp: how much of the derivative counts.
        """

        def mean_velocity(x: Tensor, t: Tensor) -> Tensor:
            return replace(here, xt=x, t=t).ask(student, to=r)

        if ramp == 0.0:
            return flow
        clock = here.chart.clock
        far = clock - straight(here.process, r).clock
        # In units of the room to both ends, so that a difference never leaves the range of the process.
        room = clock * (1 - clock).clamp(min=0.01)
        dx, dt = here.direction(flow)
        turned = self.derivative(mean_velocity, (here.xt, here.t), (scaled(dx, room), dt * room))
        return flow - scaled(turned, ramp * far / room)

    def _moving(self, batch: Batch, key: Key) -> Tensor:
        """(B,) which samples have a way to go; drawn on the CPU, so that choosing them waits for no device."""
        return key.at("same").uniform((rows(batch.x),)) >= self.same

    def _target(
        self, moving: Tensor, here: Place, student: Any, flow: Tensor, r: Tensor, ramp: float
    ) -> Tensor:
        """The target, whose derivative is taken in the rows ``moving`` (indices) alone: in the others it is v.

        Dropout draws other numbers for fewer rows, so that its units are those of the pass with a graph only for same = 0.
        """
        if self.same >= 1.0:
            return flow
        # Some row is asked even if none moves: where a role is sharded, every process must take part in the call.
        asked = (moving if len(moving) else torch.zeros(1, dtype=torch.int64)).to(flow.device)
        found = self.target(here.take(asked), student, flow[asked], r[asked], ramp)
        return flow.index_copy(0, asked[: len(moving)], found[: len(moving)].to(flow.dtype))

    def _flow(self, roles: Roles, here: Place, known: Tensor, gone: Tensor, step: Step) -> Tensor:
        """The velocity at t: the teacher's, that of data and noise, or the latter guided by the student."""
        if self.teacher is not None:
            teacher = answering(roles[self.teacher], here.process)
            return here.slope(teacher, ask_teacher(teacher, here.xt, here.t, here.cond, self.guidance, step))
        if self.guidance is None or self.null is None:
            return known
        scale, student = at_step(self.guidance, step), roles[self.student]
        free = replace(here, cond=self.null(here.cond)).ask(student, to=here.t)
        guided = scale * known + (1 - scale - self.mix) * free
        if self.mix != 0.0:
            guided = guided + self.mix * here.ask(student, to=here.t)
        return torch.where(spread(gone, known), known, guided)
