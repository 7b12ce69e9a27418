"""One role's optimizer: groups by parameter name, ramped learning rates, clipping, edits of growing parameters."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.protocol import Group, Optim, Regrow, Step, at_step


def groups_of(optim: Optim, names: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """Parameter names per group, and what is wrong with the groups."""
    problems: list[str] = []
    taken: dict[str, str] = {}
    found: list[list[str]] = []
    for group in optim.groups:
        mine = [name for name in names if re.search(group.match, name)]
        if not mine:
            problems.append(f"group {group.match!r} matches no parameter of {_some(names)}")
        problems += [
            f"{name!r} is matched by {taken[name]!r} and {group.match!r}" for name in mine if name in taken
        ]
        taken.update(dict.fromkeys(mine, group.match))
        found.append(mine)
    return found, problems


def _some(names: Sequence[str]) -> str:
    return (
        ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
        if names
        else "the role (it has none of its own)"
    )


def optimizer_class(kind: str) -> type[torch.optim.Optimizer]:
    """The class that ``module:class`` names.

    Raises:
        ValueError: if it cannot be found or is no torch optimizer.
    """
    module, _, name = kind.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"optimizer {kind!r} cannot be found ({error}); write it as 'torch.optim:AdamW'"
        ) from error
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        raise ValueError(f"{kind!r} is not a torch optimizer class")
    return found


class Learner:
    """The optimizer of one role, over the parameters that the role owns and a group matches.

    Args:
        module: the role, placed and sharded.
        optim: how it trains.
        names: state names that the role owns.
        lifetime: cycles between resets, after which ramps begin anew; None = never.
    """

    def __init__(
        self, module: nn.Module, optim: Optim, names: frozenset[str], lifetime: int | None = None
    ) -> None:
        """Match groups and build the optimizer."""
        self.optim, self.lifetime = optim, lifetime
        self.named = {name: p for name, p in module.named_parameters() if name in names}
        matched, _ = groups_of(optim, list(self.named))
        groups = [self._group(group, mine) for group, mine in zip(optim.groups, matched, strict=True)]
        self.optimizer: torch.optim.Optimizer = optimizer_class(optim.kind)(groups, **optim.options)
        self.parameters: list[Tensor] = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.ramps = [(i, group.lr) for i, group in enumerate(optim.groups) if callable(group.lr)]

    def _group(self, group: Group, names: Sequence[str]) -> dict[str, Any]:
        lr = 0.0 if callable(group.lr) else group.lr
        return {"params": [self.named[name] for name in names], "lr": lr, **group.options}

    def ready(self, cycle: int, step: Step) -> None:
        """Set this cycle's learning rates; a reset role counts from its reset."""
        if not self.ramps:
            return
        if self.lifetime:
            step = Step(cycle % self.lifetime, min(step.total, self.lifetime), step.key, step.cycle_key)
        for index, ramp in self.ramps:
            self.optimizer.param_groups[index]["lr"] = at_step(ramp, step)

    def update(self) -> None:
        """Clip and step; gradients are finite."""
        if self.optim.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.optim.clip)
        self.optimizer.step()

    def forget(self) -> None:
        """Drop the optimizer's state."""
        self.optimizer.state.clear()

    def state(self) -> dict[str, Any]:
        """``name/field`` -> moment, counter or number."""
        held = self.optimizer.state
        return {f"{name}/{f}": v for name, p in self.named.items() if p in held for f, v in held[p].items()}

    def template(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Empty places for what a checkpoint holds: metadata by ``name/field`` -> a tensor of that shape, or None."""
        return {key: self._place(key, meta) for key, meta in stored.items()}

    def _place(self, key: str, meta: Any) -> Tensor | None:
        name, field = key.rsplit("/", 1)
        if not hasattr(meta, "size"):
            return None
        parameter = self.named[name]
        if field != "step" and tuple(meta.size) == tuple(parameter.shape):
            return torch.zeros_like(parameter.detach(), dtype=meta.properties.dtype)
        # Adam's counter lives on the CPU unless the optimizer runs fused or captured.
        fused = any(group.get("fused") or group.get("capturable") for group in self.optimizer.param_groups)
        device = parameter.device if fused or field != "step" else "cpu"
        return torch.zeros(tuple(meta.size), dtype=meta.properties.dtype, device=device)

    def adopt(self, state: Mapping[str, Any]) -> None:
        """Take what :meth:`state` gave."""
        for key, value in state.items():
            name, field = key.rsplit("/", 1)
            self.optimizer.state[self.named[name]][field] = value

    def regrow(self, edit: Regrow) -> None:
        """Give the moments of one parameter its new rows; appended rows begin at zero."""
        parameter = self.named.get(edit.parameter)
        if parameter is None:
            return
        for field, value in self.optimizer.state.get(parameter, {}).items():
            if field != "step" and isinstance(value, Tensor) and value.ndim:
                self.optimizer.state[parameter][field] = edited(value, edit, zeros=True)


def edited(value: Tensor, edit: Regrow, zeros: bool = False) -> Tensor:
    """Keep and append rows; with ``zeros`` the appended ones are zero."""
    kept = value.detach().index_select(0, edit.keep.to(value.device))
    if edit.append is None:
        return kept
    extra = edit.append.detach().to(value)
    return torch.cat([kept, torch.zeros_like(extra) if zeros else extra])
