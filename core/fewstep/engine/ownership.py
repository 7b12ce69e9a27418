"""Which role owns which tensors: a role that is a view on another role's parameters owns none of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name, as they lie in the module (not copies)."""
    state = module.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def owned_names(roles: Mapping[str, nn.Module], first: Iterable[str] = ()) -> dict[str, frozenset[str]]:
    """Role -> names of the state that it owns.

    A tensor that several roles hold belongs to the smallest of them (a base rather than the adapter around it);
    among equals to one in ``first`` (those with an optimizer), then to the one named first.
    """
    states = {name: state_of(module) for name, module in roles.items()}
    ahead = set(first)
    order = sorted(roles, key=lambda name: (sum(t.numel() for t in states[name].values()), name not in ahead))
    owner: dict[int, str] = {}
    for name in order:
        for value in states[name].values():
            owner.setdefault(id(value), name)
    return {
        name: frozenset(key for key, value in states[name].items() if owner[id(value)] == name)
        for name in roles
    }


def own_state(module: nn.Module, names: frozenset[str]) -> dict[str, Tensor]:
    """The part of a module's state that its role owns."""
    return {name: value.detach() for name, value in state_of(module).items() if name in names}


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """BLAKE2b over names, shapes and bytes; of a sharded tensor only this rank's piece."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(state.items()):
        local: Any = value.to_local() if hasattr(value, "to_local") else value
        digest.update(f"{name}{tuple(local.shape)}{local.dtype}".encode())
        flat = local.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def copy_matching(target: nn.Module, source: nn.Module) -> list[str]:
    """Copy every tensor of ``source`` that ``target`` has under the same name and shape; returns their names."""
    found = state_of(source)
    copied = []
    with torch.no_grad():
        for name, value in state_of(target).items():
            if name in found and found[name].shape == value.shape:
                value.copy_(found[name])
                copied.append(name)
    return copied
