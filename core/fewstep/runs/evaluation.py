"""Contenders side by side: one batch, one key, counted calls, measured seconds, metrics with intervals, gates."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import nn

from fewstep.errors import FewstepError, nearest
from fewstep.plugins import Gate
from fewstep.protocol import (
    Batch,
    Drawn,
    Key,
    Product,
    Roles,
    Sampler,
    Score,
    Shelf,
    State,
    Step,
    Tree,
    detach,
    rows,
    to,
)
from fewstep.runs.counting import counted

BRIEF, REPEATS = 0.3, 5
"""Draws are repeated until they have taken this many seconds together, but at most so often."""


@dataclass(frozen=True)
class Row:
    """One contender in the table.

    Args:
        contender: its name.
        samples: how many it drew.
        evaluations: network calls for the whole batch.
        seconds: wall time for the whole batch.
        scores: metric name -> score.
    """

    contender: str
    samples: int
    evaluations: int
    seconds: float
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class Outcome:
    """A gate's verdict: the student must meet the bound, and the control must miss it.

    Args:
        metric, of, control, bound, why: from the gate; the bound as text, such as "<= 0.1".
        value: the metric of the contender that must meet the bound.
        control_value: the metric of the one that must miss it.
        met: whether ``value`` meets it.
        missed: whether ``control_value`` misses it.
    """

    metric: str
    of: str
    control: str
    bound: str
    why: str
    value: float
    control_value: float
    met: bool
    missed: bool

    @property
    def passed(self) -> bool:
        """Both halves: a bound that its control meets proves nothing."""
        return self.met and self.missed


@dataclass(frozen=True)
class Evaluation:
    """What was measured, and what was drawn for it."""

    rows: tuple[Row, ...]
    gates: tuple[Outcome, ...]
    drawn: Mapping[str, Drawn]

    @property
    def passed(self) -> bool | None:
        """Whether every gate passed with its control failing; None where nothing was asked."""
        return all(gate.passed for gate in self.gates) if self.gates else None

    def row(self, contender: str) -> Row | None:
        """The row of one contender."""
        return next((row for row in self.rows if row.contender == contender), None)

    def as_json(self) -> dict[str, Any]:
        """What eval.json holds: rows and gates, no samples."""
        return {
            "rows": [asdict(row) for row in self.rows],
            "gates": [{**asdict(gate), "passed": gate.passed} for gate in self.gates],
            "passed": self.passed,
        }


def evaluate(
    product: Product,
    shelf: Shelf,
    key: Key,
    gates: Sequence[Gate] = (),
    on_drawn: Callable[[str, Drawn], None] | None = None,
    device: str = "cpu",
) -> Evaluation:
    """Draw every contender on one evaluation batch with one key, then measure.

    Args:
        product: contenders, metrics and the evaluation batch.
        shelf: what training left; contenders name their modules in it.
        key: root of the batch, of the draws (the same for all contenders) and of the intervals.
        gates: what must hold.
        on_drawn: called after each contender, for progress.
        device: where the modules are; samples come back to main memory for metrics and panels.

    Raises:
        FewstepError: a gate names a metric or contender that the product lacks, or a contender a module.
    """
    check_gates(product, gates)
    batch = product.evaluation(product.samples, key.at("evaluation"))
    drawn = {}
    for name, sampler in {**product.contenders, **product.asides}.items():
        drawn[name] = draw(name, sampler, shelf, batch, key.at("draw"), device)
        if on_drawn is not None:
            on_drawn(name, drawn[name])
    measured = {name: drawn[name] for name in product.contenders}
    seen = _side_by_side(batch, measured)
    table = tuple(_measured(name, product, item, seen, key.at("metric")) for name, item in measured.items())
    return Evaluation(table, tuple(_judged(gate, table) for gate in gates), drawn)


def draw(name: str, sampler: Sampler, shelf: Shelf, batch: Batch, key: Key, device: str = "cpu") -> Drawn:
    """One contender's samples for a batch, its network calls counted and its time measured.

    One state is drawn and thrown away first, so that no contender pays for cold caches; a draw that takes less
    than a moment is repeated, and the median of its times counts.
    Estimates along the path are dropped: they are as large as the states, and a report shows states.
    """
    roles = _roles_of(name, sampler, shelf)
    there = batch if device == "cpu" else to(batch, device)
    with _at_rest(roles.values()), torch.no_grad():
        next(iter(sampler.fn(roles, there, Step.inference(key))), None)
        with counted(roles.values()) as calls:
            path, seconds = _timed(sampler, roles, there, key)
        times = [seconds]
        while sum(times) < BRIEF and len(times) < REPEATS:
            times.append(_timed(sampler, roles, there, key)[1])
    if not path:
        raise FewstepError(f"contender {name!r} drew nothing", "a sampler that yields at least one state")
    here = path if device == "cpu" else [State(to(s.x, "cpu"), s.t.cpu()) for s in path]
    return Drawn(here[-1].x, batch, calls.count, median(times), tuple(here))


def answer(name: str, sampler: Sampler, shelf: Shelf, batch: Batch, key: Key, device: str = "cpu") -> Tree:
    """One contender's samples for a batch and nothing else."""
    return drawn_once(name, sampler, shelf, batch, key, device).x


