"""A folder of recordings with their texts as a corpus: LJSpeech's layout, or a text file beside each sound.

    metadata.csv + wavs/LJ001-0001.wav      lines "LJ001-0001|text as written|text as spoken"
    anna/one.wav + anna/one.txt             the folder above a recording names the speaker

Files are checked one by one; what cannot be used is counted and told, and everything else is kept by content.
"""

from __future__ import annotations

import logging
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from fewstep.errors import FewstepError
from fewstep_audio.sound.cache import content, kept
from fewstep_audio.sound.mel import MelContract
from fewstep_audio.sound.recordings import Refused, heard_file, recordings_in, trimmed
from fewstep_audio.speech.alignment import REFERENCES
from fewstep_audio.speech.corpus import Corpus
from fewstep_audio.speech.espeak import Request
from fewstep_audio.speech.phones import check_text
from fewstep_audio.speech.utterance import FORMAT, Utterance, packed, restored
from fewstep_audio.speech.voices import aligned_speech, references

_log = logging.getLogger(__name__)

LONGEST = 20.0
"""Seconds of a recording; longer ones are cut at their pauses by whoever brings them."""

CHUNK = 32
"""Recordings whose texts are spoken at once."""


@dataclass(frozen=True)
class Recorded:
    """A recording and what is said in it.

    Args:
        path: the sound file.
        text: as spoken.
        speaker: who speaks.
    """

    path: Path
    text: str
    speaker: str


def load_folder(folder: Path, held_out: int, contract: MelContract, cache: Path, shortest: int = 0) -> Corpus:
    """The recordings of a folder as a corpus; every n-th is held out, so that all speakers are.

    Args:
        folder: see the module.
        held_out: how many are kept for evaluation.
        contract: what a spectrogram means.
        cache: where the features are kept.
        shortest: frames of the shortest utterance that is of use, such as those of a crop.

    Raises:
        FewstepError: nothing in it can be used, or too little; reasons are listed.
    """
    found = aligned_recordings(listed(folder), contract, cache)
    every = [one for one in found if one.mel.shape[1] >= shortest]
    if len(every) < len(found):
        _log.warning("%d of %d recordings are shorter than a crop", len(found) - len(every), len(found))
    if len(every) < 2 * held_out:
        raise FewstepError(
            f"{len(every)} recordings in {folder} can be used",
            f"at least {2 * held_out}, so that {held_out} can be held out",
            "add recordings, or lower speech.held_out",
        )
    stride = len(every) // held_out
    kept_back = set(range(0, stride * held_out, stride))
    return Corpus(
        tuple(one for place, one in enumerate(every) if place not in kept_back),
        tuple(one for place, one in enumerate(every) if place in kept_back),
    )


def listed(folder: Path) -> list[Recorded]:
    """What a folder says that it holds.

    Raises:
        FewstepError: there is no recording, or none of them has a text.
    """
    table = folder / "metadata.csv"
    found = _from_table(table) if table.is_file() else _from_pairs(folder)
    if not found:
        raise FewstepError(
            f"no recording in {folder} has a text",
            "metadata.csv with lines 'name|text', or name.txt beside name.wav",
            "write down what is said in each recording",
        )
    return found


def _from_table(table: Path) -> list[Recorded]:
    wavs = table.parent / "wavs"
    lines = _written(table).splitlines()
    cells = [line.partition("|") for line in lines if line.strip()]
    return [  # a line without a text is kept, so that it is counted among what is refused
        Recorded(_named(wavs, name.strip()), told.rpartition("|")[2].strip(), table.parent.name)
        for name, _, told in cells
    ]


def _written(file: Path) -> str:
    """A text file, with or without the mark that some editors put first.

    Raises:
        FewstepError: it is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as problem:
        raise FewstepError(
            f"{file} is not UTF-8: byte {problem.start} cannot be read",
            "a text in UTF-8",
            f"iconv -f LATIN1 -t UTF-8 {shlex.quote(str(file))} writes it so, if it was written in western Europe",
        ) from problem


def _named(folder: Path, name: str) -> Path:
    return folder / name if Path(name).suffix else folder / f"{name}.wav"


def _from_pairs(folder: Path) -> list[Recorded]:
    pairs = [(sound, sound.with_suffix(".txt")) for sound in recordings_in(folder)]
    return [
        Recorded(sound, _written(text).strip(), sound.parent.name) for sound, text in pairs if text.is_file()
    ]


def aligned_recordings(recorded: Sequence[Recorded], contract: MelContract, cache: Path) -> list[Utterance]:
    """Utterances with phones and their frames, from the cache or made now; what is refused is counted and told.

    Raises:
        FewstepError: none of them can be used.
    """
    seen = [(str(one.path), one.text, one.speaker, *_stamp(one.path)) for one in recorded]
    told = [FORMAT, seen, asdict(contract), REFERENCES, LONGEST]

    def make() -> dict[str, np.ndarray]:
        answers = list(_answers(recorded, contract))
        made = [one for one in answers if isinstance(one, Utterance)]
        _tell(made, [one for one in answers if isinstance(one, str)], len(recorded))
        return packed(made)

    return restored(kept(cache, "recordings", content(told), make))


def _answers(recorded: Sequence[Recorded], contract: MelContract) -> Iterator[Utterance | str]:
    """Each recording as an utterance, or the reason why it is none; texts are spoken a chunk at a time."""
    begin = time.monotonic()
    for first in range(0, len(recorded), CHUNK):
        _tell_time("aligning recordings", first, len(recorded), time.monotonic() - begin)
        chunk = [(one, _sayable(one)) for one in recorded[first : first + CHUNK]]
        told = iter(references([text for _, text in chunk if isinstance(text, str)], contract))
        for one, text in chunk:
            yield (
                f"{one.path.name}: {text}"
                if isinstance(text, ValueError)
                else _utterance(replace(one, text=text), next(told), contract)
            )


def _sayable(one: Recorded) -> str | ValueError:
    try:
        return check_text(one.text)
    except ValueError as problem:
        return problem


def _utterance(one: Recorded, told: Sequence[Utterance], contract: MelContract) -> Utterance | str:
    try:
        wave = trimmed(heard_file(one.path, contract, LONGEST), contract)
        return aligned_speech(Request(one.text, one.speaker), wave, told, contract)
    except Refused as problem:
        return str(problem)
    except ValueError as problem:
        return f"{one.path.name}: {problem}"


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of change: what tells a file from a later one without reading it."""
    if not path.is_file():
        return 0, 0
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns


def _tell(made: Sequence[Utterance], refused: Sequence[str], count: int) -> None:
    lines = "\n  ".join(refused[:10]) + (f"\n  and {len(refused) - 10} more" if len(refused) > 10 else "")
    if not made:
        raise FewstepError(
            f"none of {count} recordings can be used:\n  {lines}",
            "English speech of a fifth of a second to 20 seconds, and its text",
            "mend the files that are named",
        )
    if refused:
        _log.warning("%d of %d recordings are left out:\n  %s", len(refused), count, lines)


def _tell_time(what: str, done: int, count: int, passed: float) -> None:
    """A line that says how long it will take, once two seconds have passed."""
    if done and passed > 2:
        sys.stderr.write(f"{what}: {done} of {count}, about {passed / done * (count - done):.0f} s left\n")
