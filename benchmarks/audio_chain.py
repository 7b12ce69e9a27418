"""From text to sound, part by part: what a sentence costs at batch 1, where the two largest parts were and are.

Type ``python benchmarks/audio_chain.py RUN`` with a finished run of a recipe that speaks. Parts take turns, so that a busy
machine slows all alike, and the least of their times counts. Then both forms of Griffin-Lim sing
the held-out truth: how far their sounds are apart, and what a recognizer hears in each.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from fewstep.protocol import Key, Step
from fewstep.runs.folder import find_run
from fewstep.runs.runner import load
from fewstep_audio.metrics.cepstrum import mcd_mel
from fewstep_audio.metrics.words import Recognizer, word_error_rate
from fewstep_audio.sound.mel import log_mel, stft
from fewstep_audio.sound.vocoder import GriffinLim, inverse_filters, unclipped
from fewstep_audio.speech import espeak
from fewstep_audio.speech.layout import conditioned, laid_out
from fewstep_audio.speech.phones import pronounce
from fewstep_audio.speech.sentences import SENTENCES

TEXT = "The boat moved along the quiet shore."
WARM, TIMES = 2, 15


def as_it_was(mel: Tensor, told: GriffinLim) -> Tensor:
    """Griffin-Lim by torch.stft and torch.istft: the same projections."""
    contract, window = told.contract, torch.hann_window(told.contract.window)
    magnitude = (inverse_filters(contract) @ mel.exp()).clamp(min=0)
    length = contract.hop * (mel.shape[1] - 1)

    def wave(spectrum: Tensor) -> Tensor:
        return torch.istft(spectrum, contract.window, contract.hop, window=window, length=length)

    phase = torch.exp(2j * torch.pi * told.key.uniform(magnitude.shape, dtype=torch.float32))
    before = torch.zeros_like(phase)
    for _ in range(told.iterations):
        rebuilt = stft(wave(magnitude * phase), contract)
        ahead = rebuilt - told.momentum / (1 + told.momentum) * before
        phase, before = ahead / ahead.abs().clamp(min=1e-16), rebuilt
    return unclipped(wave(magnitude * phase))


def pronounced_anew() -> None:
    """Phones from a process that is started for them."""
    espeak._let_go()
    pronounce([TEXT])


def measured(parts: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Least seconds of each part."""
    taken: dict[str, list[float]] = {name: [] for name in parts}
    for turn in range(WARM + TIMES):
        for name, part in parts.items():
            begun = time.perf_counter()
            part()
            if turn >= WARM:
                taken[name].append(time.perf_counter() - begun)
    return {name: min(found) for name, found in taken.items()}


@torch.no_grad()
def main() -> None:
    """Print both tables."""
    torch.set_num_threads(1)
    run = load(find_run(sys.argv[1], Path("runs")).path, "cpu")
    product, shelf, vocoder = run.product, run.shelf, GriffinLim()
    cond = conditioned(pronounce([TEXT]))
    batch = product.request(product.options(text=TEXT), 1, Key(0))

    def drawn(name: str) -> Tensor:
        sampler = product.contenders[name]
        roles = {role: shelf[role] for role in sampler.roles}
        *_, last = sampler.fn(roles, batch, Step.inference(Key(1)))
        return last.x["mel"][0]

    mel = drawn("student")
    sound = mel.shape[1] * vocoder.contract.hop / vocoder.contract.rate
    times = measured(
        {
            "text to phones, a new process of espeak-ng": pronounced_anew,
            "text to phones, the process stays": lambda: pronounce([TEXT]),
            "phones to frames (durations)": lambda: laid_out(cond, shelf["durations"].frames(batch.cond)),
            "frames to mel, student (durations within)": lambda: drawn("student"),
            "frames to mel, teacher (durations within)": lambda: drawn("teacher"),
            "mel to sound, Griffin-Lim by torch.stft": lambda: as_it_was(mel, vocoder),
            "mel to sound, Griffin-Lim": lambda: vocoder(mel),
        }
    )
    print(
        f"{sound:.2f} s of sound, one thread\n\n| part | ms | seconds per second of sound |\n| --- | --- | --- |"
    )
    for name, seconds in times.items():
        print(f"| {name} | {1000 * seconds:.1f} | {seconds / sound:.4f} |")
    _parity(run, vocoder)


def _parity(run: object, vocoder: GriffinLim) -> None:
    batch = run.product.evaluation(run.product.samples, run.setup.site.key.at("evaluate").at("evaluation"))
    frames = batch.mask.flatten(1).sum(1)
    mels = [mel[:, : int(count)] for mel, count in zip(batch.x["mel"], frames, strict=True)]
    hears, rate = Recognizer([*SENTENCES, *batch.extra["texts"]]), vocoder.contract.rate
    sung = {"by torch.stft": [as_it_was(mel, vocoder) for mel in mels], "now": [vocoder(mel) for mel in mels]}
    apart = max(float((a - b).abs().max()) for a, b in zip(*sung.values(), strict=True))
    print(
        "\n| Griffin-Lim of the held-out truth | word error rate | mcd_mel to the truth |\n| --- | --- | --- |"
    )
    for name, waves in sung.items():
        words = word_error_rate(batch.extra["texts"], [hears(wave, rate) for wave in waves])
        apart_ = statistics.mean(
            mcd_mel(log_mel(wave, vocoder.contract), mel) for wave, mel in zip(waves, mels, strict=True)
        )
        print(f"| {name} | {words:.3f} | {apart_:.2f} dB |")
    print(f"\nLargest difference of a sample: {apart:.1e} of full scale.")


if __name__ == "__main__":
    main()
