"""Putting a stage together: picking roles for an objective, and saying everything that does not fit at once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from fewstep.engine.learner import groups_of, optimizer_class
from fewstep.engine.ownership import copy_matching, owned_names, state_of
from fewstep.engine.settings import AssemblyError
from fewstep.errors import nearest
from fewstep.protocol import Assembly, Average, Batch, Key, Objective, Optim, Role, Source, Stage

Make = Mapping[str, Callable[[], nn.Module]]


def assemble(
    objective: Objective,
    make: Make,
    source: Source,
    optimizers: Mapping[str, Optim],
    averages: Mapping[str, Average] | None = None,
    accumulate: int = 1,
) -> Assembly:
    """Build the roles that the objective asks for; what it does not ask for is left out.

    A role comes from its factory in ``make`` (then every tensor that its ``Role.init`` has under the same name and
    shape is copied), else it is a copy of its init, else of what it averages, else its ``Role.default`` makes it; such a
    role trains like the first other role of its phase, unless it has an ``Optim``. Averages for export
    (``when="after"``) need no place in the objective.

    Raises:
        AssemblyError: with every problem: a role that nobody offers, one that lacks a method, a missing batch field.
    """
    averages = averages or {}
    wanted = {
        name: avg
        for name, avg in averages.items()
        if name in objective.roles or (avg.when == "after" and name not in make)
    }
    roles: dict[str, nn.Module] = {}
    # A role that cannot be made is asked for again by whoever starts from it; it is told once.
    missing = list(
        dict.fromkeys(
            line for name in objective.roles for line in _build(name, objective.roles, make, wanted, roles)
        )
    )
    made: dict[str, nn.Module] = {}
    if not missing:
        made, missing = _defaults(objective, roles, source)
        roles |= made
    kept = {name: avg for name, avg in wanted.items() if name in roles or avg.of in roles}
    roles |= {name: copy.deepcopy(roles[avg.of]) for name, avg in kept.items() if name not in roles}
    mine = {name: optim for name, optim in optimizers.items() if name in roles and name not in kept}
    untold = [name for name in made if objective.roles[name].trainable and name not in mine]
    mine |= {name: _companion(name, objective, mine) for name in untold if mine}
    built = Assembly(roles, objective, source, mine, kept, accumulate=accumulate)
    if found := [*missing, *_unfit(built)] if missing else problems(built):
        raise AssemblyError(found, f"{type(objective).__name__} with the roles {sorted(make)}")
    return built


def _build(
    name: str,
    asked: Mapping[str, Role],
    make: Make,
    averages: Mapping[str, Average],
    roles: dict[str, nn.Module],
) -> Iterator[str]:
    """Make one role and what it starts from; yields what is missing."""
    if name in roles:
        return
    role = asked.get(name, Role())
    origin = role.init or (averages[name].of if name in averages else None)
    if origin and (origin in asked or origin in make):
        yield from _build(origin, asked, make, averages, roles)
    if name in make:
        try:
            roles[name] = make[name]()
        except ValueError as error:
            yield f"role {name!r} cannot be made: {error}"
            return
        if role.init in roles:
            copy_matching(roles[name], roles[role.init])
    elif not role.optional and origin in roles:
        roles[name] = copy.deepcopy(roles[origin]).requires_grad_(True)
    elif not role.optional and role.default is None and origin not in make:
        advice = role.advice or f"offered: {sorted(make)}{nearest(name, make)}"
        yield f"nobody offers the role {name!r}; {advice}"


def _defaults(
    objective: Objective, roles: Mapping[str, nn.Module], source: Source
) -> tuple[dict[str, nn.Module], list[str]]:
    """Roles that nobody offers and that the objective knows how to make, and why some cannot be made."""
    made: dict[str, nn.Module] = {}
    reasons: list[str] = []
    for name, role in objective.roles.items():
        if name in roles or role.default is None or role.optional:
            continue
        try:
            made[name] = role.default(roles, source.batch(0, Key(0)))
        except ValueError as error:
            reasons.append(str(error))
    return made, reasons


def _companion(name: str, objective: Objective, optimizers: Mapping[str, Optim]) -> Optim:
    """How the first other role of its phase trains, else any: its first learning rate for all parameters."""
    phase = next((p for p in objective.phases(0) if name in p.updates), None)
    beside = [other for other in (phase.updates if phase else ()) if other in optimizers]
    like = optimizers[(beside or list(optimizers))[0]]
    return replace(like, groups=(replace(like.groups[0], match=""),))


def check(stage: Stage, assembly: Assembly, key: Key) -> None:
    """Refuse a stage whose parts do not fit.

    Raises:
        AssemblyError: with every problem at once, before anything runs.
    """
    found = problems(assembly, key)
    if stage.steps < 1:
        found.append(f"a training stage needs at least one step, not {stage.steps}")
    found += [f"it leaves {name!r}, which is no role" for name in stage.leaves if name not in assembly.roles]
    if found:
        raise AssemblyError(found, f"stage {stage.name!r}")


def problems(assembly: Assembly, key: Key | None = None) -> list[str]:
    """All that is wrong with an assembly, one line each; surgery is expected to be done."""
    lines = [
        *_roles(assembly),
        *_phases(assembly),
        *_averages(assembly),
        *_surgery(assembly),
        *_optimizers(assembly),
    ]
    if assembly.accumulate < 1:
        lines.append(f"accumulate must be at least 1, not {assembly.accumulate}")
    return lines + list(_fields(assembly, key or Key(0)))


def _roles(assembly: Assembly) -> Iterator[str]:
    for name, role in assembly.objective.roles.items():
        if name not in assembly.roles and not role.optional:
            yield f"the objective needs a role {name!r}; there are {sorted(assembly.roles)}"
    yield from _unfit(assembly)


def _unfit(assembly: Assembly) -> Iterator[str]:
    """Roles that are there and are not what the objective needs."""
    for name, role in assembly.objective.roles.items():
        module = assembly.roles.get(name)
        if module is not None and not isinstance(module, role.kind):
            lacks = [n for n in dir(role.kind) if not n.startswith("_") and not hasattr(module, n)]
            reason = f"it has no {', '.join(lacks)}" if lacks else f"it is a {type(module).__name__}"
            meant = (role.kind.__doc__ or "").strip().splitlines()[0].rstrip(".").split(":")[0]
            yield f"role {name!r} must be a {role.kind.__name__} ({meant[:1].lower()}{meant[1:]}), but {reason}"
        elif module is not None:
            yield from _able(name, role, module)


def _able(name: str, role: Role, module: nn.Module) -> Iterator[str]:
    """What a module of the right kind still cannot do."""
    lacks = sorted(role.accepts - frozenset(getattr(module, "accepts", ())))
    if lacks:
        yield (
            f"role {name!r} must take the optional input {', '.join(lacks)}, which its network does not declare in "
            "`accepts`"
        )
    process = getattr(module, "process", None)
    if role.process is not None and not isinstance(process, role.process):
        yield f"role {name!r} needs a {role.process.__name__} process; {_lacking(process, role.process)}"
    for setting, value in role.having.items():
        if getattr(module, setting, None) != value:
            yield f"role {name!r} must have {setting} = {value!r}, not {getattr(module, setting, None)!r}"


def _lacking(process: object, wanted: type) -> str:
    """Why a process will not do."""
    if process is None:
        return "it is no network on a process of its own"
    if not getattr(wanted, "_is_protocol", False):
        return f"it has a {type(process).__name__}"
    gone = [n for n in sorted(set(dir(wanted))) if not n.startswith("_") and not hasattr(process, n)]
    return f"{type(process).__name__} has no {', '.join(gone)}"


def _phases(assembly: Assembly) -> Iterator[str]:
    for phase in assembly.objective.phases(0):
        for name in dict.fromkeys(phase.updates):
            role = assembly.objective.roles.get(name, Role())
            if name not in assembly.roles and not role.optional:
                yield f"phase {phase.name!r} updates {name!r}, which is no role"
            elif name in assembly.averages or not role.trainable:
                yield f"phase {phase.name!r} updates {name!r}, which is frozen or an average"
            elif (
                name in assembly.roles and name not in assembly.optimizers and state_of(assembly.roles[name])
            ):
                yield f"phase {phase.name!r} updates {name!r}, which has no optimizer; give it an Optim"


def _averages(assembly: Assembly) -> Iterator[str]:
    for name, average in assembly.averages.items():
        if name not in assembly.roles or average.of not in assembly.roles:
            yield f"average {name!r} of {average.of!r} needs both as roles; there are {sorted(assembly.roles)}"
            continue
        mine, other = state_of(assembly.roles[name]), state_of(assembly.roles[average.of])
        if {n: v.shape for n, v in mine.items()} != {n: v.shape for n, v in other.items()}:
            yield f"average {name!r} is not built like {average.of!r}; make it a copy of it"
        if {id(v) for v in mine.values()} & {id(v) for v in other.values()}:
            yield f"average {name!r} shares parameters with {average.of!r}; make it a copy (copy.deepcopy)"
        if any(v.is_floating_point() and v.dtype.itemsize < 4 for v in mine.values()):
            yield f"average {name!r} has half precision parameters; averages need float32"
        if not callable(average.decay) and not 0 <= average.decay <= 1:
            yield f"average {name!r} has decay {average.decay}, which is not in [0, 1]"


def surgery_problems(assembly: Assembly) -> list[str]:
    """What is wrong with the order of surgery, known before any of it is done."""
    return list(_surgery(assembly))


def _surgery(assembly: Assembly) -> Iterator[str]:
    for name, changes in assembly.surgery.items():
        ranks = [change.rank for change in changes]
        if name not in assembly.roles:
            yield f"surgery on {name!r}, which is no role"
        if ranks != sorted(ranks):
            yield f"surgery on {name!r} is out of order: ranks {ranks}; structure 0, adapters 1, quantization 2, taps 3"
        copies = [
            other
            for other, role in assembly.objective.roles.items()
            if role.init == name and role.reset_every
        ]
        if changes and copies:
            yield f"{name!r} is changed by surgery and is where {copies} start from; make two stages"


def _optimizers(assembly: Assembly) -> Iterator[str]:
    owned = owned_names(assembly.roles, assembly.optimizers)
    for name, optim in assembly.optimizers.items():
        if name not in assembly.roles:
            yield f"optimizer for {name!r}, which is no role{nearest(name, assembly.roles)}"
            continue
        if name in assembly.averages or not assembly.objective.roles.get(name, Role()).trainable:
            yield f"optimizer for {name!r}, which is frozen or an average"
        try:
            optimizer_class(optim.kind)
        except ValueError as error:
            yield f"role {name!r}: {error}"
        names = [key for key, _ in assembly.roles[name].named_parameters() if key in owned[name]]
        yield from (f"role {name!r}: {line}" for line in groups_of(optim, names)[1])


def _fields(assembly: Assembly, key: Key) -> Sequence[str]:
    batch: object = assembly.source.batch(0, key)
    if not isinstance(batch, Batch):
        return [f"the source must return a Batch, not a {type(batch).__name__}"]
    absent = sorted(field for field in assembly.objective.reads if _read(batch, field) is None)
    return (
        [f"the objective reads batch fields that the source does not give: {', '.join(absent)}"]
        if absent
        else []
    )


def _read(batch: Batch, field: str) -> object:
    if field.startswith("extra."):
        return batch.extra.get(field.removeprefix("extra."))
    if field == "cond":
        return batch.cond.data
    value: object = batch
    for part in field.split("."):
        value = getattr(value, part, None)
    return value


def tensors_fit(module: nn.Module, state: Mapping[str, torch.Tensor]) -> list[str]:
    """Names in ``state`` that the module lacks or holds in another shape."""
    mine = state_of(module)
    return [name for name, value in state.items() if name not in mine or mine[name].shape != value.shape]
