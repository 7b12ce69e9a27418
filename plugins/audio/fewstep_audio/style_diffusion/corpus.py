"""Speech whose prosody is known to us and to no network: rate, pitch, range and voice are drawn for every utterance.

Given text and voice, rate and pitch are uniform: that is the distribution that samples must follow.
Shape legend: B batch, P phones, M mel bands, T frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fewstep.protocol import Key
from fewstep_audio.sound.cache import content, kept
from fewstep_audio.sound.mel import MelContract, Scale, log_mel
from fewstep_audio.sound.pitch import energy, pitch
from fewstep_audio.speech.corpus import Utterance, spoken
from fewstep_audio.speech.espeak import Request
from fewstep_audio.speech.phones import Pronunciation
from fewstep_audio.speech.sentences import HELD_OUT, SENTENCES
from fewstep_audio.style_diffusion.prosody import phone_prosody

FORMAT = 1
"""Raised when the meaning of the cached arrays changes."""

LEVEL = 0.08
"""Root mean square of every recording: how close the microphone was is no style."""

QUARTER_TONES = 0.25
"""Bins of the pitch tracker per semitone, inverse; a phone's mean needs no finer ones."""


@dataclass(frozen=True)
class Cast:
    """Who speaks what, and how: (low, high) bounds of what is drawn.

    Args:
        voices: of the training.
        unheard: of the evaluation, one for each of its sentences in turn.
        pitch: base pitch, 0 to 99.
        liveliness: range of the pitch, 0 to 99.
        rate: words per minute.
        sentences: training sentences.
        takes: of each of them.
        held_out: evaluation sentences.
        draws: takes of each of them.
        key: of all draws.
    """

    voices: tuple[str, ...]
    unheard: tuple[str, ...]
    pitch: tuple[int, int]
    liveliness: tuple[int, int]
    rate: tuple[int, int]
    sentences: int
    takes: int
    held_out: int
    draws: int
    key: Key = field(default_factory=lambda: Key(0).at("cast"))

    def training(self) -> list[Request]:
        """Every sentence ``takes`` times; the voice is drawn too."""
        texts = [text for text in SENTENCES[:-HELD_OUT][: self.sentences] for _ in range(self.takes)]
        who = self.key.at("voice").integers((len(texts),), len(self.voices)).tolist()
        return self._drawn(texts, [self.voices[i] for i in who], self.key.at("training"))

    def testing(self) -> list[Request]:
        """Every held-out sentence ``draws`` times by one unheard voice, one after another."""
        texts = SENTENCES[len(SENTENCES) - HELD_OUT :][: self.held_out]
        cast = [(text, self.unheard[i % len(self.unheard)]) for i, text in enumerate(texts)]
        said = [pair for pair in cast for _ in range(self.draws)]
        return self._drawn([text for text, _ in said], [who for _, who in said], self.key.at("testing"))

    def _drawn(self, texts: Sequence[str], voices: Sequence[str], key: Key) -> list[Request]:
        def uniform(name: str, bounds: tuple[int, int]) -> list[int]:
            low, high = bounds
            return (low + key.at(name).integers((len(texts),), high - low + 1)).tolist()

        pitches, ranges = uniform("pitch", self.pitch), uniform("range", self.liveliness)
        ways = zip(texts, voices, pitches, ranges, uniform("rate", self.rate), strict=True)
        return [Request(*way) for way in ways]


@dataclass(frozen=True)
class Take:
    """One utterance with its prosody.

    Args:
        text: what was said.
        voice: by whom.
        said: its phones.
        frames: (P,) int64.
        prosody: (P, 3).
        mel: (M, T) log-mel of the leveled recording.
    """

    text: str
    voice: str
    said: Pronunciation
    frames: Tensor
    prosody: Tensor
    mel: Tensor


@dataclass(frozen=True)
class Takes:
    """Training takes, and those of the evaluation: one sentence and one unheard voice after another."""

    training: tuple[Take, ...]
    testing: tuple[Take, ...]

    @property
    def scale(self) -> Scale:
        """Of the training mels: unit variance in every band."""
        frames = torch.cat([take.mel for take in self.training], 1)
        return Scale(frames.mean(1, keepdim=True), frames.std(1, keepdim=True).clamp(min=1e-3), 1.0)

    @property
    def prosody(self) -> tuple[Tensor, Tensor]:
        """(3,) mean and standard deviation over the training phones."""
        phones = torch.cat([take.prosody for take in self.training])
        return phones.mean(0), phones.std(0).clamp(min=1e-3)


def load_takes(cast: Cast, contract: MelContract, cache: Path) -> Takes:
    """The takes that the cast describes, from the cache or spoken and measured now.

    Raises:
        FewstepError: espeak-ng is not there or refuses a voice.
    """
    training, testing = (_takes(requests, contract, cache) for requests in (cast.training(), cast.testing()))
    return Takes(tuple(training), tuple(testing))


def _takes(requests: Sequence[Request], contract: MelContract, cache: Path) -> list[Take]:
    """One for each request, without those in which no pitch was found: creaky ends of low voices."""
    utterances = spoken(requests, contract, cache)
    told = [FORMAT, [asdict(request) for request in requests], asdict(contract), LEVEL, QUARTER_TONES]
    make: Callable[[], dict[str, np.ndarray]] = partial(_measured, utterances, contract)
    prosody = kept(cache, "prosody", content(told), make)
    return [
        Take(
            one.text,
            one.voice,
            one.said,
            one.frames,
            torch.from_numpy(prosody[str(number)]),
            log_mel(leveled(one.sound), contract),
        )
        for number, one in enumerate(utterances)
        if np.isfinite(prosody[str(number)]).all()
    ]


def _measured(utterances: Sequence[Utterance], contract: MelContract) -> dict[str, np.ndarray]:
    return {
        str(number): measured(leveled(one.sound), one.frames, contract).numpy()
        for number, one in enumerate(utterances)
    }


def measured(wave: Tensor, frames: Tensor, contract: MelContract) -> Tensor:
    """(N,) samples and (P,) frames -> (P, 3) prosody."""
    tracked = pitch(wave, contract, resolution=QUARTER_TONES)
    return phone_prosody(tracked, energy(wave, contract), frames)


def leveled(wave: Tensor) -> Tensor:
    """(N,) samples at the common level."""
    return wave * (LEVEL / wave.square().mean().sqrt().clamp(min=1e-8))
