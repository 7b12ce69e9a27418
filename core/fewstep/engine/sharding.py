"""Roles over several processes: FSDP2 for what can be sharded, averaged gradients for the rest."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.utils import _pytree

from fewstep.protocol import Batch, Cond, Estimate, Growing, Sample, State

ENTRIES = ("generate", "sample", "logp", "encode")

for _value in (Batch, Cond, Estimate, Sample, State):
    # FSDP2 finds the tensors that backward starts from through the pytree of what a module returns.
    if not _pytree.is_namedtuple_class(_value) and _value not in _pytree.SUPPORTED_NODES:
        _pytree.register_dataclass(_value)


def ranks() -> tuple[int, int]:
    """(rank, world) of the process group, (0, 1) without one."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def sharded(roles: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Copies of the roles, each sharded over all ranks; sharing among roles survives.

    A module that several roles share is sharded once, by itself; what such a role holds beside it is replicated,
    because nested FSDP roots refuse to run in any order. Growing roles are replicated: their shapes change.
    The originals stay whole: the shelf gets them back with the trained weights.
    """
    copies: dict[str, nn.Module] = copy.deepcopy(dict(roles))
    holders: dict[int, set[str]] = {}
    for name, role in copies.items():
        for parameter in role.parameters():
            holders.setdefault(id(parameter), set()).add(name)
    for role in copies.values():
        if not isinstance(role, Growing):
            _shard(role, holders)
    return copies


def _shard(role: nn.Module, holders: Mapping[int, set[str]]) -> None:
    held = [len(holders.get(id(p), ())) for p in role.parameters()]
    if not held or any(isinstance(module, FSDPModule) for module in role.modules()):
        return
    if max(held) == 1:
        _wrap(role)
        return
    for module in _common(role, holders):
        _wrap(module)


def _common(role: nn.Module, holders: Mapping[int, set[str]]) -> Iterable[nn.Module]:
    """The largest parts all of whose parameters are shared by the same roles."""
    owners = {frozenset(holders[id(p)]) for p in role.parameters()}
    children = list(role.children())
    if len(owners) == 1 and not (len(children) == 1 and not list(role.parameters(recurse=False))):
        return [role] if len(next(iter(owners))) > 1 else []
    return [part for child in children for part in _common(child, holders) if list(child.parameters())]


def _wrap(module: nn.Module) -> None:
    """Shard the blocks that the module names in ``wrap_classes``, then itself."""
    for part in module.modules():
        if part is not module and isinstance(part, tuple(getattr(module, "wrap_classes", ()))):
            fully_shard(part)
    fully_shard(module)
    for entry in ENTRIES:
        if hasattr(module, entry):
            register_fsdp_forward_method(module, entry)


def reshard(roles: Iterable[nn.Module]) -> None:
    """Leave only the sharded parameters: before flags change, optimizers step, or states are read."""
    for role in roles:
        for module in role.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


def sync_gradients(roles: Iterable[nn.Module], on: bool) -> None:
    """Whether the next backward reduces the gradients of sharded roles."""
    for role in roles:
        for module in role.modules():
            if isinstance(module, FSDPModule):
                module.set_requires_gradient_sync(on)


def average_gradients(parameters: Iterable[Tensor], world: int) -> None:
    """Average the gradients of replicated parameters over the ranks."""
    for parameter in parameters:
        if parameter.grad is not None and not hasattr(parameter, "to_local"):
            dist.all_reduce(parameter.grad)
            parameter.grad.div_(world)


def local(values: Iterable[Any]) -> list[Tensor]:
    """This rank's pieces."""
    return [value.to_local() if hasattr(value, "to_local") else value for value in values]


def whole(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The full tensors of a possibly sharded state; every rank must call it."""
    return {name: v.full_tensor() if hasattr(v, "full_tensor") else v for name, v in state.items()}


def agree(*flags: bool, device: torch.device) -> list[bool]:
    """Each flag, raised if any rank raises it; every rank must call it."""
    raised = torch.tensor(flags, dtype=torch.float32, device=device)
    dist.all_reduce(raised, op=dist.ReduceOp.MAX)
    return [bool(flag) for flag in raised.tolist()]


def barrier() -> None:
    """Wait for all ranks."""
    if dist.is_initialized():
        dist.barrier()


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean of a number over all ranks."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        value = value.clone()
        dist.all_reduce(value)
        value = value / dist.get_world_size()
    return value
