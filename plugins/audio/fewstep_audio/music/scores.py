"""Scores as notes in seconds: the four-part music that music21 ships, and MIDI and MusicXML files of anyone's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fewstep.errors import FewstepError
from fewstep_audio.music.notes import Tune, intervals, tune

VOICES = 4
MIDI, XML = (".mid", ".midi"), (".xml", ".musicxml", ".mxl")
INSTALL = 'pip install "fewstep[music]"'


def collected(composer: str, count: int, quarter: float) -> list[Tune]:
    """The first ``count`` four-part scores of a composer in music21's collection, by file name.

    A tune that begins with the melody of an earlier one is left out: chorales share melodies, and the held-out ones
    must be new.

    Args:
        composer: "bach", "palestrina", "haydn", ...
        count: how many.
        quarter: seconds of a quarter note.

    Raises:
        FewstepError: music21 is not installed, or has not so many.
    """
    corpus = _music21().corpus
    files = sorted(
        {str(file) for file in corpus.getComposer(composer) if str(file).endswith((".mxl", ".xml", ".krn"))}
    )
    found = _new_tunes(files, quarter, count)
    if len(found) < count:
        raise FewstepError(
            f"music21 has {len(found)} different scores of four parts by {composer!r}, asked for {count}",
            "fewer tunes, or a composer of whom it has more, such as bach or palestrina",
            "set music.tunes, music.held_out or music.composer",
        )
    return found


def _new_tunes(files: Sequence[str], quarter: float, count: int) -> list[Tune]:
    found: list[Tune] = []
    seen: set[tuple[int, ...]] = set()
    for file in files:
        if len(found) == count:
            break
        score = _music21().corpus.parse(file)
        if len(getattr(score, "parts", ())) != VOICES:
            continue
        made = _tune_of(score, Path(file).stem, quarter)
        if intervals(made) not in seen:
            seen.add(intervals(made))
            found.append(made)
    return found


def read_score(file: Path, quarter: float = 0.6) -> Tune:
    """A MIDI file in its own time, or a MusicXML file at ``quarter`` seconds a quarter note.

    Raises:
        FewstepError: the file is not there, is no score, or holds no notes.
    """
    if not file.is_file():
        raise FewstepError(f"{file} is not there", "a MIDI or MusicXML file", "correct the path")
    if file.suffix.lower() not in (*MIDI, *XML):
        raise FewstepError(
            f"{file.name} is not a score",
            f"a file that ends with {', '.join((*MIDI, *XML))}",
            "give another file",
        )
    made = _midi(file) if file.suffix.lower() in MIDI else _xml(file, quarter)
    if not len(made.notes):
        raise FewstepError(f"{file.name} holds no notes", "at least one pitched note", "give another file")
    return made


def read_folder(folder: Path, quarter: float, skip_bad: bool) -> list[Tune]:
    """All scores under a folder, by path.

    Args:
        folder: where to look, subfolders included.
        quarter: seconds of a quarter note in MusicXML; MIDI has its own time.
        skip_bad: leave files out that cannot be read, instead of refusing the folder.

    Raises:
        FewstepError: there is no score, or files that cannot be read, all of which are named.
    """
    if not folder.is_dir():
        raise FewstepError(
            f"{folder} is no folder", "a folder with MIDI or MusicXML files", "correct music.folder"
        )
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in (*MIDI, *XML))
    good, bad = [], []
    for file in files:
        try:
            good.append(read_score(file, quarter))
        except FewstepError as error:
            bad.append(f"{file.relative_to(folder)}: {error.what}")
    if (bad and not skip_bad) or not good:
        told = "".join(f"\n  {line}" for line in bad)
        raise FewstepError(
            f"{len(bad)} of {len(files)} scores in {folder} cannot be read{told}",
            f"files that end with {', '.join((*MIDI, *XML))} and hold notes",
            "mend or remove them, or set music.skip_bad=true to go on without them",
        )
    return good


def _midi(file: Path) -> Tune:
    pretty_midi = _pretty_midi()
    try:
        song = pretty_midi.PrettyMIDI(str(file))
    except Exception as error:
        raise FewstepError(
            f"{file.name} is no MIDI file: {error or type(error).__name__}", "a MIDI file"
        ) from error
    pitched = [voice for voice in song.instruments if not voice.is_drum]
    return tune(
        file.stem,
        [(n.start, n.end, n.pitch, part) for part, voice in enumerate(pitched) for n in voice.notes],
    )


def _xml(file: Path, quarter: float) -> Tune:
    try:
        score = _music21().converter.parse(str(file), forceSource=True)
    except Exception as error:
        raise FewstepError(
            f"{file.name} is no MusicXML: {error or type(error).__name__}", "MusicXML"
        ) from error
    return _tune_of(score, file.stem, quarter)


def _tune_of(score: Any, name: str, quarter: float) -> Tune:
    """Notes of a music21 score; ties are joined, grace notes and drums left out."""
    return tune(name, list(_sounding(score, quarter)))


def _sounding(score: Any, quarter: float) -> Iterator[tuple[float, float, float, float]]:
    for number, part in enumerate(score.parts):
        for element in part.stripTies().flatten().notes:
            start, length = float(element.offset) * quarter, float(element.quarterLength) * quarter
            for pitch in element.pitches if length > 0 else ():
                yield start, start + length, round(pitch.ps), number


def _music21() -> Any:
    try:
        import music21
    except ImportError as error:
        raise FewstepError("scores need music21, which is not installed", "music21", INSTALL) from error
    return music21


def _pretty_midi() -> Any:
    try:
        import pretty_midi
    except ImportError as error:
        raise FewstepError(
            "MIDI files need pretty_midi, which is not installed", "pretty_midi", INSTALL
        ) from error
    return pretty_midi


def spoken_notes(text: str) -> Tune:
    """A melody written as "C4:1 D4:0.5 r:0.5 F#4:2": pitch (r = rest) and seconds.

    Raises:
        FewstepError: naming every word that is no note.
    """
    now, notes, bad = 0.0, [], []
    for word in text.split():
        name, _, length = word.partition(":")
        pitch, seconds = _pitch(name), _number(length or "1")
        if seconds is None or seconds <= 0 or (pitch is None and name.lower() != "r"):
            bad.append(word)
            continue
        if pitch is not None:
            notes.append((now, now + seconds, float(pitch), 0.0))
        now += seconds
    if bad or not notes:
        raise FewstepError(
            f"no notes: {' '.join(bad) or 'the melody is empty'}",
            'words such as "C4:1 F#4:0.5 r:0.5": a pitch from A0 to C8 (r = rest), a colon, seconds',
            "correct them",
        )
    return tune("melody", notes)


STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
ALTERED = {"": 0, "#": 1, "b": -1, "-": -1}


def _pitch(name: str) -> int | None:
    """MIDI number of C4 = 60 and the like, inside the piano; None if it is no pitch."""
    step, altered, octave = name[:1].upper(), name[1:-1], name[-1:]
    if step not in STEPS or altered not in ALTERED or not octave.isdigit():
        return None
    pitch = 12 * (int(octave) + 1) + STEPS[step] + ALTERED[altered]
    return pitch if 21 <= pitch <= 108 else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
