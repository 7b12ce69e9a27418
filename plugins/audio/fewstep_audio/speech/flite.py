"""Recorded-unit voices without a download: Carnegie Mellon's flite, where the system has it (Debian: ``flite``).

Its audio is used, not its phones: texts are spelled by espeak-ng like everywhere else and aligned, so that a model
trained on flite's voices speaks any text without flite.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from fewstep.errors import FewstepError, nearest
from fewstep_audio.sound.mel import MelContract
from fewstep_audio.sound.recordings import read_recording, trimmed

PREFIX = "flite:"
"""A voice called ``flite:slt`` is flite's ``slt``."""

VOICES = ("slt", "rms", "awb", "kal16")
"""Two American speakers, a Scottish one, and a diphone voice, all at 16 kHz."""


def is_flite(voice: str) -> bool:
    """Whether a voice is flite's."""
    return voice.startswith(PREFIX)


def check_flite(voices: Sequence[str]) -> None:
    """Find what is missing before anything is spoken.

    Raises:
        FewstepError: flite is not there, or has no such voice.
    """
    wanted = [voice.removeprefix(PREFIX) for voice in voices if is_flite(voice)]
    if not wanted:
        return
    if shutil.which("flite") is None:
        raise FewstepError(
            f"voice {PREFIX}{wanted[0]} needs the program flite",
            "flite on the path",
            "install it (Debian and Ubuntu: apt-get install flite), or use espeak-ng's voices such as en-us+f2",
        )
    for voice in wanted:
        if voice not in VOICES:
            raise FewstepError(
                f"flite has no voice {voice!r}{nearest(voice, VOICES)}",
                f"one of {', '.join(PREFIX + name for name in VOICES)}",
                "correct the voice",
            )


def flite(text: str, voice: str, contract: MelContract, stretch: float = 1.0) -> Tensor:
    """(N,) samples of a text at the contract's rate, without silence at the ends; the same text gives the same samples.

    Args:
        text: plain English.
        voice: ``flite:slt`` and the like.
        contract: gives the rate.
        stretch: 1.4 speaks so much slower.

    Raises:
        FewstepError: flite is not there or fails.
    """
    check_flite([voice])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "speech.wav"
        command = ["flite", "-voice", voice.removeprefix(PREFIX), "--setf", f"duration_stretch={stretch}"]
        done = subprocess.run([*command, "-t", text, "-o", str(file)], capture_output=True, check=False)
        if done.returncode or not file.is_file():
            lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
            raise FewstepError(f"flite failed on {text!r}: {lines[-1]}", "", "try the command flite yourself")
        return trimmed(read_recording(file, contract), contract)
