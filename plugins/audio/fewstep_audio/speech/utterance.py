"""One spoken sentence with its exact durations, and how many of them lie in a file.

Shape legend: P phones, M mel bands, T frames, N samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fewstep_audio.sound.mel import MelContract, log_mel
from fewstep_audio.speech.espeak import Request, Speech
from fewstep_audio.speech.phones import Pronunciation, spelled

FORMAT = 2
"""Raised when the meaning of the cached arrays changes."""


@dataclass(frozen=True)
class Utterance:
    """One spoken sentence.

    Args:
        text: what was said.
        said: its phones.
        frames: (P,) int64, frames of each phone; their sum is T.
        mel: (M, T) float32 natural log-mel.
        wave: (N,) int16 samples at the contract's rate.
        voice: who spoke; "" if unknown.
    """

    text: str
    said: Pronunciation
    frames: Tensor
    mel: Tensor
    wave: Tensor
    voice: str = ""

    @property
    def sound(self) -> Tensor:
        """(N,) float32 samples in [-1, 1]."""
        return self.wave.float() / 32768


def heard(request: Request, speech: Speech, contract: MelContract) -> Utterance:
    """Spectrogram and exact durations of a speech; phone boundaries are rounded to frames."""
    mel = log_mel(torch.from_numpy(speech.wave), contract)
    said, starts = spelled(speech)
    edges = torch.round(starts.double() / contract.hop).long().clamp(max=mel.shape[1])
    edges[0] = 0  # what precedes the first phone belongs to it
    frames = torch.cat([edges, torch.tensor([mel.shape[1]])]).diff()
    wave = torch.from_numpy(np.round(speech.wave * 32768).astype(np.int16))
    return Utterance(request.text, said, frames, mel, wave, request.voice)


def packed(utterances: Sequence[Utterance]) -> dict[str, np.ndarray]:
    """Named arrays that hold the utterances."""
    arrays: dict[str, np.ndarray] = {
        "texts": np.array([one.text for one in utterances]),
        "voices": np.array([one.voice for one in utterances]),
    }
    for number, one in enumerate(utterances):
        arrays[f"mel{number}"] = one.mel.numpy()
        arrays[f"wave{number}"] = one.wave.numpy()
        arrays[f"phones{number}"] = torch.stack([one.said.phones, one.said.stress, one.frames]).numpy()
    return arrays


def restored(arrays: Mapping[str, np.ndarray]) -> list[Utterance]:
    """The utterances that :func:`packed` packed."""
    found = []
    for number, (text, voice) in enumerate(zip(arrays["texts"], arrays["voices"], strict=True)):
        phones, stress, frames = torch.from_numpy(arrays[f"phones{number}"])
        mel, wave = (torch.from_numpy(arrays[f"{kind}{number}"]) for kind in ("mel", "wave"))
        found.append(Utterance(str(text), Pronunciation(phones, stress), frames, mel, wave, str(voice)))
    return found
