"""Real speech as training data: a corpus of espeak-ng utterances with exact durations, kept by content.

Voice and pitch are hidden from the condition on purpose. Rule-made speech is otherwise nearly a function of its
phones, the conditional mean would already sound right, and no distillation could be told from none.
Shape legend: B batch, P phones, M mel bands, T frames.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fewstep_audio.sound.cache import content, kept
from fewstep_audio.sound.mel import MelContract, Scale, log_mel
from fewstep_audio.speech.espeak import WORKER, Request, Speech, speak
from fewstep_audio.speech.phones import Pronunciation, spelled
from fewstep_audio.speech.sentences import HELD_OUT, SENTENCES

FORMAT = 2
"""Raised when the meaning of the cached arrays changes."""


@dataclass(frozen=True)
class CorpusSettings:
    """What is spoken for training.

    Args:
        voices: espeak-ng voices; which one speaks is hidden from the networks.
        pitches: base pitches, 0 to 99; hidden as well.
        liveliness: range of the pitch within a sentence, 0 to 99; 0 is monotone.
        sentences: how many of the package's training sentences; None = all.
        takes: how often each of them is spoken, every time in another voice or pitch.
        held_out: how many sentences are kept for evaluation.
        contract: what a spectrogram means.
    """

    voices: tuple[str, ...] = ("en-us+m3", "en-us+f2")
    pitches: tuple[int, ...] = (40, 60)
    liveliness: int = 0
    sentences: int | None = None
    takes: int = 2
    held_out: int = HELD_OUT
    contract: MelContract = field(default_factory=MelContract)

    def training(self) -> list[Request]:
        """Each training sentence in ``takes`` voices and pitches, in an order that mixes them."""
        texts = SENTENCES[:-HELD_OUT][: self.sentences]
        return self._cast([text for text in texts for _ in range(self.takes)])

    def testing(self) -> list[Request]:
        """Each held-out sentence once."""
        return self._cast(SENTENCES[len(SENTENCES) - HELD_OUT :][: self.held_out])

    def _cast(self, texts: Sequence[str]) -> list[Request]:
        # Voices vary fastest, so that the takes of one sentence are in different voices.
        ways = itertools.cycle((voice, pitch) for pitch in self.pitches for voice in self.voices)
        return [Request(text, *way, self.liveliness) for text, way in zip(texts, ways, strict=False)]


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


@dataclass(frozen=True)
class Corpus:
    """Training and held-out utterances, and the scale of the training mels."""

    training: tuple[Utterance, ...]
    testing: tuple[Utterance, ...]

    @property
    def scale(self) -> Scale:
        """Mean and standard deviation of every band over the training frames."""
        frames = torch.cat([utterance.mel for utterance in self.training], 1)
        return Scale(frames.mean(1, keepdim=True), frames.std(1, keepdim=True).clamp(min=1e-3))


def load_corpus(settings: CorpusSettings, cache: Path) -> Corpus:
    """The corpus that the settings describe, from the cache or spoken now.

    Raises:
        FewstepError: espeak-ng is not there or refuses a voice.
    """
    training, testing = settings.training(), settings.testing()
    every = spoken([*training, *testing], settings.contract, cache)
    return Corpus(tuple(every[: len(training)]), tuple(every[len(training) :]))


def spoken(requests: Sequence[Request], contract: MelContract, cache: Path) -> list[Utterance]:
    """Utterances from the cache, or spoken now and put there. Named by a hash of all that shapes them.

    Raises:
        FewstepError: espeak-ng is not there or refuses a voice.
    """
    told = [FORMAT, [asdict(request) for request in requests], asdict(contract)]

    def make() -> dict[str, np.ndarray]:
        return _packed([heard(r, said, contract) for r, said in zip(requests, speak(requests), strict=True)])

    return _restored(kept(cache, "speech", content(told, WORKER.read_bytes()), make))


def heard(request: Request, speech: Speech, contract: MelContract) -> Utterance:
    """Spectrogram and exact durations of a speech; phone boundaries are rounded to frames."""
    mel = log_mel(torch.from_numpy(speech.wave), contract)
    said, starts = spelled(speech)
    edges = torch.round(starts.double() / contract.hop).long().clamp(max=mel.shape[1])
    edges[0] = 0  # what precedes the first phone belongs to it
    frames = torch.cat([edges, torch.tensor([mel.shape[1]])]).diff()
    wave = torch.from_numpy(np.round(speech.wave * 32768).astype(np.int16))
    return Utterance(request.text, said, frames, mel, wave, request.voice)


def _packed(utterances: Sequence[Utterance]) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {
        "texts": np.array([one.text for one in utterances]),
        "voices": np.array([one.voice for one in utterances]),
    }
    for number, one in enumerate(utterances):
        arrays[f"mel{number}"] = one.mel.numpy()
        arrays[f"wave{number}"] = one.wave.numpy()
        arrays[f"phones{number}"] = torch.stack([one.said.phones, one.said.stress, one.frames]).numpy()
    return arrays


def _restored(arrays: Mapping[str, np.ndarray]) -> list[Utterance]:
    found = []
    for number, (text, voice) in enumerate(zip(arrays["texts"], arrays["voices"], strict=True)):
        phones, stress, frames = torch.from_numpy(arrays[f"phones{number}"])
        mel, wave = (torch.from_numpy(arrays[f"{kind}{number}"]) for kind in ("mel", "wave"))
        found.append(Utterance(str(text), Pronunciation(phones, stress), frames, mel, wave, str(voice)))
    return found
