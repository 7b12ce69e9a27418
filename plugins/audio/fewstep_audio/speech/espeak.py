"""Real speech without a system package: espeak-ng through the ``espeakng-loader`` wheel, with exact phone times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

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

    Raises:
        FewstepError: espeak-ng is not there, does not start, or refuses a voice or a text.
    """
    if not requests:
        return []
    with tempfile.TemporaryDirectory() as folder:
        library, data = _library(Path(folder))
        _check_variants(Path(data), {request.voice for request in requests})
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(WORKER), library, data],
            input=json.dumps([asdict(request) for request in requests]).encode(),
            capture_output=True,
            check=False,
        )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise FewstepError(
            f"espeak-ng failed: {lines[-1]}",
            "the library of the espeakng-loader package",
            'pip install --force-reinstall "fewstep[audio]"',
        )
    return list(_read(done.stdout, requests))


def _library(folder: Path) -> tuple[str, str]:
    """Paths of the shared library and its data; a long data path is reached through a short link in ``folder``."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise FewstepError(
            "speech needs the espeakng-loader package", "", 'pip install "fewstep[audio]"'
        ) from error
    data = espeakng_loader.get_data_path()
    if len(os.fsencode(data)) > LONGEST_PATH:
        link = folder / "espeak-ng-data"
        link.symlink_to(data, target_is_directory=True)
        data = str(link)
    return espeakng_loader.get_library_path(), data


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


def _read(answer: bytes, requests: Sequence[Request]) -> Iterator[Speech]:
    stream = BytesIO(answer)
    rate = int(stream.read(8), 16)
    for request in requests:
        header = json.loads(stream.read(int(stream.read(8), 16)))
        if "error" in header:
            raise FewstepError(
                f"{header['error']} (text {request.text!r})", "", "see the voices that espeak-ng ships"
            )
        pcm = np.frombuffer(stream.read(2 * header["samples"]), dtype=np.int16)
        names = tuple(name for name, _ in header["phones"])
        starts = np.array([start for _, start in header["phones"]], dtype=np.int64)
        yield Speech(pcm.astype(np.float32) / 32768, rate, names, starts)
