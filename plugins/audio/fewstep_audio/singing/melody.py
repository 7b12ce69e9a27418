"""Tunes that nobody wrote: tonal phrases as a pure function of a key."""

from __future__ import annotations

from itertools import accumulate

from fewstep.protocol import Key
from fewstep_audio.singing.score import HIGHEST, LOWEST, REST, Note, Score

MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
TRIAD = (0, 2, 4)
"""Degrees of the tonic chord."""

RHYTHMS = ((1.0,), (0.5, 0.5), (1.5, 0.5), (2.0,), (1.0, 1.0))
"""Ways to fill part of a bar; drawn with equal chances."""

STEPS = (-2, -1, -1, 0, 1, 1, 2, 3)
"""Degrees from one note to the next: mostly steps, sometimes leaps."""

SLURRED, RESTED = 0.15, 0.12
"""Chances that a syllable gets two notes, and that a long note ends early for a breath."""


def compose(syllables: int, key: Key) -> Score:
    """A phrase with one attack for each syllable, within the trained range, that ends on its tonic.

    Args:
        syllables: at least one.
        key: another key is another tune.
    """
    count = 2 * syllables + 2
    scale = (MAJOR, MINOR)[key.at("mode").integer(2)]
    tonic = LOWEST + key.at("tonic").integer(HIGHEST - LOWEST - 12 + 1)
    walk = [STEPS[i] for i in key.at("steps").integers((count,), len(STEPS)).tolist()]
    chances = key.at("chances").uniform((count, 2)).tolist()
    rhythm = _rhythm(count, key)
    degrees = _degrees(key.at("begin").integer(len(TRIAD)), walk)
    notes: list[Note] = []
    for i in range(syllables):
        pitch, beats = _pitch(degrees[2 * i], scale, tonic), rhythm[i]
        slurs, rests = chances[i][0] < SLURRED and beats >= 1, chances[i][1] < RESTED and beats > 1
        if i == syllables - 1:
            notes.append(Note(tonic if degrees[2 * i] < 4 else tonic + 12, 2.0))
        elif slurs:
            other = _pitch(degrees[2 * i + 1], scale, tonic)
            notes += [Note(pitch, beats / 2), Note(other, beats / 2, slur=True)]
        elif rests:
            notes += [Note(pitch, beats - 0.5), Note(REST, 0.5)]
        else:
            notes.append(Note(pitch, beats))
    return Score(tuple(notes), tempo=110.0 + 5 * key.at("tempo").integer(9))


def _rhythm(count: int, key: Key) -> list[float]:
    drawn = key.at("rhythm").integers((count,), len(RHYTHMS)).tolist()
    return [beats for i in drawn for beats in RHYTHMS[i]]


def _degrees(begin: int, walk: list[int]) -> list[int]:
    """Scale degrees 0 to 7 of a walk that turns back at the octave's ends."""
    return list(accumulate(walk, _stepped, initial=TRIAD[begin]))


def _stepped(degree: int, step: int) -> int:
    there = degree + step
    return there if 0 <= there <= 7 else degree - step


def _pitch(degree: int, scale: tuple[int, ...], tonic: int) -> int:
    return tonic + 12 * (degree // 7) + scale[degree % 7]
