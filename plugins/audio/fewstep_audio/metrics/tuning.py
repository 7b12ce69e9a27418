"""Whether a song is on its notes: pitch of the sound, after the vocoder, against the score.

Shape legend: B batch, M mel bands, T frames.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from fewstep.protocol import Batch, Cond, Key, Metric, Score, Tree
from fewstep.runs import bootstrap
from fewstep_audio.singing.layout import framed
from fewstep_audio.sound.pitch import pitch
from fewstep_audio.sound.vocoder import Vocoder

LOW, HIGH = 150.0, 700.0
"""Hz that are looked for: the trained range and a third beyond."""

NEAR = 50.0
"""Cents: half way to the next key of a piano."""

RESOLUTION = 0.2
"""Semitones between the pitches that are looked for: a tenth of the time that 0.1 takes, and right within 10 cents."""

HEARD = 8
"""Songs that are listened to; the vocoder and the search for pitch are slower than the student."""


def cents(vocoder: Vocoder) -> Metric:
    """Median distance of the sung pitch from the score."""

    def measure(x: Tree, batch: Batch, key: Key) -> Score:
        return bootstrap(torch.tensor([_median(off) for off in _heard(x, batch, vocoder)]), key)

    told = (
        f"Median absolute distance of the pitch from the score's notes where vowels are voiced, in the first {HEARD} songs "
        "after the vocoder. Vibrato, tuning and glides of the singer count, so a perfect singer is above zero."
    )
    return Metric("cents", "lower", measure, "cents", told)


def in_tune(vocoder: Vocoder) -> Metric:
    """Share of the vowels' frames that are voiced and on the note."""

    def measure(x: Tree, batch: Batch, key: Key) -> Score:
        shares = [(off.abs() < NEAR).double().mean() for off in _heard(x, batch, vocoder)]
        return bootstrap(torch.stack(shares), key)

    told = f"Share of vowel frames that are voiced within {NEAR:g} cents of their note; a whisper is out of tune."
    return Metric("in_tune", "higher", measure, "", told)


def _heard(x: Tree, batch: Batch, vocoder: Vocoder) -> list[Tensor]:
    mels = x["mel"][:HEARD]
    rows = zip(mels, batch.mask.flatten(1).sum(1).tolist(), *notes_of(batch.cond), strict=False)
    return [off_score(mel[:, :real], note[:real], vowel[:real], vocoder) for mel, real, note, vowel in rows]


def notes_of(cond: Cond) -> tuple[Tensor, Tensor]:
    """(B, T) MIDI number of each frame, and whether a vowel sounds there."""
    note = framed(cond, "note")
    return note, (framed(cond, "holds") > 0) & (note > 0)


def off_score(mel: Tensor, note: Tensor, vowel: Tensor, vocoder: Vocoder) -> Tensor:
    """Cents above the note in each vowel frame, infinite where no pitch is heard.

    Args:
        mel: (M, T) natural log-mel.
        note: (T,) MIDI numbers.
        vowel: (T,) bool, frames that count.
        vocoder: makes the sound.
    """
    return (100 * heard(mel, vocoder) - 100 * note)[vowel]


def heard(mel: Tensor, vocoder: Vocoder) -> Tensor:
    """(M, T) natural log-mel -> (T,) pitch of its sound as a MIDI number with fractions, infinite where there is none."""
    found = _pitch(mel.contiguous().numpy().tobytes(), mel.shape[1], vocoder)[: mel.shape[1]]
    return torch.where(found > 0, 12 * torch.log2(found.clamp(min=1) / 440) + 69, torch.inf)


def _median(off: Tensor) -> float:
    """Of the absolute cents where a pitch is heard; an octave where none is."""
    voiced = off[off.isfinite()].abs()
    return float(voiced.median()) if len(voiced) else 1200.0


@lru_cache(maxsize=256)
def _pitch(mel: bytes, frames: int, vocoder: Vocoder) -> Tensor:
    """(T,) Hz; kept, because several numbers and the report ask for the same sound."""
    wave = vocoder(torch.frombuffer(bytearray(mel), dtype=torch.float32).reshape(-1, frames))
    return pitch(wave, vocoder.contract, LOW, HIGH, RESOLUTION).double()
