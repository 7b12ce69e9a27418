"""Network calls, counted where they happen. Never taken from a configuration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from fewstep.protocol import Denoiser


class Calls:
    """How often networks were called; a network inside another counted one is part of the same call."""

    def __init__(self) -> None:
        self.count = 0
        self._depth = 0

    def enter(self, *_: Any) -> None:
        """A network begins."""
        if self._depth == 0:
            self.count += 1
        self._depth += 1

    def leave(self, *_: Any) -> None:
        """A network ends, well or badly."""
        self._depth -= 1


@contextmanager
def counted(modules: Iterable[Any]) -> Iterator[Calls]:
    """Count the calls of every network inside ``modules`` while the block runs.

    Networks are the ``net`` of each denoiser and every module that declares ``counts_evaluations = True``.
    """
    calls = Calls()
    handles = []
    for network in networks(modules):
        handles.append(network.register_forward_pre_hook(calls.enter))
        handles.append(network.register_forward_hook(calls.leave, always_call=True))
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def networks(modules: Iterable[Any]) -> list[nn.Module]:
    """The networks whose calls are evaluations, each once."""
    found: dict[int, nn.Module] = {}
    for root in modules:
        for module in root.modules() if isinstance(root, nn.Module) else ():
            if getattr(module, "counts_evaluations", False):
                found[id(module)] = module
            elif isinstance(module, Denoiser):
                found[id(module.net)] = module.net
    return list(found.values())
