"""Seam 3: who learns what, when."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias, runtime_checkable

from torch import Tensor, nn

from fewstep.protocol.denoiser import Denoiser
from fewstep.protocol.values import Batch, Ramp, Step, at_step

Roles: TypeAlias = Mapping[str, Any]
"""Role name -> module. Typed loosely on purpose: a role is whatever its objective calls (a denoiser, a student, a head)."""


@dataclass(frozen=True)
class Role:
    """One network that takes part.

    Args:
        kind: the protocol or class that the module must satisfy; checked before training.
        init: the role whose weights it starts from and returns to at a reset.
        trainable: False = frozen; its hash is compared at the end of the stage.
        reset_every: cycles between returns to ``init``.
        optional: the assembly may leave it out.
        accepts: optional inputs that the module must take ("to", "guidance", "features"); read from its ``accepts``.
        process: what its process must be able to do, such as ``Flow``; None = any process will do.
        having: settings that the module must have, such as ``{"rule": "ddim"}``.
        default: (the other roles, a batch) -> the module, where the assembly offers none.
        advice: what to do where nobody offers it.
    """

    kind: type = nn.Module
    init: str | None = None
    trainable: bool = True
    reset_every: int | None = None
    optional: bool = False
    accepts: frozenset[str] = frozenset()
    process: type | None = None
    having: Mapping[str, Any] = field(default_factory=dict)
    default: Callable[[Roles, Batch], nn.Module] | None = None
    advice: str = ""


@dataclass(frozen=True)
class Phase:
    """One optimizer update of some roles.

    Args:
        name: "student", "critic", ...
        updates: roles that step.
        builds: roles whose graph is needed though they do not step now: the rollout that a later phase reuses
            through ``Step.once``. A cycle in which any phase builds sees one batch; else each phase sees its own.
    """

    name: str
    updates: tuple[str, ...]
    builds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Loss:
    """A scalar to be backwarded, and detached scalars to be logged."""

    total: Tensor
    logs: Mapping[str, Tensor] = field(default_factory=dict)


@runtime_checkable
class Objective(Protocol):
    """A frozen dataclass: fields are role names, time laws, weights, distances. It owns no state and mutates nothing."""

    @property
    def roles(self) -> Mapping[str, Role]:
        """Who takes part."""
        ...

    @property
    def reads(self) -> frozenset[str]:
        """Batch fields it needs: "x", "extra.noise", ..."""
        ...

    def phases(self, index: int) -> Sequence[Phase]:
        """The updates of cycle ``index``, in order."""
        ...

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss | Iterator[Loss]:
        """The loss of one phase; every part that an iterator yields is backwarded at once."""
        ...


@runtime_checkable
class Cautious(Protocol):
    """An objective that knows settings under which it is legal but goes wrong."""

    def cautions(self, roles: Roles, batch: Batch, step: Step) -> Iterator[str]:
        """What is wrong, why, and what to do: one sentence or two each. Asked once, without gradients, before training."""
        ...


@dataclass(frozen=True)
class Mix:
    """A weighted sum of objectives over united roles; phases of one name are summed.

    A weight multiplies all losses of its term, those of its critics too: Adam does not see that, ``Optim.clip`` does.

    Args:
        terms: name -> (weight or ramp, objective).

    Raises:
        ValueError: if two terms give one role different meanings, or their cycles differ.
    """

    terms: Mapping[str, tuple[Ramp | float, Objective]]

    def __post_init__(self) -> None:
        """Refuse terms that cannot be summed."""
        _ = self.roles
        cycles = {name: tuple(p.name for p in term.phases(0)) for name, (_, term) in self.terms.items()}
        longest = max(cycles.values(), key=len)
        strange = {name: cycle for name, cycle in cycles.items() if not set(cycle) <= set(longest)}
        if strange:
            raise ValueError(
                f"cannot mix objectives whose cycles differ: {cycles}; give them the same phase names"
            )

    @property
    def roles(self) -> Mapping[str, Role]:
        """The union; a role named twice must mean the same wherever both terms say something about it."""
        return _united([term for _, term in self.terms.values()])

    @property
    def reads(self) -> frozenset[str]:
        """The union."""
        return frozenset().union(*(term.reads for _, term in self.terms.values()))

    def phases(self, index: int) -> Sequence[Phase]:
        """The longest cycle, each phase updating what any term of that name updates."""
        cycles = [list(term.phases(index)) for _, term in self.terms.values()]
        longest = max(cycles, key=len)
        return [_merged(phase, cycles) for phase in longest]

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Iterator[Loss]:
        """Each term's weighted loss, backwarded one by one so that only one graph is alive."""
        for name, (weight, term) in self.terms.items():
            own = next((p for p in term.phases(step.index) if p.name == phase.name), None)
            if own is None:
                continue
            w = at_step(weight, step)
            if w == 0.0:
                continue
            inner = replace(step, key=step.key.at(name))
            for part in parts(term.loss(own, roles, batch, inner)):
                logs = {f"{name}/{key}": value for key, value in part.logs.items()}
                yield Loss(w * part.total, {**logs, name: part.total.detach()})

    def cautions(self, roles: Roles, batch: Batch, step: Step) -> Iterator[str]:
        """Those of its terms."""
        return cautions_of([term for _, term in self.terms.values()], roles, batch, step)


