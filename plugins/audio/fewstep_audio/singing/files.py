"""Scores that a user brings: the sung part of a MusicXML or MIDI file, with its words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import dropwhile
from pathlib import Path
from typing import Any

from fewstep.errors import FewstepError
from fewstep_audio.singing.score import REST, Note, Score

ENDINGS = (".mid", ".midi", ".xml", ".musicxml", ".mxl")
TEMPO = 100.0
"""Where a score has none."""


def read_song(file: Path, follows_text: bool = False) -> tuple[str, Score]:
    """Words and notes of the first part that has words, or of the first part.

    A note without words goes on with the syllable of the note before; where the whole part has none, slurs say so.
    Of chords the highest note is sung; grace notes are left out, ties joined, silence at both ends cut.

    Args:
        file: MusicXML or MIDI.
        follows_text: the words are given elsewhere, so that a part without any is no error.

    Raises:
        FewstepError: music21 is not installed; the file is not there, is no score, or has no notes or words.
    """
    part = _part(file)
    events = [event for event in part.flatten().notesAndRests if event.quarterLength > 0]
    lyrics = [_lyric(event) for event in events]
    if not any(lyrics) and not follows_text:
        raise FewstepError(
            f"{file.name} has no words", "a score with lyrics", 'give the words as --text "..."'
        )
    goes_on = [lyric is None for lyric in lyrics] if any(lyrics) else _slurred(part, events)
    notes = tuple(_trimmed(_note(event, slur) for event, slur in zip(events, goes_on, strict=True)))
    if not notes:
        raise FewstepError(f"{file.name} has no notes", "a score with a melody", "choose another file")
    return "".join(_words(lyrics)).strip(), Score(notes, _tempo(part))


def _part(file: Path) -> Any:
    if not file.is_file():
        raise FewstepError(f"{file} is not there", "a MusicXML or MIDI file", "correct the path")
    if file.suffix.lower() not in ENDINGS:
        raise FewstepError(
            f"{file.name} is no score", f"a file that ends with {', '.join(ENDINGS)}", "export it as MusicXML"
        )
    try:
        import music21
    except ImportError as error:
        raise FewstepError(
            "reading scores needs the music21 package", "", 'pip install "fewstep[music]"'
        ) from error
    try:
        score: Any = music21.converter.parse(file).stripTies()
    except Exception as error:
        raise FewstepError(
            f"{file.name} cannot be read: {error}", "a MusicXML or MIDI file", "export it again"
        ) from error
    parts = list(score.parts) or [score]
    worded = [part for part in parts if any(_lyric(event) for event in part.flatten().notes)]
    return (worded or parts)[0]


def _lyric(event: Any) -> tuple[str, bool] | None:
    """Text of the first verse under a note, and whether its word goes on; MIDI files write a hyphen for that."""
    found = next((one for one in event.lyrics if one.text), None)
    if found is None:
        return None
    return found.text.rstrip("-"), found.syllabic in ("begin", "middle") or found.text.endswith("-")


def _words(lyrics: Iterable[tuple[str, bool] | None]) -> Iterator[str]:
    for lyric in lyrics:
        if lyric is not None:
            yield lyric[0] if lyric[1] else f"{lyric[0]} "


def _slurred(part: Any, events: list[Any]) -> list[bool]:
    """Whether each note is inside a slur and not its first."""
    inside = set()
    for slur in part.recurse().getElementsByClass("Slur"):
        ends = [events.index(end) for end in (slur.getFirst(), slur.getLast()) if end in events]
        inside |= set(range(min(ends) + 1, max(ends) + 1)) if len(ends) == 2 else set()
    return [i in inside for i in range(len(events))]


def _note(event: Any, slur: bool) -> Note:
    beats = float(event.quarterLength)
    if event.isRest:
        return Note(REST, beats)
    return Note(max(int(pitch.midi) for pitch in event.pitches), beats, slur)


def _trimmed(notes: Iterable[Note]) -> list[Note]:
    """Without rests at both ends, rests that follow each other joined."""
    joined: list[Note] = []
    for note in dropwhile(lambda one: one.pitch == REST, notes):
        if joined and note.pitch == REST == joined[-1].pitch:
            joined[-1] = Note(REST, joined[-1].beats + note.beats)
        else:
            joined.append(note)
    while joined and joined[-1].pitch == REST:
        joined.pop()
    return joined


def _tempo(part: Any) -> float:
    marks = part.flatten().getElementsByClass("MetronomeMark")
    found = next((mark.getQuarterBPM() for mark in marks if mark.getQuarterBPM()), None)
    return TEMPO if found is None else float(found)
