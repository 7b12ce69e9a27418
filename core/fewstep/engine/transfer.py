"""Controls that were trained on a teacher, applied to its student: weight changes found by name and shape.

A student made from a teacher keeps its parameter names, so a change of the teacher's weights (a LoRA, a slider, a fine
tuning) is a change of the student's (Gandikota & Bau 2025, control distillation).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from fewstep.errors import nearest

Control: TypeAlias = Mapping[str, Tensor]
"""Parameter name -> what is added to it."""


@dataclass(frozen=True)
class Transferred:
    """What became of a control.

    Args:
        applied: parameters that were changed.
        unmatched: those that were not -> why.
    """

    applied: tuple[str, ...]
    unmatched: Mapping[str, str]


def control_between(base: nn.Module, tuned: nn.Module) -> Control:
    """The difference of two modules where they differ: any fine tuning as a control."""
    before, after = dict(base.named_parameters()), dict(tuned.named_parameters())
    shared = {n: p for n, p in after.items() if n in before and before[n].shape == p.shape}
    changes = {name: (p - before[name]).detach() for name, p in shared.items()}
    return {name: change for name, change in changes.items() if bool(change.any())}


def control_from_lora(state: Mapping[str, Tensor], scaling: float = 1.0, prefix: str = "") -> Control:
    """Low-rank factors, as peft saves them, as a control.

    Args:
        state: "<module>.lora_A.weight" (r, ...) and "<module>.lora_B.weight" (out, r); other names are refused.
        scaling: lora_alpha / r.
        prefix: to be cut from the names, such as "base_model.model.".

    Raises:
        ValueError: if a tensor is no low-rank factor, or has no partner.
    """
    ends = (".lora_A.weight", ".lora_B.weight")
    modules = {name[: -len(end)] for name in state for end in ends if name.endswith(end)}
    strange = sorted({module + end for module in modules for end in ends} ^ set(state))
    if strange:
        raise ValueError(f"these are no pairs of low-rank factors: {', '.join(strange)}")
    found = {}
    for module in sorted(modules):
        down, up = (state[module + end] for end in ends)
        change = scaling * (up.flatten(1) @ down.flatten(1))
        found[f"{module.removeprefix(prefix)}.weight"] = change.reshape(len(up), *down.shape[1:])
    return found


def transfer(control: Control, module: nn.Module, scale: float = 1.0) -> Transferred:
    """Add a control to a module's parameters, for good; ``controlled`` does it for a while.

    Raises:
        ValueError: if no name of the control fits the module.
    """
    mine = dict(module.named_parameters())
    unmatched = {name: line for name, change in control.items() if (line := _misfit(name, change, mine))}
    applied = tuple(name for name in control if name not in unmatched)
    if not applied:
        raise ValueError(
            f"nothing of this control fits {type(module).__name__}: {'; '.join(unmatched.values()) or 'it is empty'}"
        )
    with torch.no_grad():
        for name in applied:
            mine[name].add_(control[name].to(mine[name]), alpha=scale)
    return Transferred(applied, unmatched)


@contextmanager
def controlled(control: Control, module: nn.Module, scale: float = 1.0) -> Iterator[Transferred]:
    """The control, for the duration of a block; afterwards every bit of the module is as it was.

    Raises:
        ValueError: if no name of the control fits the module.
    """
    mine = dict(module.named_parameters())
    kept = {name: mine[name].detach().clone() for name in control if name in mine}
    try:
        yield transfer(control, module, scale)
    finally:
        with torch.no_grad():
            for name, value in kept.items():
                mine[name].copy_(value)


def _misfit(name: str, change: Tensor, mine: Mapping[str, Tensor]) -> str | None:
    if name not in mine:
        return f"there is no parameter {name!r}{nearest(name, mine)}"
    if mine[name].shape != change.shape:
        return f"{name!r} has the shape {tuple(mine[name].shape)}, the control {tuple(change.shape)}"
    return None
