"""Notes as a singer reads them, and the plain text that writes them on a command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

LOWEST, HIGHEST = 55, 74
"""The trained range in MIDI numbers: G3 (196 Hz) to D5 (587 Hz)."""

REST = 0
"""Pitch of silence."""

SHORTEST, LONGEST = 0.12, 4.0
"""Seconds of a note. A shorter one has no room for its consonants; no singer here was heard with a longer one."""

SILENT = 60.0
"""Seconds of a rest, at most."""

STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
WRITTEN = re.compile(r"(~?)(?:([A-Ga-g])(#|b)?(-?\d)|([Rr]))(?::(\d+(?:\.\d+)?|\.\d+))?")


@dataclass(frozen=True)
class Note:
    """One note or rest.

    Args:
        pitch: MIDI number, 69 = A4 = 440 Hz; 0 is a rest.
        beats: how long.
        slur: True if it goes on with the syllable of the note before, without a new attack.
    """

    pitch: int
    beats: float
    slur: bool = False

    @property
    def name(self) -> str:
        """As it is written, without its length."""
        return "R" if self.pitch == REST else named(self.pitch)


@dataclass(frozen=True)
class Score:
    """A melody.

    Args:
        notes: in order.
        tempo: beats per minute.
    """

    notes: tuple[Note, ...]
    tempo: float = 100.0

    @property
    def seconds(self) -> tuple[float, ...]:
        """How long each note is."""
        return tuple(note.beats * 60 / self.tempo for note in self.notes)

    def transposed(self, semitones: int) -> Score:
        """The same melody, higher by so many semitones."""
        notes = (replace(note, pitch=note.pitch + semitones) if note.pitch else note for note in self.notes)
        return replace(self, notes=tuple(notes))

    @property
    def attacks(self) -> int:
        """Notes that begin a syllable."""
        return sum(note.pitch != REST and not note.slur for note in self.notes)


def named(pitch: int) -> str:
    """60 -> "C4"."""
    return f"{NAMES[pitch % 12]}{pitch // 12 - 1}"


def read_notes(text: str) -> tuple[list[Note], list[str]]:
    """``"C4:1 D4:.5 ~E4:.5 R:1"``: name, octave, beats (1 if not said); ``~`` goes on with the syllable; R rests.

    Returns:
        The notes that could be read, a middle C in place of each that could not; and what was wrong with the others.
    """
    notes, wrong = [], []
    for word in text.replace(",", " ").replace("|", " ").split():
        found = WRITTEN.fullmatch(word)
        if found is None:
            wrong.append(
                f"{word!r} is no note; write C4:1, F#4:.5, Bb3:2, ~D4:1 (same syllable) or R:1 (rest)"
            )
            notes.append(Note(60, 1.0, word.startswith("~")))
            continue
        slur, letter, accidental, octave, rest, beats = found.groups()
        pitch = REST
        if not rest:
            shift = {"#": 1, "b": -1}.get(accidental, 0)
            pitch = 12 * (int(octave) + 1) + STEPS[letter.upper()] + shift
        notes.append(Note(pitch, float(beats or 1), bool(slur)))
    return notes, wrong


def faults(score: Score, lowest: int = LOWEST, highest: int = HIGHEST) -> list[str]:
    """All that keeps a score from being sung, whatever its words."""
    told = []
    if not any(note.pitch for note in score.notes):
        told.append("there is no note to sing")
    outside = [note.name for note in score.notes if note.pitch and not lowest <= note.pitch <= highest]
    if outside:
        told.append(
            f"outside of the trained range {named(lowest)} to {named(highest)}: {' '.join(outside)}; "
            + _remedy([note.pitch for note in score.notes if note.pitch], lowest, highest)
        )
    for note, seconds in zip(score.notes, score.seconds, strict=True):
        most = LONGEST if note.pitch else SILENT
        if not SHORTEST <= seconds <= most:
            told.append(f"{note.name} lasts {seconds:.3g} s; expected {SHORTEST:g} to {most:g} s")
    told += loose_slurs(score.notes)
    return told


def _remedy(pitches: Sequence[int], lowest: int, highest: int) -> str:
    """The smallest transposition that fits, octaves first, or why there is none."""
    fits = range(lowest - min(pitches), highest - max(pitches) + 1)
    if not fits:
        return f"the melody spans {max(pitches) - min(pitches)} semitones, the range {highest - lowest}"
    best = min(fits, key=lambda shift: (shift % 12 != 0, abs(shift)))
    return f"transpose by {best:+d} semitones (--transpose={best})"


def loose_slurs(notes: Sequence[Note]) -> list[str]:
    """What is wrong with slurs, if anything."""
    before = [Note(REST, 1.0), *notes]
    loose = [
        one.name
        for one, last in zip(notes, before, strict=False)
        if one.slur and (last.pitch == REST or one.pitch == REST)
    ]
    return [f"a slur needs a note before and after it: ~{' ~'.join(loose)}"] if loose else []
