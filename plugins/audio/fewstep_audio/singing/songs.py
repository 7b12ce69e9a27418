"""Real singing as training data: sentences sung to made-up tunes, with exact phones, notes and times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fewstep.protocol import Key
from fewstep_audio.singing import line as line_module
from fewstep_audio.singing import melody, syllables, voice
from fewstep_audio.singing.line import Line, on_the_beat, written
from fewstep_audio.singing.melody import compose
from fewstep_audio.singing.voice import manner, sing, taken_apart
from fewstep_audio.sound.cache import content, kept
from fewstep_audio.sound.mel import MelContract, Scale, log_mel
from fewstep_audio.speech.corpus import Corpus
from fewstep_audio.speech.espeak import WORKER, Request, speak
from fewstep_audio.speech.phones import Pronunciation, spelled
from fewstep_audio.speech.sentences import HELD_OUT, SENTENCES
from fewstep_audio.speech.utterance import Utterance, packed, restored

MADE_BY = (WORKER, *(Path(str(module.__file__)) for module in (line_module, melody, syllables, voice)))
"""Programs that shape the sound: a change of theirs is another corpus."""


@dataclass(frozen=True)
class SongSettings:
    """What is sung for training.

    Args:
        voices: espeak-ng voices that take turns; which one sings is hidden from the networks.
        sentences: how many of the package's training sentences are words of songs.
        takes: how often each of them is sung, every time to another tune.
        held_out: how many held-out sentences are sung, to tunes of their own.
        contract: what a spectrogram means.
    """

    voices: tuple[str, ...] = ("en-us+m3", "en-us+f2")
    sentences: int = 80
    takes: int = 2
    held_out: int = HELD_OUT
    contract: MelContract = field(default_factory=MelContract)


@dataclass(frozen=True, kw_only=True)
class Song(Utterance):
    """One sung phrase: an utterance whose frames are those of the song.

    Args:
        line: phones and notes.
        natural: (P,) int64 frames of each phone as it was spoken.
    """

    line: Line
    natural: Tensor


@dataclass(frozen=True)
class Songs:
    """Training and held-out songs."""

    training: tuple[Song, ...]
    testing: tuple[Song, ...]

    @property
    def scale(self) -> Scale:
        """Mean and standard deviation of every band over the training frames."""
        return Corpus(self.training, self.testing).scale


def load_songs(settings: SongSettings, cache: Path) -> Songs:
    """The songs that the settings describe, from the cache or sung now (about 50 ms per second of sound).

    Raises:
        FewstepError: espeak-ng or pyworld is not there, or a voice is refused.
    """
    training = [text for text in SENTENCES[:-HELD_OUT][: settings.sentences] for _ in range(settings.takes)]
    testing = SENTENCES[len(SENTENCES) - HELD_OUT :][: settings.held_out]
    told = [asdict(settings), training, testing]

    def make() -> dict[str, np.ndarray]:
        return _packed([*_sung(training, "training", settings), *_sung(testing, "testing", settings)])

    name = content(told, *(file.read_bytes() for file in MADE_BY))
    every = list(_restored(kept(cache, "songs", name, make)))
    return Songs(tuple(every[: len(training)]), tuple(every[len(training) :]))


def _sung(texts: Sequence[str], part: str, settings: SongSettings) -> Iterator[Song]:
    """Voices take turns; tunes and manners come from the place of a song in its part."""
    requests = [
        Request(text, settings.voices[i % len(settings.voices)], 50, 0) for i, text in enumerate(texts)
    ]
    distinct = list(dict.fromkeys(requests))
    speeches = dict(zip(distinct, speak(distinct), strict=True))

    @lru_cache(maxsize=8)
    def taken(request: Request) -> tuple[voice.Taken, Pronunciation, Tensor]:
        said, starts = spelled(speeches[request])
        apart = taken_apart(
            speeches[request], said.phones.numpy(), starts.numpy(), settings.contract.hop // 2
        )
        return apart, said, _natural(apart)

    for i, (text, request) in enumerate(zip(texts, requests, strict=True)):
        apart, said, natural = taken(request)
        key = Key(0).at("songs", part, i)
        score = compose(len(syllables.syllables(said)), key)
        line = written(said, score, settings.contract)
        spoken = torch.where(line.source < 0, 1, natural[line.source.clamp(min=0)])
        frames = on_the_beat(spoken, line.holds, line.beat)
        sound = sing(line, frames.numpy(), apart, manner(key), settings.contract, key)
        mel = log_mel(torch.from_numpy(sound), settings.contract)
        wave = torch.from_numpy(np.round(sound * 32768).astype(np.int16))
        yield Song(text, line.said, frames, mel, wave, request.voice, line=line, natural=spoken)


def _natural(apart: voice.Taken) -> Tensor:
    """(P,) whole frames of each spoken phone, at least one."""
    return torch.from_numpy(np.maximum(1, np.round(np.diff(apart.edges) / 2)).astype(np.int64))


def _packed(songs: Sequence[Song]) -> dict[str, np.ndarray]:
    rows = {f"line{number}": _rows(song).numpy() for number, song in enumerate(songs)}
    return {**packed(songs), **rows}


def _rows(song: Song) -> Tensor:
    line = song.line
    return torch.stack([line.note, line.slur, line.holds, line.beat, line.source, song.natural])


def _restored(arrays: dict[str, np.ndarray]) -> Iterator[Song]:
    for number, one in enumerate(restored(arrays)):
        *rows, natural = torch.from_numpy(arrays[f"line{number}"])
        yield Song(**vars(one), line=Line(one.said, *rows), natural=natural)
