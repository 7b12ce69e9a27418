"""Few-step students made of a denoiser: a mapped one for any process with a clean estimate, a sampled one for tokens.

Both are denoisers whose parameters carry the teacher's names, so a student starts as a copy of its teacher.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fewstep.protocol import (
    Batch,
    Cond,
    Denoiser,
    Estimate,
    Key,
    Objective,
    Process,
    Role,
    Sample,
    State,
    Step,
    Tree,
    rows,
    tensors,
    with_index,
)
from fewstep.samplers.solvers import landing, made_clean

Rule = Literal["renoise", "ddim", "posterior", "flow", "gamma"]
MAPS = ("flow", "gamma")
"""Rules of flow maps: the network is told where to land."""


class FewStep(Denoiser):
    """A student that walks from noise to data in few steps and puts clean estimates forward.

    Args:
        net: as in :class:`Denoiser`.
        process: as in :class:`Denoiser`.
        prediction: as in :class:`Denoiser`.
        times: decreasing start times of the K steps; the first is the time of the initial noise.
        rule: between steps, "renoise" the clean estimate with fresh noise (Song et al. 2023), keep the predicted
            noise ("ddim"), or draw the "posterior". Networks that accept ``to`` may land at the next time as a "flow"
            map, or below it and get fresh noise ("gamma", Kim et al. 2024 CTM); their last step lands at the cleanest
            time. ``rule_for`` knows what an objective asks for.
        pick: which step a *training* sample comes from: the "last", or a "random" one (uniform-step matching). Only
            that step carries a graph; the steps before it are the roll that inference will make (backward simulation,
            Yin et al. 2024 DMD2 sec. 4.5).
        gamma: share of fresh noise of that rule; 0 = "flow".
        guidance: scale that a network with a guidance input is told; None = it is told nothing. A batch with
            "extra.guidance" (B,) says it for each row.

    Raises:
        ValueError: if the times do not decrease inside the range of the process, or the network cannot follow the rule.
    """

    def __init__(
        self,
        net: nn.Module,
        process: Process,
        prediction: str,
        times: Sequence[float],
        rule: Rule = "renoise",
        pick: Literal["last", "random"] = "last",
        gamma: float = 0.5,
        guidance: float | None = None,
    ) -> None:
        """Bind the schedule."""
        super().__init__(net, process, prediction)
        self.times = _checked(times, process)
        self.rule = rule
        self.pick = pick
        self.gamma = gamma if rule == "gamma" else 0.0
        self.guidance = guidance
        if rule in MAPS and "to" not in self.accepts:
            raise ValueError(
                f"rule {rule!r} tells the network where to land, but {type(net).__name__} does not declare `to` in its "
                "`accepts`; use a network that takes it, or the rule 'ddim' or 'renoise'"
            )

    def generate(
        self, batch: Batch, step: Step, *, noise: Tree | None = None, steps: int | None = None
    ) -> Sample:
        """A training sample: graph in the picked step only. ``cond.index`` names that step."""
        times = self.schedule(steps)
        last = len(times) - 1 if self.pick == "last" else step.key.at("pick").integer(len(times))
        sample = self._roll(batch, step, noise, times[: last + 1], graph_from=last)
        return sample if self.rule != "ddim" else replace(sample, until=self._end(times, last, sample.x))

    def sample(
        self, batch: Batch, step: Step, *, noise: Tree | None = None, steps: int | None = None
    ) -> Sample:
        """The whole roll, one network call per step."""
        return self._roll(batch, step, noise, self.schedule(steps), graph_from=0)

    def schedule(self, steps: int | None = None) -> tuple[float, ...]:
        """Start times for ``steps`` steps: the student's own, or the natural grid below its first time."""
        if steps is None or steps == len(self.times):
            return self.times
        if steps < 1:
            raise ValueError(f"a sample needs at least one step, got {steps}")
        natural = [float(t) for t in self.process.grid(steps)[:-1]]
        return tuple(t * self.times[0] / natural[0] for t in natural)

    def resume(self, batch: Batch, step: Step, x: Tree, first: int) -> Sample:
        """The rest of a roll: from a state x that stands at ``times[first]``, however it came there."""
        return self._walk(batch, step, x, self.times, first, graph_from=first)

    def ask(self, x: Tree, which: Tensor, cond: Cond, guidance: Tensor | None = None) -> Estimate:
        """The clean estimate for states at the times of its steps ``which`` (B,), told what its roll would tell."""
        process: Any = self.process.on(cond.mask)
        now = torch.tensor(self.times, dtype=torch.float64, device=which.device)[which]
        clean = torch.full_like(now, self.process.t_min)
        est = self(x, now, with_index(cond, which), **self._told(clean, guidance))
        if self.rule in MAPS:
            return Estimate(made_clean(process, process.jump(x, est, now, clean), clean))
        return est

    def _end(self, times: Sequence[float], which: int, like: Tree) -> Tensor:
        """(B,) where a step leads: the next start time, the cleanest time after the last."""
        return _time((*times[1:], self.process.t_min)[which], like)

    def _roll(
        self, batch: Batch, step: Step, noise: Tree | None, times: Sequence[float], graph_from: int
    ) -> Sample:
        noise = self.process.on(batch.mask).noise(batch, step.key.at("noise")) if noise is None else noise
        x = self.process.on(batch.mask).corrupt(None, noise, _time(times[0], noise))
        return self._walk(batch, step, x, times, 0, graph_from)

    def _walk(
        self, batch: Batch, step: Step, x: Tree, times: Sequence[float], first: int, graph_from: int
    ) -> Sample:
        process: Any = self.process.on(batch.mask)
        scale = batch.extra.get("guidance") if "guidance" in self.accepts else None
        path: list[State] = []
        then = _time(times[first], x)
        for i in range(first, len(times)):
            last = i + 1 == len(times)
            cond = with_index(batch.cond, torch.full((rows(x),), i, device=tensors(x)[0].device))
            with torch.set_grad_enabled(torch.is_grad_enabled() and i >= graph_from):
                now, then = then, self._end(times, i, x)
                land = then if last else self._landing(process, then)
                est = self(x, now, cond, **self._told(land, scale))
                path.append(State(x, now, est))
                if not last:
                    x = self._next(process, batch, x, est, now, then, step.key.at("roll", i))
                elif self.rule in MAPS:
                    est = Estimate(made_clean(process, process.jump(x, est, now, then), then))
        return Sample(est.x0, cond, est, tuple(path))

    def _told(self, to: Tensor, scale: Tensor | None = None) -> dict[str, Tensor]:
        """What the network is told beside state, time and condition."""
        told = {"to": to} if self.rule in MAPS else {}
        if scale is None and self.guidance is not None:
            scale = torch.full_like(to, self.guidance)
        return told if scale is None else {**told, "guidance": scale}

    def _landing(self, process: Any, s: Tensor) -> Tensor:
        """Where the network lands on its way to s."""
        return landing(process, s, self.gamma) if self.gamma > 0 else s

    def _next(
        self, process: Any, batch: Batch, x: Tree, est: Estimate, t: Tensor, s: Tensor, key: Key
    ) -> Tree:
        if self.rule in ("ddim", "flow"):
            return process.jump(x, est, t, s)
        noise = process.noise(batch, key)
        if self.rule == "gamma":
            to = self._landing(process, s)
            return process.corrupt(process.jump(x, est, t, to), noise, s, since=to)
        if self.rule == "posterior":
            return process.posterior(x, est, t, s, noise)
        return process.corrupt(est.x0, noise, s)


