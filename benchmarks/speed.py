"""What a training step costs, for every method: network calls against what its mathematics needs, the engine against a bare
loop around the same loss, and the most bytes that live at once in both.

Blocks of the two loops alternate, CPU time is counted; the ratio is the median over pairs of blocks with its interval.

Run: ``python benchmarks/speed.py [--methods dmd,scm] [--rounds 9] [--width 940] [--write docs/speed.md]``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from loops import Ratio, bare, calls_per_phase, compared, filled, markdown, peak_bytes, trained
from methods import METHODS, Method
from ring import RING
from toys import Toy, assembled, pretrained

from fewstep.config.objectives import KINDS
from fewstep.config.objectives.rounds import rounds
from fewstep.protocol import Assembly

Calls = Mapping[str, Mapping[str, int]]

_MATCH = {"critic": {"student": 1, "fake": 1}, "student": {"student": 1, "teacher": 1, "fake": 1}}
"""The fake learns from a sample that has no graph; the student's sample is judged by both once."""
_HEAD = {
    "critic": {"student": 1, "fake": 2, "disc": 2},
    "student": {"student": 1, "teacher": 1, "fake": 1, "disc": 1},
}
"""A head reads the features of calls that are made anyway; real samples cost one more."""

NEEDED: Mapping[str, Calls] = {
    "ode-pairs": {"student": {"student": 1, "teacher": 9}},
    "progressive": {"student": {"student": 1, "teacher": 2}},
    "consistency": {"student": {"student": 1, "target": 1, "teacher": 2}},
    "lcm": {"student": {"student": 1, "target": 1, "teacher": 1}},
    "ect": {"student": {"student": 2}},
    "ctm": {"student": {"student": 2, "target": 3, "teacher": 2}},
    "tscd": {"student": {"student": 2, "teacher": 1}},
    "mlcm": {"student": {"student": 2, "teacher": 1}},
    "scott": {"student": {"student": 1, "target": 1, "teacher": 1}},
    "scm": {"student": {"student": 2, "teacher": 1}},
    "rcm": {"critic": {"student": 1, "fake": 1}, "student": {"student": 3, "teacher": 2, "fake": 1}},
    "meanflow": {"student": {"student": 2, "teacher": 1}},
    "sds": {"student": {"student": 1, "teacher": 1}},
    "vsd": _MATCH,
    "diff-instruct": _MATCH,
    "dmd": _MATCH,
    "dmd2": _HEAD,
    "f-distill": _HEAD,
    "tdm": _MATCH,
    "ladd": {
        "critic": {"student": 1, "teacher": 2, "disc": 2},
        "student": {"student": 1, "teacher": 1, "disc": 1},
    },
    "sid": _MATCH,
    "sim": _MATCH,
    "uni-instruct": _MATCH,
    "sign": {
        "critic": {"student": 1, "fake": 1},
        "student": {"student": 4, "teacher": 1, "fake": 1},
    },
}
"""Calls of networks per phase for a student of one step, by the settings of :data:`LEAST`."""

LEAST: Mapping[str, Mapping[str, object]] = {
    "ode-pairs": {"steps": 4},
    "ctm": {"reach": 1},
    "mlcm": {"steps": 1, "segments": (1,), "walk": 1, "solver": "ddim"},
    "scott": {"substeps": 1},
    "rcm": {"warmup": 0, "derivative": "forward"},
    "scm": {"warmup": 0, "derivative": "forward"},
    "meanflow": {"derivative": "forward"},
}
"""Settings under which the number of calls does not depend on a draw."""


@dataclass(frozen=True)
class Cost:
    """One row: calls that were counted and that are needed, both loops, and their peaks in bytes."""

    name: str
    counted: Calls
    ratio: Ratio
    bytes: tuple[int, int]

    @property
    def needed(self) -> Calls:
        """What the mathematics needs."""
        return NEEDED[self.name]


def one_step(name: str) -> Method:
    """The method with a network for a teacher and a student of one step."""
    method = next(one for one in METHODS.values() if one.kind == name)
    settings = {**method.settings, **LEAST.get(name, {})}
    return replace(method, settings=settings, levels=method.levels[:1], teacher="network")


def assembly_of(name: str, toy: Toy) -> Assembly:
    """Fresh roles, ready to train."""
    method = one_step(name)
    found = assembled(method, toy, first_round(method, toy), {})
    return Assembly(found.roles, found.objective, found.source, found.optimizers)


def first_round(method: Method, toy: Toy):
    """The round that a table of steps is about: the first."""
    from toys import time_at

    process = toy.processes[method.process]
    times = tuple(time_at(process, level) for level in method.levels)
    return rounds(KINDS[method.kind](**method.settings), process, times)[0]


def cost(name: str, toy: Toy, cycles: int, rounds_: int) -> Cost:
    """Count, time and weigh one method."""
    counted = calls_per_phase(assembly_of(name, toy))
    ratio = compared(bare(assembly_of(name, toy)), trained(assembly_of(name, toy)), cycles, rounds_)
    peaks = (peak_bytes(bare(assembly_of(name, toy))), peak_bytes(trained(assembly_of(name, toy))))
    return Cost(name, counted, ratio, peaks)


def told(calls: Calls) -> str:
    """``critic: fake 1, student 1; student: ...``."""
    phases = (
        f"{phase}: {', '.join(f'{r} {n}' for r, n in sorted(roles.items()))}"
        for phase, roles in calls.items()
    )
    return "; ".join(phases)


def same(counted: Calls, needed: Calls) -> bool:
    """Whether the two agree, phase by phase and role by role."""
    return {p: dict(r) for p, r in counted.items()} == {p: dict(r) for p, r in needed.items()}


def line(found: Cost) -> tuple[str, ...]:
    """A row of the table."""
    calls = "as needed" if same(found.counted, found.needed) else f"**{told(found.counted)}**"
    ratio = f"{found.ratio.value:.3f} [{found.ratio.low:.3f}, {found.ratio.high:.3f}]"
    peak = f"{found.bytes[1] / max(1, found.bytes[0]):.3f}"
    return (f"`{found.name}`", told(found.needed), calls, f"{found.ratio.first:.2f}", ratio, peak)


HEAD = ("method", "calls that are needed", "calls counted", "bare ms", "engine / bare", "peak bytes / bare")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", default=",".join(NEEDED))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--width", type=int, default=128, help="of the networks: 128 = about 38k parameters, 680 = 1M"
    )
    parser.add_argument("--cycles", type=int, default=25)
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    toy = replace(RING, width=asked.width, rows=64, pretraining=1)
    parameters = sum(p.numel() for p in pretrained(toy, "edm").parameters())
    lines = []
    for name in asked.methods.split(","):
        found = line(cost(name, toy, asked.cycles, asked.rounds))
        print(" | ".join(found), flush=True)
        lines.append(found)
    size = f"Networks of {parameters:,} parameters, 64 rows, {asked.rounds} pairs of blocks of {asked.cycles} cycles."
    told_size = f"{size}\n\n{markdown(HEAD, lines)}"
    if asked.write:
        filled(asked.write, "calls", told_size)
    else:
        print(f"\n{told_size}")


if __name__ == "__main__":
    main()