def drawn_once(
    name: str, sampler: Sampler, shelf: Shelf, batch: Batch, key: Key, device: str = "cpu"
) -> Drawn:
    """One contender's samples for a batch, without warm-up and without the states on the way."""
    roles, there = _roles_of(name, sampler, shelf), batch if device == "cpu" else to(batch, device)
    begin = _now()
    with _at_rest(roles.values()), torch.no_grad(), counted(roles.values()) as calls:
        *_, last = sampler.fn(roles, there, Step.inference(key))
    return Drawn(to(detach(last.x), "cpu"), batch, calls.count, _now() - begin)


def check_gates(product: Product, gates: Sequence[Gate]) -> None:
    """Find a gate that nobody can answer, before hours are spent.

    Raises:
        FewstepError: naming the metric or contender that is missing and the nearest one.
    """
    metrics, contenders = [metric.name for metric in product.metrics], list(product.contenders)
    for gate in gates:
        for kind, name, known in (
            ("metric", gate.metric, metrics),
            ("contender", gate.of, contenders),
            ("contender", gate.control, contenders),
        ):
            if name not in known:
                raise FewstepError(
                    f"a gate names the {kind} {name!r}, which the product lacks{nearest(name, known)}",
                    f"one of {', '.join(known) or 'none'}",
                    "correct the gate in the recipe's descriptor, or the product",
                )


def _roles_of(name: str, sampler: Sampler, shelf: Shelf) -> dict[str, Any]:
    absent = [role for role in sampler.roles if role not in shelf]
    if absent:
        raise FewstepError(
            f"contender {name!r} needs {', '.join(map(repr, absent))}, which training did not leave",
            f"one of {', '.join(map(repr, shelf)) or 'nothing'}",
            "correct the sampler's roles, or the `leaves` of the stage that makes it",
        )
    return {role: shelf[role] for role in sampler.roles}


@contextmanager
def _at_rest(modules: Any) -> Iterator[None]:
    """Evaluation mode (no dropout), and back to what it was."""
    networks = [module for module in modules if isinstance(module, nn.Module)]
    before = [(part, part.training) for module in networks for part in module.modules()]
    for module in networks:
        module.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


def _timed(sampler: Sampler, roles: Roles, batch: Batch, key: Key) -> tuple[list[State], float]:
    begin = _now()
    path = [State(detach(s.x), s.t) for s in sampler.fn(roles, batch, Step.inference(key))]
    return path, _now() - begin


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _side_by_side(batch: Batch, drawn: Mapping[str, Drawn]) -> Batch:
    """The batch as metrics see it: ``extra["drawn"]`` maps each contender to its samples from the same noise."""
    return replace(batch, extra={**batch.extra, "drawn": {name: item.x for name, item in drawn.items()}})


def _measured(name: str, product: Product, drawn: Drawn, batch: Batch, key: Key) -> Row:
    scores = {metric.name: metric.fn(drawn.x, batch, key.at(metric.name)) for metric in product.metrics}
    scores = {metric: replace(score, value=float(score.value)) for metric, score in scores.items()}
    return Row(name, rows(drawn.x), drawn.evaluations, drawn.seconds, scores)


def _judged(gate: Gate, table: Sequence[Row]) -> Outcome:
    values = {row.contender: row.scores[gate.metric].value for row in table}
    value, control = values[gate.of], values[gate.control]
    bound = f"<= {gate.at_most:g}" if gate.at_most is not None else f">= {gate.at_least:g}"
    # A control that is not a number proves nothing about the bound, so it does not count as having missed it.
    missed = math.isfinite(control) and not gate.holds(control)
    return Outcome(
        gate.metric, gate.of, gate.control, bound, gate.why, value, control, gate.holds(value), missed
    )
