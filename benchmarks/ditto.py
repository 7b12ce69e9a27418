"""What it costs to optimise noise through a student and through its teacher, and what is heard of the melodies: one run.

    python benchmarks/ditto.py RUN [--seeds 0 1 2] [--iterations 70] [--no-teacher]

RUN is the folder of a finished run of audio/ditto2. Each seed asks 12 samples for held-out music to go on from, ramps of
loudness and melodies. The teacher's 16 steps are recomputed on the way back (gradient checkpoints).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fewstep.protocol import Batch, Key, Step
from fewstep.runs.handle import Run
from fewstep.runs.runner import load
from fewstep_audio.ditto2.asked import KINDS, examples
from fewstep_audio.ditto2.controls import PerRow
from fewstep_audio.ditto2.measures import distance, windows
from fewstep_audio.ditto2.optimise import (
    Search,
    decoded,
    energy,
    optimise,
    renoised,
    through_student,
    through_teacher,
)
from fewstep_audio.ditto2.recipe import SEVERAL, heun_from
from fewstep_audio.metrics.notes import FRAME_RATE, heard, melody_hits
from fewstep_audio.music.corpus import MUSIC, Corpus, MusicSettings, load_corpus
from fewstep_audio.sound.vocoder import GriffinLim

Curve = list[tuple[float, float]]
"""CPU seconds since the search began, and the mean over samples of the best error so far, as a share of a free sample's."""
SAMPLES = 12
CALLS = 16
THRESHOLD = 0.4
"""Of the transcriber, as it was best on training pieces."""


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("run", type=Path)
    asked.add_argument("--seeds", type=int, nargs="+", default=[0])
    asked.add_argument("--iterations", type=int, default=70)
    asked.add_argument("--no-teacher", action="store_true", help="leave out what takes long")
    told = asked.parse_args()
    run = load(told.run)
    config = run.setup.resolved.config
    corpus = load_corpus(MusicSettings(**config.music.model_dump()), run.setup.site.cache)
    for seed in told.seeds:
        print(f"\nseed {seed}, {SAMPLES} samples of {config.shown * MUSIC.hop / MUSIC.rate:.1f} s")
        print(
            "| sample | " + " | ".join(KINDS) + " | Frechet distance | melody heard | another's | z^2/D | s |"
        )
        print("|---" * 8 + "|")
        for line in rows(run, corpus, seed, told.iterations, not told.no_teacher):
            print(line, flush=True)


