"""What the trainer costs over a hand-written loop that makes the same calls on the same networks.

Both train the same objectives on the same batches with the same keys; the bare loop has no checks, no averages, no
logging, no resume. Blocks of cycles alternate (so a busy machine slows both), CPU time is counted, and the ratio is
the median over pairs of blocks; the ratio of the fastest blocks is what an idle machine would show.

Run: ``python benchmarks/trainer_overhead.py [--rounds 15]``; the aim is <= 1.05.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.engine import Settings, Watch
from fewstep.engine.checkpoint import Cursor
from fewstep.engine.team import Team
from fewstep.engine.trainer import Desk, Trainer
from fewstep.objectives import Denoising
from fewstep.objectives.score_methods import dmd
from fewstep.processes import LogNormal, edm
from fewstep.protocol import Assembly, Batch, Cond, Denoiser, Group, Key, Objective, Optim, Stage, Step, parts
from fewstep.samplers import FewStep

TIMES = LogNormal(-1.2, 1.2, 0.002, 80.0)


class Net(nn.Module):
    """An MLP over a vector and its time."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(features + 1, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, features),
        )

    def forward(self, x: Tensor, t: Tensor, cond: Cond) -> Tensor:
        return self.body(torch.cat([x, t[:, None]], 1))


@dataclass(frozen=True)
class Data:
    rows: int
    features: int

    def batch(self, index: int, key: Key) -> Batch:
        x = key.at(index).normal(torch.empty(self.rows, self.features))
        return Batch(like=x, x=x)


def setting(kind: str, features: int, width: int, rows: int) -> Assembly:
    process = edm()
    torch.manual_seed(0)
    teacher = Denoiser(Net(features, width), process, "edm")
    source = Data(rows, features)
    adam = Optim((Group("", 1e-4),))
    if kind == "denoising":
        return Assembly({"student": teacher}, Denoising(TIMES), source, {"student": adam})
    student = FewStep(copy.deepcopy(teacher.net), process, "edm", (80.0,))
    roles = {"teacher": teacher, "student": student, "fake": copy.deepcopy(teacher)}
    return Assembly(roles, dmd(TIMES, critic_updates=2), source, {"student": adam, "fake": adam})


def bare(assembly: Assembly) -> Callable[[int], None]:
    """The loop one would write by hand."""
    objective: Objective = assembly.objective
    roles: Mapping[str, Any] = assembly.roles
    for role in roles.values():
        role.requires_grad_(False).eval()
    optimizers = {name: torch.optim.AdamW(roles[name].parameters(), 1e-4) for name in assembly.optimizers}
    state = {"cycle": 0, "batch": 0}
    key = Key(0).at("bench")
    phases = objective.phases(0)

    def run(cycles: int) -> None:
        for _ in range(cycles):
            for position, phase in enumerate(phases):
                if len(phases) > 1 or state["cycle"] == 0:
                    for name in optimizers:
                        roles[name].requires_grad_(name in phase.updates).train(name in phase.updates)
                step = Step(state["cycle"], 10**6, key.at("cycle", state["cycle"], "phase", position))
                batch = assembly.source.batch(state["batch"], key.at("data"))
                for part in parts(objective.loss(phase, roles, batch, step)):
                    part.total.backward()
                for name in phase.updates:
                    optimizers[name].step()
                    optimizers[name].zero_grad()
                state["batch"] += 1
            state["cycle"] += 1

    return run


def trained(assembly: Assembly) -> Callable[[int], None]:
    """The engine's loop, without the start of a stage."""
    stage = Stage("bench", lambda _: assembly, 10**6)
    desk = Desk("cpu", Settings(), Watch(), lambda _: None, lambda: False)
    trainer = Trainer(Team(assembly), stage, Key(0).at("bench"), Cursor("bench"), desk)

    def run(cycles: int) -> None:
        trainer.stage = replace(stage, steps=trainer.cursor.cycle + cycles)
        trainer.run()

    return run


def ratio(make: Callable[[], Assembly], cycles: int, rounds: int) -> tuple[float, float, float, float]:
    """(bare ms per cycle, engine ms per cycle, median ratio of pairs, ratio of the fastest blocks)."""
    runs = (bare(make()), trained(make()))
    for run in runs:
        run(cycles)
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds):
        for which in (0, 1) if turn % 2 else (1, 0):
            begun = time.process_time()
            runs[which](cycles)
            times[which].append((time.process_time() - begun) / cycles * 1e3)
    pairs = [engine / hand for hand, engine in zip(*times, strict=True)]
    middle = [statistics.median(block) for block in times]
    return middle[0], middle[1], statistics.median(pairs), min(times[1]) / min(times[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print(
        f"{'objective':<12}{'parameters':>12}{'batch':>7}{'bare ms':>10}{'engine ms':>11}{'ratio':>8}{'fastest':>9}"
    )
    for kind in ("denoising", "dmd"):
        for features, width, rows, cycles in ((2, 180, 64, 60), (2, 180, 256, 40), (64, 940, 64, 10)):
            make = lambda: setting(kind, features, width, rows)  # noqa: B023, E731 - used before the loop moves on
            size = sum(p.numel() for p in make().roles["student"].parameters())
            hand, engine, found, fastest = ratio(make, cycles, rounds)
            print(
                f"{kind:<12}{size:>12,}{rows:>7}{hand:>10.3f}{engine:>11.3f}{found:>8.3f}{fastest:>9.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