@dataclass(frozen=True)
class Choose:
    """One of several objectives per step, drawn by key with the given odds.

    Args:
        terms: name -> (odds, objective). All must share one cycle.
    """

    terms: Mapping[str, tuple[float, Objective]]

    def __post_init__(self) -> None:
        """Refuse terms with different cycles."""
        cycles = {name: tuple(term.phases(0)) for name, (_, term) in self.terms.items()}
        if len(set(cycles.values())) > 1:
            raise ValueError(f"cannot choose among objectives whose cycles differ: {cycles}")

    @property
    def roles(self) -> Mapping[str, Role]:
        """The union."""
        return _united([term for _, term in self.terms.values()])

    @property
    def reads(self) -> frozenset[str]:
        """The union."""
        return frozenset().union(*(term.reads for _, term in self.terms.values()))

    def phases(self, index: int) -> Sequence[Phase]:
        """The common cycle."""
        return next(iter(self.terms.values()))[1].phases(index)

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss | Iterator[Loss]:
        """The drawn term's loss; the draw belongs to the cycle, so critic and student see the same term."""
        names = list(self.terms)
        odds = [max(0.0, self.terms[name][0]) for name in names]
        key = (step.cycle_key or step.key).at("choose").whole()
        mark = float(key.uniform((1,)).item()) * sum(odds)
        for name, share in zip(names, odds, strict=True):
            mark -= share
            if mark < 0:
                return self.terms[name][1].loss(phase, roles, batch, step)
        return self.terms[names[-1]][1].loss(phase, roles, batch, step)

    def cautions(self, roles: Roles, batch: Batch, step: Step) -> Iterator[str]:
        """Those of its terms."""
        return cautions_of([term for _, term in self.terms.values()], roles, batch, step)


def parts(loss: Loss | Iterator[Loss]) -> Iterator[Loss]:
    """A loss as its parts."""
    if isinstance(loss, Loss):
        yield loss
    else:
        yield from loss


def cautions_of(objectives: Sequence[Objective], roles: Roles, batch: Batch, step: Step) -> Iterator[str]:
    """The cautions of those objectives that have any."""
    for objective in objectives:
        if isinstance(objective, Cautious):
            yield from objective.cautions(roles, batch, step)


def _united(objectives: Sequence[Objective]) -> Mapping[str, Role]:
    roles: dict[str, Role] = {}
    for objective in objectives:
        for name, role in objective.roles.items():
            roles[name] = _both(name, roles[name], role) if name in roles else role
    return roles


def _both(name: str, a: Role, b: Role) -> Role:
    """One role for two terms: what one leaves open the other may settle; what both settle must agree."""
    origins = {role.init for role in (a, b)} - {None}
    resets = {role.reset_every for role in (a, b)} - {None}
    if a.trainable != b.trainable or len(origins) > 1 or len(resets) > 1:
        raise ValueError(f"role {name!r} means {a} in one objective and {b} in another; rename one")
    init, reset = next(iter(origins), None), next(iter(resets), None)
    kind = b.kind if a.kind in (nn.Module, Denoiser) else a.kind
    process = b.process if a.process is None else a.process
    optional, accepts = a.optional and b.optional, a.accepts | b.accepts
    having, default = {**a.having, **b.having}, a.default or b.default
    advice = a.advice or b.advice
    return Role(kind, init, a.trainable, reset, optional, accepts, process, having, default, advice)


def _merged(phase: Phase, cycles: Sequence[Sequence[Phase]]) -> Phase:
    same = [p for cycle in cycles for p in cycle if p.name == phase.name]
    updates = dict.fromkeys(role for p in same for role in p.updates)
    builds = dict.fromkeys(role for p in same for role in p.builds)
    return Phase(phase.name, tuple(updates), tuple(builds))
