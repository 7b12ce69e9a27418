"""The training loop: phases as data, one optimizer update after another, killable between any two."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, TypeVar

import torch

from fewstep.engine.checkpoint import Cursor
from fewstep.engine.learner import Learner
from fewstep.engine.settings import NonFiniteError, Settings, Watch
from fewstep.engine.sharding import (
    agree,
    average_gradients,
    local,
    mean_over_ranks,
    ranks,
    reshard,
    sync_gradients,
)
from fewstep.engine.team import Team
from fewstep.protocol import Batch, Key, Loss, Phase, Source, Stage, Step, parts, to

T = TypeVar("T")


def seed_generators(seed: int) -> None:
    """Seed the global generators, at a hundredth of the price of ``torch.manual_seed``."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)


@contextmanager
def seeded(key: Key) -> Iterator[None]:
    """The global generators seeded from a key, every rank its own way, and given back untouched afterwards."""
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_initialized() else []):
        seed_generators(key.seed64() + key.shard[0])
        yield


@dataclass(frozen=True)
class Desk:
    """What a trainer is told beside its team: where things go, who watches, how to save and whether to stop.

    Args:
        device: where batches go.
        save: called after each update with whether the run was asked to stop; writes a checkpoint when one is due.
        asked: whether this process was asked to stop.
    """

    device: str
    settings: Settings
    watch: Watch
    save: Callable[[bool], None]
    asked: Callable[[], bool]


@dataclass(frozen=True)
class CycleStep(Step):
    """A step whose shared rollouts draw the same dropout in whichever phase of a resumed cycle they are made."""

    def once(self, name: str, fn: Callable[[Key], T]) -> T:
        """Compute once per cycle, under a generator of the rollout's own."""
        if name in self.cache:
            return super().once(name, fn)
        key = (self.cycle_key or self.key).at("once", name)
        with seeded(key):
            return super().once(name, fn)


@dataclass
class Cycle:
    """The batches and steps of one cycle: pure functions of counters, so a resumed cycle sees the same ones."""

    step: Step
    source: Source
    data: Key
    first: int
    accumulate: int
    shared: bool
    device: str
    repeats: Mapping[str, int]
    caches: dict[int, dict[str, Any]] = field(default_factory=dict)
    batches: dict[int, Batch] = field(default_factory=dict)

    def at(self, position: int, micro: int) -> tuple[Step, Batch]:
        """Step and batch of one micro-step of one phase."""
        cycle_key = self.step.key.at("micro", micro)
        key = self.step.key.at("phase", position, "micro", micro)
        step = CycleStep(self.step.index, self.step.total, key, cycle_key, self.caches.setdefault(micro, {}))
        index = self.first + micro + (0 if self.shared else position * self.accumulate)
        if not self.shared:
            return step, self._load(index)
        if micro not in self.batches:
            self.batches[micro] = self._load(index)
        return step, self.batches[micro]

    def _load(self, index: int) -> Batch:
        batch = self.source.batch(index, self.data)
        moved: Batch = batch if self.device == "cpu" else to(batch, self.device)
        return moved


