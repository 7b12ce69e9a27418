"""What a run of ``protein/sid-backbone`` costs to draw from: structures per second by length and by batch, the student
beside its teacher, what the sampler adds to its network calls, and the most bytes that live at once in a call.

Student and teacher take turns in one process. Run: ``python benchmarks/protein.py RUN [--calls 400] [--write FILE]``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from loops import LiveBytes, markdown

from fewstep.protocol import Batch, Key, Sampler, Step
from fewstep.runs import Run, load
from fewstep.runs.counting import networks
from fewstep_protein.structures.sources import blank

LENGTHS = (50, 100, 150, 200, 256)
BATCHES = (1, 4, 16, 64)
ROUNDS = 5


class InNetworks:
    """Seconds that pass inside the networks of some modules, and how often they are called."""

    def __init__(self) -> None:
        self.seconds, self.calls, self._begun = 0.0, 0, 0.0

    def enter(self, *_: Any) -> None:
        self.calls += 1
        self._begun = time.perf_counter()

    def leave(self, *_: Any) -> None:
        self.seconds += time.perf_counter() - self._begun


@contextmanager
def watched(modules: Sequence[Any]) -> Iterator[InNetworks]:
    found = InNetworks()
    hooks = []
    for network in networks(modules):
        hooks.append(network.register_forward_pre_hook(found.enter))
        hooks.append(network.register_forward_hook(found.leave))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def drawn(run: Run, sampler: Sampler, batch: Batch) -> tuple[float, InNetworks]:
    """Seconds of one draw, and those inside networks."""
    roles = {name: run.shelf[name] for name in sampler.roles}
    with torch.no_grad(), watched(list(roles.values())) as inside:
        begun = time.perf_counter()
        for _state in sampler.fn(roles, batch, Step.inference(Key(0))):
            pass
        return time.perf_counter() - begun, inside


def chains(length: int, number: int) -> Batch:
    return blank(torch.full((number,), length))


def by_length(run: Run, calls: int, number: int) -> list[tuple[str, ...]]:
    """Student, its own number of steps, beside the teacher: both at the same batch."""
    student, teacher = run.sampler("student"), run.sampler("teacher", calls - 1)
    rows = []
    for length in LENGTHS:
        batch = chains(length, number)
        drawn(run, student, batch)
        fast = [drawn(run, student, batch) for _ in range(ROUNDS)]
        slow, inside = drawn(run, teacher, batch)
        quick = median(seconds for seconds, _ in fast)
        added = median(seconds / within.seconds - 1 for seconds, within in fast)
        rows.append(
            (
                str(length),
                f"{number / slow:.2f}",
                str(inside.calls),
                f"{number / quick:.1f}",
                str(fast[0][1].calls),
                f"{slow / quick:.1f}",
                f"{100 * added:.1f} %",
            )
        )
    return rows


def by_batch(run: Run, length: int) -> list[tuple[str, ...]]:
    rows = []
    for number in BATCHES:
        batch = chains(length, number)
        seconds = median(drawn(run, run.sampler("student"), batch)[0] for _ in range(3))
        rows.append((str(number), f"{number / seconds:.1f}", f"{1000 * seconds / number:.1f} ms"))
    return rows


def by_memory(run: Run) -> list[tuple[str, ...]]:
    """Most bytes that live at once in one call for one chain, beyond parameters."""
    rows, student = [], run.shelf["student"]
    for length in (*LENGTHS, 512):
        batch = chains(length, 1)
        t = torch.full((1,), 0.5, dtype=torch.float64)
        with torch.no_grad(), LiveBytes() as live:
            student(torch.randn(1, length, 3), t, batch.cond)
        rows.append((str(length), f"{live.peak / 2**20:.1f}", f"{live.peak / length**2:.0f}"))
    return rows


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("run", help="folder of a finished run")
    words.add_argument("--calls", type=int, default=400, help="network calls of the teacher")
    words.add_argument("--number", type=int, default=8, help="chains of a batch, by length")
    words.add_argument("--write", type=Path, help="file for the tables")
    given = words.parse_args()
    torch.set_num_threads(1)
    run = load(given.run)
    tables = [
        markdown(
            (
                "residues",
                "teacher, structures/s",
                "calls",
                "student, structures/s",
                "calls",
                "times",
                "sampler adds",
            ),
            by_length(run, given.calls, given.number),
        ),
        markdown(("chains of 100 residues at once", "structures/s", "each"), by_batch(run, 100)),
        markdown(("residues", "MB at most", "bytes per pair"), by_memory(run)),
    ]
    text = "\n\n".join(tables) + "\n"
    print(text)
    if given.write:
        given.write.write_text(text)


if __name__ == "__main__":
    main()
