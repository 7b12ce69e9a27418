"""How a recipe is put together: stages to train or to run, and the product that they leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from torch import nn

from fewstep.protocol.key import Key
from fewstep.protocol.objective import Objective, Roles
from fewstep.protocol.offers import Campaign, Portable, Stream
from fewstep.protocol.tree import Tree
from fewstep.protocol.values import Batch, Ramp, State, Step

Shelf: TypeAlias = Mapping[str, Any]
"""What earlier stages left: name -> module (or a task's result)."""


@runtime_checkable
class Source(Protocol):
    """Data as a pure function of a counter: its position *is* the counter, so resume needs no loader state."""

    def batch(self, index: int, key: Key) -> Batch:
        """The ``index``-th batch of the run: this rank's rows of it (``key.shard`` = (rank, world))."""
        ...


@dataclass(frozen=True)
class Group:
    """Parameters whose names match ``match`` (regular expression, searched) train with this learning rate."""

    match: str = ""
    lr: Ramp | float = 1e-4
    options: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Optim:
    """How one role trains. A parameter matched twice, or a group that matches nothing, is an error.

    Args:
        groups: parameter groups.
        kind: "module:class" of a torch optimizer.
        options: its keyword arguments (betas, weight_decay, ...).
        clip: largest gradient norm of the role; None = never clipped.
    """

    groups: tuple[Group, ...] = (Group(),)
    kind: str = "torch.optim:AdamW"
    options: Mapping[str, Any] = field(default_factory=dict)
    clip: float | None = None


@dataclass(frozen=True)
class Average:
    """A role that is the running average of another: average <- decay * average + (1 - decay) * of.

    Args:
        of: the averaged role.
        decay: a number or ramp in [0, 1].
        when: stepped before the phases of a cycle (a consistency target), or after them (export).
        start: cycles before which the average simply copies.
    """

    of: str
    decay: Ramp | float = 0.995
    when: Literal["before", "after"] = "after"
    start: int = 0


@runtime_checkable
class Surgery(Protocol):
    """A change of a module's structure. Ranks: structure 0, adapters 1, quantization 2, taps 3; in this order."""

    @property
    def rank(self) -> int:
        """Place in the order."""
        ...

    def apply(self, module: nn.Module) -> nn.Module:
        """Before training."""
        ...

    def finalize(self, module: nn.Module) -> nn.Module:
        """After training: merge, slice, convert; outputs stay equal."""
        ...


@dataclass(frozen=True)
class Assembly:
    """All that one training stage needs.

    Args:
        roles: role name -> module. An average is a role too, made as a copy of what it averages.
        objective: what is minimized.
        source: where batches come from.
        optimizers: role name -> how it trains.
        averages: role name -> what it follows.
        surgery: role name -> changes of its structure.
        accumulate: micro-batches per update.
    """

    roles: Mapping[str, nn.Module]
    objective: Objective
    source: Source
    optimizers: Mapping[str, Optim]
    averages: Mapping[str, Average] = field(default_factory=dict)
    surgery: Mapping[str, tuple[Surgery, ...]] = field(default_factory=dict)
    accumulate: int = 1


@runtime_checkable
class Task(Protocol):
    """Work that is not training: making pairs, curation. Keyed by content; resumes by skipping what is there."""

    def run(self, shelf: Shelf, key: Key) -> Shelf:
        """What it puts on the shelf."""
        ...


@dataclass(frozen=True)
class Stage:
    """One named step of a plan.

    Args:
        name: unique in the plan.
        build: the only place where modules of this stage are made; runs under a forked, seeded generator.
        steps: training cycles.
        leaves: role name -> name on the shelf.
    """

    name: str
    build: Callable[[Shelf], Assembly | Task]
    steps: int = 0
    leaves: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sampler:
    """How one contender draws.

    Args:
        fn: (roles, batch, step) -> states, oldest first; the last is the sample.
        roles: the shelf names that it needs.
        with_steps: number of steps -> the same contender with that many; None if it has no such choice.
    """

    fn: Callable[[Roles, Batch, Step], Iterator[State]]
    roles: tuple[str, ...] = ("student",)
    with_steps: Callable[[int], Sampler] | None = None


@dataclass(frozen=True)
class Score:
    """A measured number with its bootstrap interval and the number of samples behind it."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Metric:
    """One number about samples.

    Args:
        name: as in gates and tables.
        better: which direction is good.
        fn: (samples x, the evaluation batch with its truth, key) -> Score. ``batch.extra["drawn"]`` maps every
            contender to its samples from the same noise; a metric must also work without it.
        unit: as printed; "" if it has none.
        description: one sentence for the report.
    """

    name: str
    better: Literal["lower", "higher"]
    fn: Callable[[Tree, Batch, Key], Score]
    unit: str = ""
    description: str = ""


@dataclass(frozen=True)
class Drawn:
    """What one contender put forward for the evaluation batch.

    Args:
        x: the samples.
        batch: the batch that they answer.
        evaluations: network calls, counted by a hook on the networks.
        seconds: wall time of the draw.
        path: visited states, for pictures of the trajectory.
    """

    x: Tree
    batch: Batch
    evaluations: int
    seconds: float
    path: tuple[State, ...] = ()


@dataclass(frozen=True)
class Panel:
    """One section of the report, made by whoever knows what a sample is.

    Args:
        title: heading.
        render: contender name -> Drawn, to an HTML fragment. Media are data URIs; no external reference.
    """

    title: str
    render: Callable[[Mapping[str, Drawn]], str]


@dataclass(frozen=True)
class Product:
    """What the plan is for.

    Args:
        student: shelf name of what is exported.
        contenders: name -> sampler; "student" and "teacher" where there is one, plus the gates' controls.
        evaluation: (number of samples, key) -> the batch on which contenders are compared, truth in ``x``.
        request: (options, number, key) -> the batch for ``fewstep sample``; options is an instance of ``options``.
        options: a pydantic model of the conditions that make sense here; its fields become ``--text``, ``--length``, ...
            If it has a property ``cautions``, those sentences say what is asked beyond what was learned.
        write: (samples, batch, folder) -> native files written.
        metrics: what is measured.
        panels: sections of the report.
        asides: name -> sampler that panels see beside the contenders, such as other numbers of steps for a curve; no
            row of the table, no gate.
        samples: how many samples the evaluation draws.
        portable: (shelf, key) -> graphs that draw without this library, for ``fewstep export``. None = the student is
            traced as it answers the evaluation batch, which serves states and conditions that are tensors.
        campaign: how many samples fill a folder, for ``fewstep sample`` into one; None = they are drawn at once and
            written by ``write``.
        stream: samples without end, for ``fewstep sample --stream`` and ``fewstep serve``; None = there are none.
    """

    student: str
    contenders: Mapping[str, Sampler]
    evaluation: Callable[[int, Key], Batch]
    request: Callable[[Any, int, Key], Batch]
    options: type
    write: Callable[[Tree, Batch, Path], Sequence[Path]]
    metrics: Sequence[Metric]
    panels: Sequence[Panel] = ()
    asides: Mapping[str, Sampler] = field(default_factory=dict)
    samples: int = 256
    portable: Callable[[Shelf, Key], Portable] | None = None
    campaign: Campaign | None = None
    stream: Stream | None = None


@dataclass(frozen=True)
class Plan:
    """Named stages and the product. A plan without a training stage is legal."""

    stages: tuple[Stage, ...]
    product: Product

    def __post_init__(self) -> None:
        """Stage names must be unique: they are folder names and resume cursors."""
        names = [stage.name for stage in self.stages]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"stage names must be unique; twice: {', '.join(twice)}")


@dataclass(frozen=True)
class Site:
    """Where a plan is built: what a recipe may know beside its config.

    Args:
        key: the run's root key.
        cache: folder for content-hashed features and downloads made by the recipe.
        device: where modules go.
        profile: the preset that was asked for ("default", "smoke", ...).
    """

    key: Key
    cache: Path
    device: str = "cpu"
    profile: str = "default"
