"""Ways to run an assembly, and how two are compared: interleaved blocks, medians, bootstrap intervals, live bytes."""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from fewstep.engine import Settings, Watch
from fewstep.engine.checkpoint import Cursor
from fewstep.engine.learner import optimizer_class
from fewstep.engine.team import Team
from fewstep.engine.trainer import Desk, Trainer
from fewstep.protocol import Assembly, Key, Stage, Step, at_step, parts, tensors

Run = Callable[[int], None]
"""So many more cycles."""


def bare(assembly: Assembly) -> Run:
    """The loop that one would write by hand around the same losses: no checks, logs, dropout counters or resume."""
    objective, roles = assembly.objective, assembly.roles
    for role in roles.values():
        role.requires_grad_(False).eval()
    optimizers = {name: _optimizer(optim, roles[name]) for name, optim in assembly.optimizers.items()}
    averages = [
        (
            list(roles[name].parameters()),
            list(roles[average.of].parameters()),
            float(at_step(average.decay, Step(0, 1, Key(0)))),
        )
        for name, average in assembly.averages.items()
    ]
    key, state = Key(0).at("bench"), {"cycle": 0, "batch": 0}

    def run(cycles: int) -> None:
        for _ in range(cycles):
            cycle_key = key.at("cycle", state["cycle"])
            cache: dict[str, Any] = {}
            for position, phase in enumerate(objective.phases(state["cycle"])):
                for name in optimizers:
                    roles[name].requires_grad_(name in phase.updates or name in phase.builds).train(
                        name in phase.updates
                    )
                step = Step(state["cycle"], 10**6, cycle_key.at("phase", position), cycle_key, cache)
                batch = assembly.source.batch(state["batch"], key.at("data"))
                for part in parts(objective.loss(phase, roles, batch, step)):
                    part.total.backward()
                for name in phase.updates:
                    optimizers[name].step()
                    optimizers[name].zero_grad()
                state["batch"] += 1
            with torch.no_grad():
                for mine, theirs, decay in averages:
                    torch._foreach_lerp_(mine, theirs, 1 - decay)
            state["cycle"] += 1

    return run


def _optimizer(optim: Any, role: nn.Module) -> torch.optim.Optimizer:
    rate = at_step(optim.groups[0].lr, Step(0, 10**6, Key(0)))
    return optimizer_class(optim.kind)(role.parameters(), lr=rate, **optim.options)


def trained(assembly: Assembly) -> Run:
    """The engine's loop, without the start of a stage."""
    stage = Stage("bench", lambda _: assembly, 10**6)
    desk = Desk("cpu", Settings(), Watch(), lambda _: None, lambda: False)
    trainer = Trainer(Team(assembly), stage, Key(0).at("bench"), Cursor("bench"), desk)

    def run(cycles: int) -> None:
        trainer.stage = replace(stage, steps=trainer.cursor.cycle + cycles)
        trainer.run()

    return run


@dataclass(frozen=True)
class Ratio:
    """CPU milliseconds per cycle of two runs, and the median ratio of neighboring blocks with its interval."""

    first: float
    second: float
    value: float
    low: float
    high: float


def compared(first: Run, second: Run, cycles: int, rounds: int) -> Ratio:
    """Blocks of both in turn, so that a busy machine slows both; ``second`` over ``first``.

    The interval holds 95 % of 2,000 bootstrap medians of the pairs.
    """
    runs = (first, second)
    for run in runs:
        run(max(2, cycles // 4))
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds):
        for which in (0, 1) if turn % 2 else (1, 0):
            begun = time.process_time()
            runs[which](cycles)
            times[which].append((time.process_time() - begun) / cycles * 1e3)
    pairs = torch.tensor([b / a for a, b in zip(*times, strict=True)], dtype=torch.float64)
    again = pairs[Key(0).integers((2000, rounds), rounds)].median(1).values
    low, high = again.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Ratio(
        statistics.median(times[0]), statistics.median(times[1]), statistics.median(pairs.tolist()), low, high
    )


class LiveBytes(TorchDispatchMode):
    """Bytes of all storages that were made inside and are alive, and their peak; exact, unlike the process' size."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tensors(out):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._known:
                self._known.add(storage._cdata)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return out

    def _gone(self, which: int, size: int) -> None:
        self._known.discard(which)
        self.now -= size


def peak_bytes(run: Run, cycles: int = 3) -> int:
    """Most bytes that live at once during a few cycles, beyond what lives before (parameters and optimizer state)."""
    run(1)
    with LiveBytes() as live:
        run(cycles)
    return live.peak


def calls_per_phase(assembly: Assembly, cycle: int = 0) -> dict[str, dict[str, int]]:
    """Phase -> role -> calls of its network, counted by hooks in one cycle; a role seen through another counts once."""
    found: dict[str, dict[str, int]] = {}
    counts: dict[str, int] = {}
    hooks = [_watched(assembly.roles, name, counts) for name in assembly.roles]
    key = Key(0).at("count")
    cache: dict[str, Any] = {}
    for position, phase in enumerate(assembly.objective.phases(cycle)):
        counts.clear()
        _granted(assembly.roles, (*phase.updates, *phase.builds))
        step = Step(cycle, 10**6, key.at("phase", position), key, cache)
        for part in parts(
            assembly.objective.loss(phase, assembly.roles, assembly.source.batch(0, key), step)
        ):
            part.total.backward()
        found[phase.name] = dict(sorted(counts.items()))
    for hook in hooks:
        hook.remove()
    return found


def _watched(roles: Mapping[str, nn.Module], name: str, counts: dict[str, int]) -> Any:
    module = getattr(roles[name], "net", roles[name])
    watched = roles[name] if isinstance(module, nn.Identity) else module

    def count(*given: Any) -> None:
        counts[name] = counts.get(name, 0) + 1

    return watched.register_forward_hook(count)


def _granted(roles: Mapping[str, nn.Module], names: Sequence[str]) -> None:
    for name, role in roles.items():
        role.zero_grad(set_to_none=True)
        role.requires_grad_(name in names)


def filled(page: Path, name: str, content: str) -> None:
    """Write ``content`` between the page's markers of that name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    if not found or end not in rest:
        raise ValueError(f"{page} lacks the markers {begin} and {end}")
    page.write_text(f"{before}{begin}\n\n{content}\n\n{end}{rest.partition(end)[2]}", encoding="utf-8")


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))
