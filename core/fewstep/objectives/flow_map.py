"""Consistency: two points of one trajectory must be sent to the same place.

L = E[ w d( F(x_t, t -> r), sg F'(x_s, s -> r) ) ], t > s >= r on one trajectory, F' the student's running average or
the student itself. x_s comes from the teacher's solver (consistency distillation, Song et al. 2023 algorithm 2) or,
without a teacher, from the same noise (consistency training, algorithm 3). Where r lies is the methods' difference: at
the clean state (CD, LCM, ECT, SCott), at the end of a segment (TSCD, MLCM), anywhere (CTM).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from fewstep.objectives.distances import Distance, l2
from fewstep.objectives.guidance import Scale, drawn_scale, told_scale
from fewstep.objectives.pair_solvers import Believe, PairSolver, Sde, States, heun
from fewstep.objectives.pairs_of_times import GridPairs, Pair, PairLaw, SegmentPairs
from fewstep.objectives.rollout import same_randomness
from fewstep.objectives.weights import PairWeight, pair_one
from fewstep.processes import Gaussian
from fewstep.protocol import (
    Batch,
    Cond,
    Denoiser,
    Estimate,
    Flow,
    Loss,
    Phase,
    Process,
    Role,
    Roles,
    Step,
    Tree,
    rows,
    spread,
    tensors,
    tree_map,
)

CALM = 0.5
"""The largest noise strength of a stochastic solver that does without a term against blur."""


@dataclass(frozen=True)
class Consistency:
    """Roles: teacher (frozen), student, target (the student's running average, stepped before each cycle).

    Args:
        pairs: law of times: where student and target stand, and where both land.
        solver: how the teacher moves from t to s: ``euler``, ``heun``, ``ddim``, ``Sde(...)``, ``Along(...)``.
        distance: of the two estimates.
        weight: of a pair.
        guidance: the teacher's guidance scale g, per sample from a law or one number; students that accept
            ``guidance`` are told (Meng et al. 2023; Luo et al. 2023 LCM).
        states: where x_t comes from; None = from data, else the teacher's own states, and no data is read.
        compare: "landing" = where the maps land; "clean" = after the target has moved both from there to the cleanest
            time, with the gradient through that move (Kim et al. 2024 CTM eq. 8).
        accompanied: another term of the loss fights blur (an adversarial one); silences a caution.
        origin: whose weights the student starts from, if there is such a role; None = the teacher's.
        teacher: role name; None = consistency training on data alone.
        student: role name.
        target: role name; None = the student itself without gradient (Song & Dhariwal 2024 sec. 3.2).

    Raises:
        ValueError: if there is no teacher to guide or to give states, or nobody to move to the clean state.
    """

    pairs: PairLaw = field(default_factory=GridPairs)
    solver: PairSolver = heun
    distance: Distance = l2
    weight: PairWeight = pair_one
    guidance: Scale = None
    states: States | None = None
    compare: Literal["landing", "clean"] = "landing"
    accompanied: bool = False
    origin: str | None = None
    teacher: str | None = "teacher"
    student: str = "student"
    target: str | None = "target"

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.teacher is None and self.guidance is not None:
            raise ValueError("consistency training has no teacher to guide; leave guidance out")
        if self.teacher is None and self.states is not None:
            raise ValueError("states of the teacher need a teacher; name its role, or leave states out")
        if self.compare == "clean" and (self.target is None or self.pairs.lands != "anywhere"):
            raise ValueError(
                "comparing clean states needs a target role, whose frozen map both sides take from where they land, "
                "and pairs that land anywhere (MapPairs); else compare at the landing"
            )

    @property
    def roles(self) -> Mapping[str, Role]:
        """Student, and those that are named."""
        told = frozenset({"to"} if self.pairs.lands == "anywhere" else ())
        needed: type | None = Flow if self.teacher is not None or self.pairs.lands != "clean" else None
        # The reverse SDE is known in closed form where noise is Gaussian, and nowhere else.
        needed = Gaussian if isinstance(self.solver, Sde) else needed
        walks = {"rule": "ddim"} if isinstance(self.pairs, SegmentPairs) and self.pairs.left > 1 else {}
        begin = self.origin or self.teacher
        roles = {self.student: Role(Denoiser, begin, accepts=told, process=needed, having=walks)}
        if begin is not None:
            roles[begin] = Role(trainable=False, optional=True)
        if self.teacher is not None:
            asked = frozenset(() if self.guidance is None else {"guidance"})
            roles[self.teacher] = Role(trainable=False, accepts=asked)
        if self.target is not None:
            roles[self.target] = Role(init=self.student, trainable=False)
        return roles

    @property
    def reads(self) -> frozenset[str]:
        """Clean states, unless the teacher makes the states."""
        return frozenset({"x"} if self.states is None else ())

    def phases(self, index: int) -> Sequence[Phase]:
        """One update."""
        return (Phase("student", (self.student,)),)

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss:
        """Weighted distance of the places to which the two points of a pair are sent."""
        student = roles[self.student]
        target = roles[self.target] if self.target is not None else student
        process = student.process.on(batch.mask)
        pair = self._pair(process, batch, step)
        scale = drawn_scale(self.guidance, batch.like, step, step.key.at("guidance"))
        xt, xs = self._points(process, roles, batch, pair, scale, step)
        sent = _Sender(process, batch.cond, scale, self.pairs.lands == "anywhere")
        finish = target if self.compare == "clean" else None
        with torch.no_grad(), same_randomness(step.key.at("dropout")):
            aim = sent(target, xs, pair.s, pair.to, finish)
        with same_randomness(step.key.at("dropout")):
            own = sent(student, xt, pair.t, pair.to, finish)
        gap = self.distance(process.geometry, own, aim, xt)
        weight = self.weight(process, pair.t, pair.s) * (1.0 if pair.trust is None else pair.trust)
        total = (weight.to(gap.dtype) * gap).mean()
        return Loss(total, {"loss": total.detach()})

    def cautions(self, roles: Roles, batch: Batch, step: Step) -> Iterator[str]:
        """Noise without a remedy, guidance that the student is not told, steps that no segment begins with."""
        student = roles[self.student]
        if isinstance(self.solver, Sde) and self.solver.eta > CALM and not self.accompanied:
            yield (
                f"eta = {self.solver.eta:g} with no adversarial term: the optimum is the mean over the solver's noise, "
                "which is blurred (all the way to the denoiser at eta = 1); lower eta or add an adversarial term"
            )
        if callable(self.guidance) and "guidance" not in student.accepts:
            yield (
                "guidance is drawn per sample, but the student's network does not take `guidance`, so it learns the "
                "mean over all scales; give one number, or a network that accepts guidance"
            )
        if isinstance(self.pairs, SegmentPairs) and getattr(student, "rule", "") == "ddim":
            yield from _strayed(student.times, self.pairs.starts(student.process))

    def _pair(self, process: Process, batch: Batch, step: Step) -> Pair:
        device = tensors(batch.like)[0].device
        drawn = self.pairs(process, rows(batch.like), step, step.key.at("time"))
        return Pair(*(None if times is None else times.to(device) for times in drawn))  # type: ignore[arg-type]

    @torch.no_grad()
    def _points(
        self, process: Any, roles: Roles, batch: Batch, pair: Pair, scale: Tensor | None, step: Step
    ) -> tuple[Tree, Tree]:
        """x_t, and x_s on its trajectory: by the teacher's steps, or the same noise at s."""
        noise = process.noise(batch, step.key.at("noise"))
        draws = _draws(process, batch, step)
        if self.teacher is None:
            return process.corrupt(batch.x, noise, pair.t), process.corrupt(batch.x, noise, pair.s)
        teacher = roles[self.teacher]
        asked = {} if scale is None else {"guidance": scale}
        believe: Believe = lambda x, at: teacher(x, at, batch.cond, **asked)  # noqa: E731
        if self.states is None:
            xt = process.corrupt(batch.x, noise, pair.t)
        else:
            xt = self.states(process, believe, noise, pair.t, draws("states"))
        return xt, self.solver(process, believe, xt, pair.t, pair.s, draws("solver"))


@dataclass(frozen=True)
class _Sender:
    """Sends states where a network's map leads them."""

    process: Any
    cond: Cond
    scale: Tensor | None
    tells: bool

    def __call__(
        self, model: Any, x: Tree, t: Tensor, to: Tensor | None, finish: Any | None = None
    ) -> Estimate:
        """From t to ``to`` (None = the clean estimate), and from there by ``finish`` to the cleanest time."""
        est = _bounded(self.process, x, t, model(x, t, self.cond, **self._told(model, to)))
        if to is None:
            return est
        landed = self.process.jump(x, est, t, to)
        if finish is None:
            return Estimate(landed)
        return self(finish, landed, to, torch.full_like(to, self.process.t_min))

    def _told(self, model: Any, to: Tensor | None) -> dict[str, Tensor]:
        """What the network is told beside state, time and condition."""
        told = told_scale(model, self.scale)
        return {**told, "to": to} if self.tells and to is not None else told


def _draws(process: Process, batch: Batch, step: Step) -> Callable[[str], Callable[[int], Tree]]:
    """Fresh noise by name and number."""
    return lambda name: lambda number: process.noise(batch, step.key.at(name, number))


def _bounded(process: Any, x: Tree, t: Tensor, est: Estimate) -> Estimate:
    """At the cleanest time the estimate is the state itself, whatever the network says (Song et al. 2023 eq. 4)."""
    if not isinstance(process, Flow):
        return est
    edge = t <= process.t_min
    clean = process.x0(x, x, t, "boundary")
    return Estimate(tree_map(lambda own, net: torch.where(spread(edge, net), own, net), clean, est.x0))


def _strayed(times: Sequence[float], starts: Sequence[float]) -> Iterator[str]:
    """Whether a student walks along other edges than those that were trained."""
    same = len(times) == len(starts) and all(
        abs(a - b) <= 1e-6 * b for a, b in zip(times, starts, strict=True)
    )
    if not same:
        told = ", ".join(f"{time:.4g}" for time in starts)
        yield (
            f"the student's steps begin at {', '.join(f'{time:.4g}' for time in times)}, but the segments that are left "
            f"at the end begin at {told}: in between, its jumps were never trained; give it those times, end with as "
            "many segments as it has steps, or let it renoise after one segment"
        )
