"""Real speech as training data: a corpus of espeak-ng utterances with exact durations, kept by content.

Voice and pitch are hidden from the condition on purpose. Rule-made speech is otherwise nearly a function of its
phones, the conditional mean would already sound right, and no distillation could be told from none.
Shape legend: B batch, P phones, M mel bands, T frames.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from fewstep_audio.sound.cache import content, kept
from fewstep_audio.sound.mel import MelContract, Scale
from fewstep_audio.speech.espeak import WORKER, Request
from fewstep_audio.speech.sentences import HELD_OUT, SENTENCES
from fewstep_audio.speech.utterance import FORMAT, Utterance, packed, restored
from fewstep_audio.speech.voices import uttered


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
        return packed(uttered(requests, contract))

    return restored(kept(cache, "speech", content(told, WORKER.read_bytes()), make))