class Trainer:
    """Runs the cycles of one stage from a cursor to its end. ``key`` is the stage's, with this rank's shard."""

    def __init__(self, team: Team, stage: Stage, key: Key, cursor: Cursor, desk: Desk) -> None:
        """Bind everything; nothing runs yet."""
        self.team, self.stage, self.key, self.cursor, self.desk = team, stage, key, cursor, desk
        self.objective, self.accumulate = team.assembly.objective, team.assembly.accumulate
        self.data = key.at("data")
        self.seed = key.at("dropout", key.shard[0]).seed64() >> 1
        self.found, self.one = torch.zeros(1, device=desk.device), torch.ones((), device=desk.device)
        self.rank, self.world = ranks()
        self.kind = torch.device(desk.device).type
        self.stop = False
        self.seconds: dict[str, tuple[float, int]] = {}

    def run(self) -> None:
        """All cycles that are left."""
        while self.cursor.cycle < self.stage.steps:
            self._cycle()

    def _cycle(self) -> None:
        at = self.cursor
        phases = self.objective.phases(at.cycle)
        cycle = self._begin(phases)
        metrics: dict[str, float] | None = {} if self._due() else None
        if at.position == 0:
            self.team.average("before", cycle.step)
        for position in range(at.position, len(phases)):
            self._timed(phases[position], position, cycle, metrics)
            at.position, at.updates = position + 1, at.updates + 1
            if at.position < len(phases):
                self.desk.save(self.stop)
        self._end(cycle, len(phases))
        if metrics is not None:
            self._log(metrics)
        self.desk.save(self.stop)

    def _begin(self, phases: Sequence[Phase]) -> Cycle:
        key = self.key.at("cycle", self.cursor.cycle)
        step = Step(self.cursor.cycle, self.stage.steps, key, key)
        source, first = self.team.assembly.source, self.cursor.batches
        shared, repeats = any(phase.builds for phase in phases), Counter(phase.name for phase in phases)
        return Cycle(step, source, self.data, first, self.accumulate, shared, self.desk.device, repeats)

    def _end(self, cycle: Cycle, phases: int) -> None:
        at = self.cursor
        with torch.no_grad():
            self.team.regrow(cycle.step)
            self.team.reset(at.cycle + 1)
        self.team.average("after", cycle.step)
        at.batches += self.accumulate * (1 if cycle.shared else phases)
        at.cycle, at.position = at.cycle + 1, 0

    def _timed(self, phase: Phase, position: int, cycle: Cycle, metrics: dict[str, float] | None) -> None:
        begun = perf_counter()
        self._phase(phase, position, cycle, metrics)
        spent, times = self.seconds.get(phase.name, (0.0, 0))
        self.seconds[phase.name] = spent + perf_counter() - begun, times + 1

    def _phase(self, phase: Phase, position: int, cycle: Cycle, metrics: dict[str, float] | None) -> None:
        """One update: the gradients of all micro-batches, then the step; none if the objective has no loss now."""
        team, told, reached = self.team, False, False
        team.activate(phase)
        for micro in range(self.accumulate):
            if self.world > 1 and self.accumulate > 1:
                sync_gradients(
                    [team.roles[n] for n in team.active if n in team.roles], micro == self.accumulate - 1
                )
            step, batch = cycle.at(position, micro)
            # Dropout draws from the global generator, forked for the stage: tie it to the counters as well.
            seed_generators(self.seed + self.cursor.updates * self.accumulate + micro)
            for part in self._parts(phase, batch, step):
                told = True
                total = part.total if self.accumulate == 1 else part.total / self.accumulate
                if total.requires_grad:
                    total.backward()
                    reached = True
                if metrics is not None:
                    self._collect(metrics, phase.name, part, cycle.repeats[phase.name])
        if not told:  # a mixture whose terms of this phase weigh nothing yet
            return
        if not reached:
            raise ValueError(
                f"the loss of phase {phase.name!r} does not depend on any parameter that trains in it; "
                f"it updates {', '.join(phase.updates)}: is a group missing, or was the graph cut?"
            )
        self._update(phase, position, cycle)

    def _parts(self, phase: Phase, batch: Batch, step: Step) -> Iterator[Loss]:
        """The parts of the loss, each made under autocast and handed out without it."""
        with self._autocast():
            losses = parts(self.objective.loss(phase, self.team.roles, batch, step))
        while True:
            with self._autocast():
                part = next(losses, None)
            if part is None:
                return
            yield part

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.desk.settings.precision == "float32":
            return nullcontext()
        return torch.autocast(self.kind, torch.bfloat16)

    def _update(self, phase: Phase, position: int, cycle: Cycle) -> None:
        """Step every role of the phase, or none of them if any gradient is not finite."""
        team = self.team
        learners = [team.learners[name] for name in phase.updates if name in team.learners]
        if self.world > 1:
            reshard(team.roles.values())
            average_gradients((p for learner in learners for p in learner.parameters), self.world)
        if self._finite(learners):
            self.cursor.streaks.pop(phase.name, None)
            for learner in learners:
                learner.ready(self.cursor.cycle, cycle.step)
                learner.update()
        else:
            self._skipped(phase, cycle.first if cycle.shared else cycle.first + position * self.accumulate)
        for name in team.active & team.learners.keys():
            team.learners[name].optimizer.zero_grad(set_to_none=True)

    def _finite(self, learners: list[Learner]) -> bool:
        """One fused pass over the gradients and one read (as a gradient scaler does); ranks agree on it."""
        held = [p.grad for learner in learners for p in learner.parameters if p.grad is not None]
        grads = local(held) if self.world > 1 else held
        if grads:
            torch._amp_foreach_non_finite_check_and_unscale_(grads, self.found, self.one)
        bad, self.stop = bool(self.found.item()), self.desk.asked()
        if self.world > 1:
            bad, self.stop = agree(bad, self.stop, device=self.found.device)
        if bad:
            self.found.zero_()
        return not bad

    def _skipped(self, phase: Phase, batch: int) -> None:
        at = self.cursor
        at.skipped, streak = at.skipped + 1, at.streaks.get(phase.name, 0) + 1
        at.streaks[phase.name] = streak  # of its own: a critic's good updates do not excuse its student
        if streak >= self.desk.settings.patience:
            raise NonFiniteError(
                f"stage {self.stage.name!r}: {streak} updates in a row of phase {phase.name!r} had a gradient that was not "
                f"finite; the last was in cycle {at.cycle}, micro-batch {batch} of the source (seed {self.key.seed})",
                "finite gradients",
                f"look at source.batch({batch}, ...), lower the learning rate, or set Optim.clip",
            )

    def _collect(self, metrics: dict[str, float], phase: str, part: Loss, repeats: int) -> None:
        """Add up parts; average micro-batches, ranks and the cycle's phases of one name. Only if this cycle is logged."""
        metrics.setdefault(f"{phase}/loss", 0.0)
        for name, value in {"loss": part.total, **part.logs}.items():
            mean = float(mean_over_ranks(value.detach().float().mean())) / (self.accumulate * repeats)
            metrics[f"{phase}/{name}"] = metrics.get(f"{phase}/{name}", 0.0) + mean

    def _due(self) -> bool:
        done = self.cursor.cycle + 1
        return done == 1 or done == self.stage.steps or done % self.desk.settings.log_every == 0

    def _log(self, metrics: dict[str, float]) -> None:
        metrics |= {f"{phase}/seconds": spent / times for phase, (spent, times) in self.seconds.items()}
        self.seconds.clear()
        if self.cursor.skipped:
            metrics["skipped"] = float(self.cursor.skipped)
        kept = {name: value for name, value in metrics.items() if name == "skipped" or not math.isnan(value)}
        self.desk.watch.logged(self.stage.name, self.cursor.cycle, self.cursor.updates, kept)
