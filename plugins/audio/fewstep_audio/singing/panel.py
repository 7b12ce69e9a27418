"""The report's section: songs, the pitch that was heard over the notes of the score, and spectrograms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

import numpy as np
import torch
from torch import Tensor

from fewstep.protocol import Batch, Drawn, Panel, Tree
from fewstep.runs.media import columns, picture, player, png, table
from fewstep_audio.metrics.tuning import HEARD, NEAR, heard, notes_of
from fewstep_audio.singing.score import HIGHEST, LOWEST
from fewstep_audio.sound.files import cut, mel_picture, wav_bytes
from fewstep_audio.sound.vocoder import Vocoder

SHOWN, TRUTH = 2, "sung by WORLD, resynthesized"
MARGIN, CELL, WIDE = 3, 4, 2
"""Semitones beyond the range, and pixels of a semitone and of a frame."""

PAPER, KEYS, NOTE, LINE = (255, 255, 255), (238, 238, 242), (250, 190, 120), (40, 60, 160)


@dataclass(frozen=True)
class Sung:
    """One song of one singer.

    Args:
        text: its words.
        mel: (M, T) natural log-mel.
        note: (T,) MIDI numbers; None if the batch does not say where notes lie.
        vowel: (T,) bool, frames where a vowel sounds.
    """

    text: str
    mel: Tensor
    note: Tensor | None = None
    vowel: Tensor | None = None


def singing_panel(vocoder: Vocoder) -> Panel:
    """Players and pictures; all sounds went through the same vocoder, so that only the spectrograms differ."""

    def render(drawn: Mapping[str, Drawn]) -> str:
        everyone = _everyone(drawn)
        return _songs(everyone, vocoder) + _tuning(everyone, vocoder)

    return Panel("Singing", render)


def _everyone(drawn: Mapping[str, Drawn]) -> dict[str, list[Sung]]:
    batch = next(iter(drawn.values())).batch
    sung = {name: _sung(item.x, item.batch) for name, item in drawn.items()}
    if batch.x is None:
        return sung
    frames = batch.mask.flatten(1).sum(1)
    return {TRUTH: _sung({"mel": batch.x["mel"], "frames": frames}, batch), **sung}


def _sung(x: Tree, batch: Batch) -> list[Sung]:
    songs = [Sung(*song) for song in zip(batch.extra["texts"], cut(x), strict=True)]
    if "at" not in batch.cond.data:
        return songs
    rows = zip(songs, *notes_of(batch.cond), strict=True)
    return [
        Sung(song.text, song.mel, note[: song.mel.shape[1]], vowel[: song.mel.shape[1]])
        for song, note, vowel in rows
    ]


def _songs(everyone: Mapping[str, list[Sung]], vocoder: Vocoder) -> str:
    parts = []
    for row, first in enumerate(next(iter(everyone.values()))[:SHOWN]):
        players = {
            who: _player(songs[row], who, vocoder) for who, songs in everyone.items() if row < len(songs)
        }
        parts.append(f"<h3>“{escape(first.text)}”</h3>" + columns(players))
    return "".join(parts)


def _player(song: Sung, who: str, vocoder: Vocoder) -> str:
    sound = wav_bytes(vocoder(song.mel), vocoder.contract.rate)
    parts = [player("audio/wav", sound, f"{who}: “{song.text}”")]
    if song.note is not None:
        roll = roll_picture(song.note, heard(song.mel, vocoder))
        parts.append(picture(roll, f"Notes of “{song.text}”; a line is the pitch of {who}", caption=False))
    mel = mel_picture(song.mel, vocoder.contract, WIDE)
    parts.append(picture(mel, f"Mel spectrogram of {who} singing “{song.text}”", caption=False))
    return "".join(parts)


def roll_picture(note: Tensor, pitch: Tensor) -> bytes:
    """A PNG: notes of the score as bars, the heard pitch as a line over them.

    Args:
        note: (T,) MIDI numbers, 0 in rests.
        pitch: (T,) MIDI numbers with fractions, infinite where none is heard.
    """
    low, high = LOWEST - MARGIN, HIGHEST + MARGIN
    height, count = (high - low + 1) * CELL, len(note)
    pixels = np.full((height, count, 3), PAPER, dtype=np.uint8)
    for key in range(low, high + 1):
        top = (high - key) * CELL
        if key % 12 in (1, 3, 6, 8, 10):
            pixels[top : top + CELL] = KEYS
        pixels[top : top + CELL, (note == key).numpy()] = NOTE
    at = (high + 0.5 - pitch) * CELL
    inside = ((at >= 0) & (at < height)).nonzero()[:, 0]
    pixels[at[inside].long().numpy(), inside.numpy()] = LINE
    return png(np.ascontiguousarray(pixels.repeat(WIDE, 1)))


def _tuning(everyone: Mapping[str, list[Sung]], vocoder: Vocoder) -> str:
    """Pitch of everyone, the truth included."""
    body = [(who, *_tuned(songs, vocoder)) for who, songs in everyone.items() if songs[0].note is not None]
    if not body:
        return ""
    head = ("who", "median distance from the note, cents", f"vowel frames within {NEAR:g} cents")
    told = "The truth has vibrato, tuning and glides of its own"
    return "<h3>Pitch after the vocoder</h3>" + table(head, body, told)


def _tuned(songs: list[Sung], vocoder: Vocoder) -> tuple[str, str]:
    off = torch.cat(
        [
            100 * (heard(song.mel, vocoder) - song.note)[song.vowel]
            for song in songs[:HEARD]
            if song.note is not None
        ]
    )
    voiced = off[off.isfinite()].abs()
    middle = f"{float(voiced.median()):.0f}" if len(voiced) else "none heard"
    return middle, f"{float((off.abs() < NEAR).double().mean()):.0%}"
