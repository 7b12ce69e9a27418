"""From lines under notes to the condition of a network, and to batches of whole songs.

Shape legend: B batch, P phones, M mel bands, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fewstep.protocol import Batch, Cond
from fewstep_audio.singing.line import Line, on_the_beat
from fewstep_audio.singing.score import HIGHEST
from fewstep_audio.singing.songs import Song
from fewstep_audio.sound.mel import Scale
from fewstep_audio.speech.layout import conditioned, held_out_batch, laid_out, speakers
from fewstep_audio.speech.source import SpeechSource

TRITONE = 6


def score_rows(lines: Sequence[Line]) -> dict[str, Tensor]:
    """(B, P) int64 note (MIDI), slur, holds and beat (frames of the note) of each phone, padded with 0."""
    columns = {
        "note": [line.note for line in lines],
        "slur": [line.slur for line in lines],
        "holds": [line.holds for line in lines],
        "beat": [line.beat for line in lines],
    }
    return {name: pad_sequence(rows, batch_first=True) for name, rows in columns.items()}


def scored(lines: Sequence[Line]) -> Cond:
    """Phones and notes of several lines: all that is known before the lengths of consonants are."""
    plain = conditioned([line.said for line in lines])
    return replace(plain, data={**plain.data, **score_rows(lines)})


def timed(cond: Cond, natural: Tensor) -> Cond:
    """The condition with its frames laid out, notes beginning on their beats.

    Args:
        cond: from :func:`scored`.
        natural: (B, P) int64 frames of each phone as it is spoken.
    """
    return laid_out(cond, on_the_beat(natural, cond.data["holds"], cond.data["beat"]))


def held_out_songs(songs: Sequence[Song], scale: Scale) -> Batch:
    """Whole songs, padded, with their exact times. Truth is ``x["mel"]``, log-mel (B, M, T)."""
    batch = held_out_batch(songs, scale)
    rows = score_rows([song.line for song in songs])
    return replace(batch, cond=replace(batch.cond, data={**batch.cond.data, **rows}))


class SongSource(SpeechSource):
    """Random crops of songs. Durations to be learned are those of the spoken phones: the score says the rest.

    Args:
        songs: what to crop.
        scale: of the mels.
        size: crops per batch, over all ranks.
        frames: length of a crop.
        told: voices that the networks are told apart.

    Raises:
        ValueError: if a song is shorter than a crop, or there is none.
    """

    def __init__(
        self, songs: Sequence[Song], scale: Scale, size: int, frames: int, told: Sequence[str] = ()
    ) -> None:
        """Notes go along with their phones."""
        rows = score_rows([song.line for song in songs])
        super().__init__(
            songs, scale, size, frames, {**rows, **speakers([song.voice for song in songs], told)}
        )
        self.durations = pad_sequence([song.natural for song in songs], batch_first=True)


def framed(cond: Cond, name: str) -> Tensor:
    """(B, T) what each frame's phone has in row ``name``."""
    return cond.data[name].gather(1, cond.data["at"])


def mistuned(cond: Cond) -> Cond:
    """The same words and times with every note a tritone off, within the trained range: a control."""
    note = cond.data["note"]
    other = torch.where(note + TRITONE <= HIGHEST, note + TRITONE, note - TRITONE)
    return replace(cond, data={**cond.data, "note": torch.where(note > 0, other, note)})
