"""Real speech without a system package: espeak-ng through the ``espeakng-loader`` wheel, with exact phone times."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, NoReturn, cast

import numpy as np

from fewstep.errors import FewstepError, nearest

WORKER = Path(__file__).with_name("espeak_worker.py")
LONGEST_PATH = 120
"""espeak-ng keeps its data path in 160 characters and appends file names to it."""


@dataclass(frozen=True)
class Request:
    """What to say and how.

    Args:
        text: plain English.
        voice: espeak-ng's name, a variant after "+", such as "en-us+f2".
        pitch: base pitch, 0 to 99; 50 is the voice's own.
        range: liveliness of the pitch, 0 to 99.
        rate: words per minute.
    """

    text: str
    voice: str = "en-us"
    pitch: int = 50
    range: int = 50
    rate: int = 175


@dataclass(frozen=True)
class Speech:
    """What espeak-ng said.

    Args:
        wave: (N,) float32 in [-1, 1].
        rate: samples per second.
        phones: names in the International Phonetic Alphabet; "" is a pause.
        starts: (P,) int64, first sample of each phone.
    """

    wave: np.ndarray
    rate: int
    phones: tuple[str, ...]
    starts: np.ndarray


def speak(requests: Sequence[Request]) -> list[Speech]:
    """Say everything; the same requests give the same samples, on any run and in any order.

    The process that speaks stays for the next call: its start takes four times as long as a sentence.

    Raises:
        FewstepError: espeak-ng is not there, does not start, or refuses a voice or a text.
    """
    if not requests:
        return []
    library, data = _library()
    _check_variants(Path(data), {request.voice for request in requests})
    with _TURN:
        worker = _worker(library, data)
        try:
            return list(worker.answers(requests))
        except BaseException:
            worker.close()  # what it has still to say belongs to nobody
            raise


class _Worker:
    """A process that speaks, line by line of requests.

    Args:
        library: path of the shared library.
        data: path of its data.
    """

    def __init__(self, library: str, data: str) -> None:
        """A long data path is reached through a short link."""
        self.told, self.owner, self.link = (library, data), os.getpid(), None
        if len(os.fsencode(data)) > LONGEST_PATH:
            self.link = Path(tempfile.mkdtemp()) / "espeak-ng-data"
            self.link.symlink_to(data, target_is_directory=True)
            data = str(self.link)
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(WORKER), library, data],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )
        self.rate = 0

    @property
    def lives(self) -> bool:
        """Whether it can be asked, by this process."""
        return self.owner == os.getpid() and self.process.poll() is None

    def answers(self, requests: Sequence[Request]) -> Iterator[Speech]:
        """What it says to each request."""
        line = json.dumps([asdict(request) for request in requests]).encode() + b"\n"
        try:
            self._stdin.write(line)
            self._stdin.flush()
        except BrokenPipeError:
            self._fail()
        self.rate = self.rate or int(self._bytes(8), 16)
        for request in requests:
            header = json.loads(self._bytes(int(self._bytes(8), 16)))
            if "error" in header:
                raise FewstepError(
                    f"{header['error']} (text {request.text!r})", "", "see the voices that espeak-ng ships"
                )
            pcm = np.frombuffer(self._bytes(2 * header["samples"]), dtype=np.int16)
            names = tuple(name for name, _ in header["phones"])
            starts = np.array([start for _, start in header["phones"]], dtype=np.int64)
            yield Speech(pcm.astype(np.float32) / 32768, self.rate, names, starts)

    def close(self) -> None:
        """Let it end; in a fork of its owner, only let go of it."""
        if self.owner != os.getpid():
            return
        for pipe in (self._stdin, self._stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        self.process.kill()
        self.process.wait()
        self.errors.close()
        if self.link is not None:
            self.link.unlink()
            self.link.parent.rmdir()

    @property
    def _stdin(self) -> IO[bytes]:
        return cast("IO[bytes]", self.process.stdin)

    @property
    def _stdout(self) -> IO[bytes]:
        return cast("IO[bytes]", self.process.stdout)

    def _bytes(self, count: int) -> bytes:
        found = self._stdout.read(count)
        if len(found) < count:
            self._fail()
        return found

    def _fail(self) -> NoReturn:
        self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines() or ["no message"]
        raise FewstepError(
            f"espeak-ng failed: {lines[-1]}",
            "the library of the espeakng-loader package",
            'pip install --force-reinstall "fewstep[audio]"',
        )


_TURN = threading.Lock()
_WORKERS: list[_Worker] = []
"""At most one."""


def _worker(library: str, data: str) -> _Worker:
    """The one that lives, or a new one."""
    for one in list(_WORKERS):
        if one.lives and one.told == (library, data):
            return one
        _WORKERS.remove(one)
        one.close()
    _WORKERS.append(_Worker(library, data))
    return _WORKERS[0]


@atexit.register
def _let_go() -> None:
    while _WORKERS:
        _WORKERS.pop().close()


def _library() -> tuple[str, str]:
    """Paths of the shared library and its data."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise FewstepError(
            "speech needs the espeakng-loader package", "", 'pip install "fewstep[audio]"'
        ) from error
    return espeakng_loader.get_library_path(), espeakng_loader.get_data_path()


def _check_variants(data: Path, voices: set[str]) -> None:
    """espeak-ng itself passes over an unknown variant in silence."""
    known = {file.name for file in (data / "voices" / "!v").iterdir()}
    for voice in sorted(voices):
        variant = voice.partition("+")[2]
        if variant and variant not in known:
            raise FewstepError(
                f"voice {voice!r} has an unknown variant{nearest(variant, known)}",
                f"one of {', '.join(sorted(known))}",
                "correct what follows the +",
            )
