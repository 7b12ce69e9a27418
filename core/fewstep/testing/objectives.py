"""Laws of an objective on real roles: who learns, who stays, and what the loss may depend on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from fewstep.protocol import Batch, Key, Objective, Phase, Step, parts
from fewstep.testing.checks import Check, untouched_generator

KEY = Key(20_240_229)


def check_objective(objective: Objective, roles: dict[str, nn.Module], batch: Batch) -> Iterator[Check]:
    """Laws of an objective: consistent phases, gradients where promised and nowhere else, pure in its key."""
    laws = {
        "updates_known_roles": lambda phase: _known(objective, phase, roles),
        "reaches_what_it_updates": lambda phase: _reaches(objective, phase, roles, batch),
        "is_pure_in_its_key": lambda phase: _pure(objective, phase, roles, batch),
        "leaves_the_global_generator": lambda phase: _generator(objective, phase, roles, batch),
    }
    for phase in {p.name: p for p in objective.phases(0)}.values():
        for name, law in laws.items():
            yield Check(f"phase_{phase.name}_{name}", partial(law, phase))


def _known(objective: Objective, phase: Phase, roles: dict[str, nn.Module]) -> None:
    for name in (*phase.updates, *phase.builds):
        assert name in objective.roles, (
            f"phase {phase.name!r} names role {name!r}, which the objective does not have"
        )
        assert objective.roles[name].trainable, f"phase {phase.name!r} updates the frozen role {name!r}"
        assert name in roles, f"role {name!r} was not given"


def _reaches(objective: Objective, phase: Phase, roles: dict[str, nn.Module], batch: Batch) -> None:
    _flags(roles, phase)
    _total(objective, phase, roles, batch).backward()
    for name, module in roles.items():
        touched = any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters())
        shares = _shares(module, [roles[r] for r in phase.updates])
        if name in phase.updates:
            assert touched, f"phase {phase.name!r} updates {name!r}, but no gradient reaches it"
        elif not shares:
            assert not touched, (
                f"phase {phase.name!r} leaves a gradient in {name!r}, which it does not update"
            )


def _pure(objective: Objective, phase: Phase, roles: dict[str, nn.Module], batch: Batch) -> None:
    _flags(roles, phase)
    first, second = (float(_total(objective, phase, roles, batch).detach()) for _ in range(2))
    assert first == second, f"the same key gave losses {first} and {second}"


def _generator(objective: Objective, phase: Phase, roles: dict[str, nn.Module], batch: Batch) -> None:
    _flags(roles, phase)
    assert untouched_generator(lambda: _total(objective, phase, roles, batch))


def _total(objective: Objective, phase: Phase, roles: dict[str, nn.Module], batch: Batch) -> Tensor:
    step = Step(0, 10, KEY.at("phase", phase.name))
    return torch.stack([part.total for part in parts(objective.loss(phase, roles, batch, step))]).sum()


def _flags(roles: dict[str, nn.Module], phase: Phase) -> None:
    for module in roles.values():
        module.zero_grad(set_to_none=True)
        module.eval()
        module.requires_grad_(False)
    for name in phase.updates:
        roles[name].requires_grad_(True)


def _shares(module: nn.Module, others: list[nn.Module]) -> bool:
    theirs = {id(p) for other in others for p in other.parameters()}
    return any(id(p) in theirs for p in module.parameters())
