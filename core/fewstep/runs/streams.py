"""Streams as files: pieces are written as they come, and a file that was cut short never gets the asked name."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from fewstep.protocol import Piece, Stream
from fewstep.runs.folder import writing

STANDARD_OUTPUT = Path("-")


@dataclass(frozen=True)
class Streamed:
    """What a stream took.

    Args:
        file: where it lies; "-" is standard output.
        pieces: how many came.
        first: seconds to the first.
        seconds: to the last.
    """

    file: Path
    pieces: int
    first: float
    seconds: float


def save(stream: Stream, pieces: Iterable[Piece], file: Path, say: Callable[[str], object] = str) -> Streamed:
    """Write pieces to a file, or to standard output.

    Args:
        stream: knows how to finish its files.
        pieces: what comes.
        file: its name; "-" for standard output.
        say: told about each piece.

    Raises:
        FewstepError: the file cannot be written.
    """
    if file == STANDARD_OUTPUT:
        return _poured(pieces, sys.stdout.buffer.write, file, say)
    draft = file.with_name(f".{file.name}.draft")
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with writing(file, draft), draft.open("wb") as out:
            done = _poured(pieces, out.write, file, say)
        if stream.finish is not None:
            stream.finish(draft)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    return done


def _poured(
    pieces: Iterable[Piece], write: Callable[[bytes], object], file: Path, say: Callable[[str], object]
) -> Streamed:
    begun, count, first = time.monotonic(), 0, 0.0
    for piece in pieces:
        write(piece.content)
        now = time.monotonic() - begun
        count, first = count + 1, first or now
        say(f"{now:7.2f} s  {piece.about}")
    return Streamed(file, count, first, time.monotonic() - begun)
