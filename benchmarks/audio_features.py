"""Log-mel features: ours against torchaudio's and librosa's, on the same real speech, in one run.

Type ``python benchmarks/audio_features.py``. Every row is the median of seven runs over one minute of speech, one
thread, kernels made beforehand; equality is checked first.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import librosa
import numpy as np
import torch
import torchaudio

from fewstep_audio.sound.mel import MelContract, log_mel
from fewstep_audio.speech.espeak import Request, speak
from fewstep_audio.speech.sentences import SENTENCES

REPEATS = 7


def minute(contract: MelContract) -> np.ndarray:
    """(N,) one minute of sentences, one after the other."""
    waves = [speech.wave for speech in speak([Request(text) for text in SENTENCES[:40]])]
    return np.concatenate(waves)[: 60 * contract.rate].astype(np.float32)


def contenders(wave: np.ndarray, contract: MelContract) -> dict[str, Callable[[], np.ndarray]]:
    """Three ways to the same numbers."""
    there = torch.from_numpy(wave)
    theirs = torchaudio.transforms.MelSpectrogram(
        contract.rate, contract.window, hop_length=contract.hop, f_min=contract.low, f_max=contract.high,
        n_mels=contract.bands, power=1.0, norm="slaney", mel_scale="slaney",
    )  # fmt: skip
    bank = librosa.filters.mel(
        sr=contract.rate, n_fft=contract.window, n_mels=contract.bands, fmin=contract.low, fmax=contract.high
    )

    def by_librosa() -> np.ndarray:
        spectrum = librosa.stft(wave, n_fft=contract.window, hop_length=contract.hop, pad_mode="reflect")
        return np.log(np.maximum(bank @ np.abs(spectrum), contract.floor))

    return {
        "fewstep": lambda: log_mel(there, contract).numpy(),
        "torchaudio": lambda: theirs(there).clamp(min=contract.floor).log().numpy(),
        "librosa": by_librosa,
    }


def seconds(work: Callable[[], np.ndarray]) -> float:
    """Median CPU seconds."""
    times = []
    for _ in range(REPEATS):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return statistics.median(times)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    contract = MelContract()
    ways = contenders(minute(contract), contract)
    made = {name: work() for name, work in ways.items()}
    for name, mel in made.items():
        off = float(np.abs(np.exp(mel) - np.exp(made["fewstep"])).max() / np.exp(made["fewstep"]).max())
        assert off < 1e-5, (name, off)
    times = {name: seconds(work) for name, work in ways.items()}
    print("| features | CPU seconds for a minute | times real time | against ours |")
    print("| --- | --- | --- | --- |")
    for name, took in times.items():
        print(f"| {name} | {took:.4f} | {60 / took:.0f} | {took / times['fewstep']:.2f} |")


if __name__ == "__main__":
    main()