class FewStepTokens(Denoiser):
    """A student over a masked process that *draws* tokens: its samples carry ``logp``.

    Args:
        net: as in :class:`Denoiser`; predicts "logits".
        process: a masked process (``hidden``, ``logp``, ``posterior``).
        prediction: "logits".
        steps: K; the K + 1 times are the process' natural grid, the last step shows everything.
    """

    def __init__(self, net: nn.Module, process: Any, prediction: str = "logits", steps: int = 1) -> None:
        """Bind the number of steps."""
        super().__init__(net, process, prediction)
        if steps < 1:
            raise ValueError(f"a sample needs at least one step, got {steps}")
        self.steps = steps

    def generate(
        self, batch: Batch, step: Step, *, noise: Tree | None = None, steps: int | None = None
    ) -> Sample:
        """A sample with the log-probability of each of its steps, graphs included."""
        return self._roll(batch, step, steps)

    def sample(
        self, batch: Batch, step: Step, *, noise: Tree | None = None, steps: int | None = None
    ) -> Sample:
        """The whole roll."""
        return self._roll(batch, step, steps)

    def logp(self, sample: Sample, batch: Batch) -> Tensor:
        """(B, K) of the sample's path under these weights."""
        states = [*sample.path, State(sample.x, torch.zeros_like(sample.path[-1].t))]
        process: Any = self.process.on(batch.mask)
        columns = [
            process.logp(here.x, self(here.x, here.t, batch.cond), there.x)
            for here, there in itertools.pairwise(states)
        ]
        return torch.stack(columns, 1)

    def _roll(self, batch: Batch, step: Step, steps: int | None) -> Sample:
        process: Any = self.process.on(batch.mask)
        count = self.steps if steps is None else steps
        times = process.grid(count)
        x = self.start(batch)
        path, columns = [], []
        est = Estimate(x)
        for i, (t, s) in enumerate(zip(times[:-1].tolist(), times[1:].tolist(), strict=True)):
            now, then = _time(t, x), _time(s, x)
            est = self(x, now, batch.cond)
            path.append(State(x, now, est))
            seen = process.posterior(x, est, now, then, process.noise(batch, step.key.at("roll", i)))
            columns.append(process.logp(x, est, seen))
            x = seen
        return Sample(x, batch.cond, est, tuple(path), torch.stack(columns, 1))

    def start(self, batch: Batch) -> Tensor:
        """All hidden, except what ``batch.extra["prefix"]`` (B, L; hidden token = free) shows from the beginning."""
        prefix = batch.extra.get("prefix")
        if prefix is not None:
            return torch.as_tensor(prefix)
        process: Any = self.process
        free = torch.full_like(batch.like, process.hidden_token)
        return free if batch.mask is None else torch.where(batch.mask.bool(), free, torch.zeros_like(free))


