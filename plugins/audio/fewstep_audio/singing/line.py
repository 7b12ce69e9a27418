"""A melody and its words as one row of phones, each with its note, and when each of them sounds.

As in the data of singing systems (Wang et al. 2022, Opencpop): a vowel that goes over several notes is written once
for each, marked as slurred. Shape legend: P phones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep_audio.singing.score import REST, Score, loose_slurs
from fewstep_audio.singing.syllables import Syllable, shown, syllables
from fewstep_audio.sound.mel import MelContract
from fewstep_audio.speech.phones import NUMBER, PAUSE, Pronunciation

LEAD, TAIL = 0.25, 0.15
"""Seconds of silence before the first beat, where its consonants find room, and after the last."""

MOST = 0.6
"""Share of the time between two beats that consonants may take; more are squeezed."""


@dataclass(frozen=True)
class Line:
    """What is sung.

    Args:
        said: (P,) phones and stresses.
        note: (P,) int64 MIDI numbers, 0 in rests.
        slur: (P,) int64, 1 where a vowel goes on with another note.
        holds: (P,) int64, 1 for vowels and rests, which begin on a beat and take what consonants leave.
        beat: (P,) int64 frames of the phone's note.
        source: (P,) int64 place in the words' own pronunciation, -1 for rests.
    """

    said: Pronunciation
    note: Tensor
    slur: Tensor
    holds: Tensor
    beat: Tensor
    source: Tensor


def misfit(said: Pronunciation, score: Score) -> list[str]:
    """What is wrong with the number of syllables, if anything."""
    wanted, there = score.attacks, len(syllables(said))
    if wanted == there:
        return []
    return [
        f"{there} syllables for {wanted} notes that begin one; the syllables are: {shown(said)}. "
        "Give every syllable a note, and mark notes that go on with the syllable by ~"
    ]


def written(said: Pronunciation, score: Score, contract: MelContract) -> Line:
    """Words under notes; beats are rounded to frames of the spectrogram where they begin.

    Raises:
        ValueError: the number of syllables is not that of the notes that begin one, or a slur has no note before it.
    """
    wrong = [*misfit(said, score), *loose_slurs(score.notes)]
    if wrong:
        raise ValueError(wrong[0])
    seconds = torch.tensor([LEAD, *score.seconds, TAIL], dtype=torch.float64)
    edges = torch.round(seconds.cumsum(0) * contract.rate / contract.hop).long()
    beats = torch.cat([edges[:1], edges.diff()]).tolist()
    rows = torch.tensor(list(_rows(syllables(said), score, beats)), dtype=torch.int64)
    source, note, slur, holds, beat = rows.unbind(1)
    phones, stress = (
        torch.where(source < 0, silent, whole[source.clamp(min=0)])
        for whole, silent in ((said.phones, NUMBER[PAUSE]), (said.stress, 0))
    )
    return Line(Pronunciation(phones, stress), note, slur, holds, beat, source)


def _rows(sung: list[Syllable], score: Score, beats: list[int]) -> Iterator[tuple[int, ...]]:
    """(source, note, slur, holds, beat) of each phone in order."""
    waiting = iter(sung)
    now: Syllable | None = None
    before = (REST, beats[0])
    yield -1, REST, 0, 1, beats[0]
    for note, beat in zip(score.notes, beats[1:-1], strict=True):
        if note.slur and now is not None:
            yield now.nucleus, note.pitch, 1, 1, beat
        else:
            yield from _closing(now, before)
            now = None if note.pitch == REST else next(waiting)
            yield from _opening(now, note.pitch, beat)
        before = (note.pitch, beat)
    yield from _closing(now, before)
    yield -1, REST, 0, 1, beats[-1]


def _opening(syllable: Syllable | None, pitch: int, beat: int) -> Iterator[tuple[int, ...]]:
    """A syllable up to its vowel, or a rest."""
    if syllable is None:
        yield -1, REST, 0, 1, beat
    else:
        yield from ((place, pitch, 0, 0, beat) for place in syllable.onset)
        yield syllable.nucleus, pitch, 0, 1, beat


def _closing(syllable: Syllable | None, before: tuple[int, int]) -> Iterator[tuple[int, ...]]:
    """What follows the vowel, on the note that sounds."""
    for place in () if syllable is None else syllable.coda:
        yield place, before[0], 0, 0, before[1]


def on_the_beat(natural: Tensor, holds: Tensor, beat: Tensor) -> Tensor:
    """Frames of each phone, so that what holds begins on its beat.

    Consonants keep their natural length unless they would take more than ``MOST`` of the time from one beat to the
    next; the vowel or rest takes what is left.

    Args:
        natural: (..., P) int64 frames of each phone as it is spoken, 0 for padding.
        holds: (..., P) int64.
        beat: (..., P) int64 frames of the phone's note.

    Returns:
        (..., P) int64, their sum over a line being that of its beats.
    """
    real = natural > 0
    holding = (holds > 0) & real
    part = (holding.long().cumsum(-1) - 1).clamp(min=0)
    spoken = torch.where(holding, 0, natural)
    room = torch.zeros_like(natural).scatter_add(-1, part, torch.where(holding, beat, 0))
    wanted = torch.zeros_like(natural).scatter_add(-1, part, spoken)
    squeeze = (MOST * room / wanted.clamp(min=1)).clamp(max=1.0)
    short = (spoken * squeeze.gather(-1, part)).floor().long().clamp(min=1) * (real & ~holding)
    taken = torch.zeros_like(natural).scatter_add(-1, part, short)
    left = (room - taken).clamp(min=1).gather(-1, part)
    return torch.where(holding, left, short)
