"""Long texts, spoken by a stream: seconds to the first sound, cost against length, and memory.

Type ``python benchmarks/audio_streaming.py RUN [MINUTES ...]`` with a finished run of a recipe that speaks. Each length is
spoken in a process of its own, so that its peak of memory is its own; sound is thrown away as a player would.
"""

from __future__ import annotations

import itertools
import json
import resource
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import torch

from fewstep.runs.folder import find_run
from fewstep.runs.runner import load
from fewstep_audio.speech.sentences import SENTENCES

MINUTES = (0.25, 0.5, 1.0, 2.0, 4.0)
PER_SENTENCE = 2.2
"""Seconds of sound of one of our sentences, about."""


def text_of(minutes: float) -> str:
    """Sentences that take about so long to say."""
    count = max(1, round(60 * minutes / PER_SENTENCE))
    return " ".join(itertools.islice(itertools.cycle(SENTENCES), count))


def spoken(folder: str, minutes: float) -> dict[str, float]:
    """One text of that length."""
    run = load(find_run(folder).path, "cpu")
    rate = 22050
    list(run.stream(text="Once before, so that nothing is loaded while the clock runs."))
    tracemalloc.start()
    before, begun, cpu, size, first = peak(), time.perf_counter(), used(), 0, (0.0, 0.0)
    for piece in run.stream(text=text_of(minutes)):
        first = first if size else (time.perf_counter() - begun, used() - cpu)
        size += len(piece.content)
    seconds, spent = time.perf_counter() - begun, used() - cpu
    objects = tracemalloc.get_traced_memory()[1] / 1e6
    sound = (size - 44) / 2 / rate
    return {
        "sound": sound,
        "first": first[0],
        "first_cpu": first[1],
        "seconds": seconds,
        "cpu": spent,
        "grown": peak() - before,
        "objects": objects,
    }


def used() -> float:
    """CPU seconds of this process and of those that pronounced for it."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def peak() -> float:
    """Largest resident memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    folder, *asked = sys.argv[1:]
    if asked and asked[0] == "--one":
        torch.set_num_threads(1)
        print(json.dumps(spoken(folder, float(asked[1]))))
        return
    print(
        "| sound | first sound | all of it | CPU per second of sound | resident memory grown | Python objects |"
    )
    print("|---|---|---|---|---|---|")
    for minutes in map(float, asked or MINUTES):
        words = [sys.executable, str(Path(__file__).resolve()), folder, "--one", str(minutes)]
        found = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
        print(
            f"| {found['sound']:.0f} s | {found['first']:.2f} s | {found['first_cpu']:.2f} s | {found['seconds']:.1f} s "
            f"| {found['cpu'] / found['sound'] * 1000:.0f} ms | {found['grown']:.0f} MB | {found['objects']:.1f} MB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
