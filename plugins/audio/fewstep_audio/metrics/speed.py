"""Where the time between text and sound goes: real-time factors of the parts of a chain, each timed by itself."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

WARM, TIMES = 3, 10


@dataclass(frozen=True)
class Part:
    """What one part of a chain takes.

    Args:
        seconds: median of the repetitions.
        factor: real-time factor: seconds of work for each second of sound.
    """

    seconds: float
    factor: float


def real_time_factors(
    parts: Mapping[str, Callable[[], object]],
    sound: float,
    *,
    device: str = "cpu",
    warm: int = WARM,
    times: int = TIMES,
) -> dict[str, Part]:
    """Times parts of a chain that makes one utterance.

    They take turns, so that a busy machine slows all of them alike.

    Args:
        parts: what each does, ready to be called again and again.
        sound: seconds of sound that the chain makes.
        device: waited for before the clock is read.
        warm: rounds before the clock runs.
        times: rounds of which the median is taken.
    """
    taken: dict[str, list[float]] = {name: [] for name in parts}
    for round_ in range(warm + times):
        for name, part in parts.items():
            seconds = _timed(part, device)
            if round_ >= warm:
                taken[name].append(seconds)
    medians = {name: statistics.median(found) for name, found in taken.items()}
    return {name: Part(seconds, seconds / sound) for name, seconds in medians.items()}


def _timed(part: Callable[[], object], device: str) -> float:
    begin = time.perf_counter()
    part()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin
