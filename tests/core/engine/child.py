"""One process of a run that a test kills and starts again: child.py FOLDER KILL_AT [RANK WORLD]."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from engine_toys import Duel, adapter_plan, digest, real_plans, site, two_stages

from fewstep.engine import Settings, execute

SETTINGS = Settings(save_every=1)


def killer(at: int) -> Callable[[int], None]:
    """Kill -9 this process in the middle of the phase that takes batch ``at`` of the second stage."""

    def seen(index: int) -> None:
        if index == at:
            os.kill(os.getpid(), signal.SIGKILL)

    return seen


def main(folder: Path, kill_at: int, rank: int = 0, world: int = 1) -> None:
    torch.set_num_threads(1)
    if world > 1:
        meeting = f"file://{folder}/meeting-{kill_at}"
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
    here, dropout = site(folder), 0.1 if world == 1 else 0.0
    resumed = execute(
        two_stages(Duel(reset=2), dropout=dropout, seen=killer(kill_at)), here, folder, settings=SETTINGS
    )
    whole = execute(two_stages(Duel(reset=2), dropout=dropout), here)
    others: dict[str, torch.nn.Module] = {}
    for other in (adapter_plan(), *real_plans()):
        others |= execute(other, here)
    torch.save(
        {name: module.state_dict() for name, module in (whole | others).items()}, folder / f"shelf-{rank}.pt"
    )
    print(json.dumps({"resumed": digest(resumed), "whole": digest(whole)}))
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(value) for value in sys.argv[2:]))