def rows(run: Run, corpus: Corpus, seed: int, iterations: int, teacher_too: bool) -> Iterator[str]:
    """One line for each way to a sample."""
    student, teacher, config = run.shelf["student"], run.shelf["teacher"], run.setup.resolved.config
    batch = examples(corpus, SAMPLES, config.shown)
    ask, scale = PerRow(batch.extra["controls"]), student.net.scale
    noise = student.process.on(batch.mask).noise(batch, Key(seed).at("benchmark"))
    search = Search(iterations, config.search.lr, iterations, config.search.prior)

    with torch.no_grad():
        free = ask.sought(scale.restored(decoded(student, batch, noise, 1)))

    def found(surrogate: Callable[[Tensor], Tensor]) -> tuple[Tensor, float, Curve]:
        begun, curve, best = time.process_time(), Curve(), torch.full_like(free, torch.inf)

        def watch(_: int, losses: Tensor) -> None:
            best.copy_(torch.minimum(best, losses))
            curve.append((time.process_time() - begun, float((best / free).mean())))

        z = optimise(surrogate, lambda state: ask.sought(scale.restored(state)), noise, search, watch).noise
        return z, time.process_time() - begun, curve

    def line(name: str, state: Tensor, z: Tensor, seconds: float = 0.0) -> str:
        return "| " + " | ".join([name, *measured(scale.restored(state), batch, corpus, z, seconds)]) + " |"

    steps, roles = SEVERAL, {"teacher": teacher}
    with torch.no_grad():
        yield line("held-out music", scale.normalized(batch.x["mel"]), noise)
        yield line("student, free, 1 call", decoded(student, batch, noise, 1), noise)
        yield line(f"student, free, {steps} calls", decoded(student, batch, noise, steps), noise)
        solve = heun_from("teacher", config.teacher_steps)
        yield line("teacher, free", solve(roles, batch, noise, 0, Step.inference(Key(0))), noise)
    z, quick, student_curve = found(through_student(student, batch))
    with torch.no_grad():
        yield line("through the student, 1 call", decoded(student, batch, z, 1), z, quick)
        yield line(f"through the student, {steps} calls", decoded(student, batch, z, steps), z, quick)
        fresh = Step.inference(Key(seed).at("fresh"))
        yield line(
            f"through the student, {steps} calls, fresh noise",
            renoised(student, batch, z, steps, fresh),
            z,
            quick,
        )
        yield line("through the student, teacher decodes", solve(roles, batch, z, 0, fresh), z, quick)
    z, blurred, _ = found(through_teacher(teacher, batch, 1))
    with torch.no_grad():
        yield line(
            "through one call of the teacher, teacher decodes", solve(roles, batch, z, 0, fresh), z, blurred
        )
        yield line(
            "through one call of the teacher, the same decode", through_teacher(teacher, batch, 1)(z), z
        )
        yield line(
            f"through one call of the teacher, {steps} calls", decoded(student, batch, z, steps), z, blurred
        )
    if teacher_too:
        z, slow, teacher_curve = found(through_teacher(teacher, batch, CALLS))
        with torch.no_grad():
            same = through_teacher(teacher, batch, CALLS)(z)
        yield line(f"through {CALLS} calls of the teacher, the same decode", same, z, slow)
        yield f"\n{iterations} steps through the student take {quick:.1f} s, through the teacher {slow:.1f} s."
        yield equal(student_curve, teacher_curve)


def equal(student: Curve, teacher: Curve) -> str:
    """How much sooner the student reaches the lowest error that both reach, as shares of a free sample's error."""
    level = max(student[-1][1], teacher[-1][1])
    mine, other = (next(s for s, error in curve if error <= level) for curve in (student, teacher))
    return (
        f"Both reach {level:.3f} of a free sample's error, the student in {mine:.1f} s, the teacher in {other:.1f} s: "
        f"{other / mine:.1f} times as fast. In the end: {student[-1][1]:.3f} and {teacher[-1][1]:.3f}."
    )


def measured(mel: Tensor, batch: Batch, corpus: Corpus, z: Tensor, seconds: float) -> list[str]:
    """Mean loss of each control, distance to held-out music, how much of the melody a transcriber hears."""
    losses = PerRow(batch.extra["controls"])(mel)
    kinds = [control.name for control in batch.extra["controls"]]
    errors = [float(losses[[kind == name for kind in kinds]].mean()) for name in KINDS]
    truth = torch.cat([windows(piece.mel) for piece in corpus.testing])
    far = float(distance(torch.cat([windows(one) for one in mel]), truth))
    own, others = melodies(mel, batch)
    return [f"{error:.3f}" for error in errors] + [
        f"{far:.2f}",
        f"{own:.2f}",
        f"{others:.2f}",
        f"{float(energy(z).mean()):.2f}",
        f"{seconds:.1f}" if seconds else "",
    ]


def melodies(mel: Tensor, batch: Batch) -> tuple[float, float]:
    """Share of frames whose highest heard note is of the asked pitch class, and of that of the next row's melody."""
    asked = {row: one.classes for row, one in enumerate(batch.extra["controls"]) if one.name == "melody"}
    vocoder, hits, misses = GriffinLim(MUSIC), [], []
    order = list(asked)
    for place, row in enumerate(order):
        notes = heard(vocoder(mel[row]).numpy()) > THRESHOLD
        frames = (np.arange(notes.shape[1]) / FRAME_RATE * MUSIC.rate / MUSIC.hop).astype(int)
        frames = frames.clip(0, mel.shape[2] - 1)
        hits.append(melody_hits(notes, asked[row].numpy()[frames]))
        other = asked[order[(place + 1) % len(order)]]
        misses.append(melody_hits(notes, other.numpy()[frames]))
    return float(np.mean(hits)), float(np.mean(misses))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