def student_times(process: Process, steps: int) -> tuple[float, ...]:
    """The natural start times of a K-step student: the process' grid without its end."""
    return tuple(float(t) for t in process.grid(steps)[:-1])


def rule_for(objective: Objective, default: Rule = "renoise", student: str = "student") -> Rule:
    """The rule by which a student of this objective walks: the one it must have, "flow" for flow maps, else the default.

    Args:
        objective: whose role says what its student must be like.
        default: for objectives that leave it open.
        student: its role.
    """
    having = objective.roles.get(student, Role()).having
    found: Rule = having.get("rule", "flow" if is_flow_map(objective, student) else default)
    return found


def is_flow_map(objective: Objective, student: str = "student") -> bool:
    """Whether a student of this objective is told where to land, so that its network must take ``to``."""
    return "to" in objective.roles.get(student, Role()).accepts


def _checked(times: Sequence[float], process: Process) -> tuple[float, ...]:
    listed = tuple(float(t) for t in times)
    falls = all(a > b for a, b in itertools.pairwise(listed))
    inside = all(process.t_min < t <= process.t_max * (1 + 1e-12) for t in listed)
    if not (listed and falls and inside):
        raise ValueError(
            f"student times must decrease inside ({process.t_min}, {process.t_max}], got {listed or 'none'}"
        )
    return listed


def _time(t: float, like: Tree) -> Tensor:
    return torch.full((rows(like),), t, dtype=torch.float64, device=tensors(like)[0].device)
