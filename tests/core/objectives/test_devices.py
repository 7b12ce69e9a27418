"""No accelerator is needed to see that a loss mixes devices, or waits for one: batch and roles stand on "meta"."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from objective_cases import Case, every_case
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from fewstep.objectives import tangent
from fewstep.protocol import Batch, Cond, Key, Step, parts, to

ANSWERS: dict[Any, Any] = {
    Tensor.__bool__: False,
    Tensor.__float__: 1.0,
    Tensor.__int__: 1,
    Tensor.__index__: 1,
    Tensor.item: 1.0,
}
"""What asks a device for a number, and what "meta" is made to answer."""


class Mixed(TorchDispatchMode):
    """Operations on tensors of both places; a CPU scalar may join any device."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = [x for x in _pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        places = {x.device.type for x in found if x.ndim or x.device.type == "meta"}
        moves = str(func).startswith(("aten._to_copy", "aten.copy_"))
        if len(places) > 1 and not moves:
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


class Waits(TorchFunctionMode):
    """How often the host waits for a number."""

    count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in ANSWERS and args[0].device.type == "meta":
            self.count += 1
            return ANSWERS[func]
        return func(*args, **(kwargs or {}))


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys draw on "meta", where there is no generator and no autocast."""
    prepare = Key._prepare

    def without_generator(key: Key, shape: Sequence[int], device: torch.device | str) -> Any:
        head, generator = prepare(key, shape, "cpu")
        return head, None if torch.device(device).type == "meta" else generator

    @contextlib.contextmanager
    def plain(primals: Any) -> Iterator[None]:
        with torch.no_grad():
            yield

    monkeypatch.setattr(Key, "_prepare", without_generator)
    monkeypatch.setattr(tangent, "_plain", plain)


def moved(batch: Batch) -> Batch:
    cond = Cond(*(to(part, "meta") for part in (batch.cond.data, batch.cond.mask, batch.cond.index)))
    return Batch(to(batch.like, "meta"), to(batch.x, "meta"), cond, to(dict(batch.extra), "meta"))


def step_of(case: Case) -> tuple[list[str], dict[str, int]]:
    """Every phase once: operations that mixed devices, and how often each phase waited."""
    roles = {name: module.to("meta") for name, module in case.roles().items()}
    mixed, waited, key = Mixed(), {}, Key(3)
    for phase in case.objective.phases(0):
        step = Step(0, 1, key.at(phase.name), key)
        with Waits() as waits, mixed:
            for part in parts(case.objective.loss(phase, roles, moved(case.batch()), step)):
                part.total.backward()
        waited[phase.name] = waits.count
    return mixed.seen, waited


@pytest.mark.parametrize("name", every_case())
def test_no_loss_mixes_devices_and_few_wait_for_one(meta: None, name: str) -> None:
    case = every_case()[name]
    mixed, waited = step_of(case)
    assert mixed == []
    # One number for all rows: how many steps the longest way takes, whether a reward's weights need tempering.
    asks = name.startswith("trajectory maps") or "teacher's states" in name or "weights of a reward" in name
    assert max(waited.values()) <= (1 if asks else 0)


def weighted(weight: Callable[..., Tensor]) -> tuple[list[str], dict[str, int]]:
    case = every_case()["denoising"]
    return step_of(replace(case, objective=replace(case.objective, weight=weight)))


def test_a_loss_that_mixes_or_waits_is_caught(meta: None) -> None:
    with pytest.raises(RuntimeError, match="device"):
        weighted(lambda process, t: t * torch.ones(len(t)))
    assert weighted(lambda process, t: t[torch.arange(len(t))]) == (["aten.index.Tensor"], {"student": 0})
    assert weighted(lambda process, t: t * float(t.max())) == ([], {"student": 1})
