"""The report's section: held-out songs, the pitch that was heard over the notes of the score, and spectrograms."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np
import torch
from torch import Tensor

from fewstep.protocol import Batch, Drawn, Panel
from fewstep.runs.media import columns, picture, player, png, table
from fewstep_audio.metrics.tuning import HEARD, NEAR, heard, notes_of
from fewstep_audio.singing.score import HIGHEST, LOWEST
from fewstep_audio.sound.files import cut, mel_picture, wav_bytes
from fewstep_audio.sound.vocoder import Vocoder

SHOWN, TRUTH = 2, "sung by WORLD, resynthesized"
MARGIN, CELL, WIDE = 3, 4, 2
"""Semitones beyond the range, and pixels of a semitone and of a frame."""

PAPER, KEYS, NOTE, LINE = (255, 255, 255), (238, 238, 242), (250, 190, 120), (40, 60, 160)


def singing_panel(vocoder: Vocoder) -> Panel:
    """Players and pictures; all sounds went through the same vocoder, so that only the spectrograms differ."""
    return Panel("Singing", lambda drawn: _songs(drawn, vocoder) + _tuning(drawn, vocoder))


def _everyone(drawn: Mapping[str, Drawn]) -> tuple[Batch, dict[str, list[Tensor]]]:
    batch = next(iter(drawn.values())).batch
    frames = batch.mask.flatten(1).sum(1)
    sung = {TRUTH: cut({"mel": batch.x["mel"], "frames": frames})}
    return batch, sung | {name: cut(item.x) for name, item in drawn.items()}


def _songs(drawn: Mapping[str, Drawn], vocoder: Vocoder) -> str:
    batch, sung = _everyone(drawn)
    note, _ = notes_of(batch.cond)
    return "".join(
        f"<h3>“{escape(text)}”</h3>"
        + columns({who: _sung(mels[i], note[i], who, text, vocoder) for who, mels in sung.items()})
        for i, text in enumerate(batch.extra["texts"][:SHOWN])
    )


def _sung(mel: Tensor, note: Tensor, who: str, text: str, vocoder: Vocoder) -> str:
    roll = roll_picture(note[: mel.shape[1]], heard(mel, vocoder))
    return (
        player("audio/wav", wav_bytes(vocoder(mel), vocoder.contract.rate), f"{who}: “{text}”")
        + picture(roll, f"Notes of “{text}” and, as a line, the pitch of {who}", caption=False)
        + picture(
            mel_picture(mel, vocoder.contract, WIDE),
            f"Mel spectrogram of {who} singing “{text}”",
            caption=False,
        )
    )


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


def _tuning(drawn: Mapping[str, Drawn], vocoder: Vocoder) -> str:
    """Pitch of everyone, the truth included."""
    batch, sung = _everyone(drawn)
    note, vowel = notes_of(batch.cond)
    body = []
    for who, mels in sung.items():
        off = torch.cat(
            [
                (100 * (heard(mel, vocoder) - note[i, : mel.shape[1]]))[vowel[i, : mel.shape[1]]]
                for i, mel in enumerate(mels[:HEARD])
            ]
        )
        voiced = off[off.isfinite()].abs()
        middle = f"{float(voiced.median()):.0f}" if len(voiced) else "none heard"
        body.append((who, middle, f"{float((off.abs() < NEAR).double().mean()):.0%}"))
    return "<h3>Pitch after the vocoder</h3>" + table(
        ("who", "median distance from the note, cents", f"vowel frames within {NEAR:g} cents"),
        body,
        "The truth has vibrato, tuning and glides of its own",
    )
