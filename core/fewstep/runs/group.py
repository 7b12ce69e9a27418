"""Runs over several processes: torchrun starts them, the first one writes and measures, all of them train."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist

from fewstep.engine.sharding import ranks


@contextmanager
def joined() -> Iterator[None]:
    """Join the process group that torchrun prepared, and leave it at the end; alone, do nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank())
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def local_rank() -> int:
    """Which of this machine's processes this is."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def leads() -> bool:
    """Whether this process writes and measures."""
    return ranks()[0] == 0


def agreed(make: Callable[[], Path]) -> Path:
    """The path that the first process makes, known to all."""
    if ranks()[1] == 1:
        return make()
    told: list[Path | None] = [make() if leads() else None]
    dist.broadcast_object_list(told)
    path = told[0]
    if path is None:
        raise RuntimeError("the first process made no folder")
    return path
