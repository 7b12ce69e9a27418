"""Recordings that a user brings: any format and rate that libsndfile reads, to mono at the contract's rate.

What cannot be used is refused with the reason: unreadable, empty, silent, distorted, too long. Nothing is repaired in
silence, and an hour-long file costs no more memory than what is asked of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import soundfile
import torch
import torchaudio
from torch import Tensor

from fewstep.errors import FewstepError
from fewstep_audio.sound.mel import MelContract

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au"})
"""Names of files that are taken for recordings."""

FLAT = 2e-5
"""Relative difference from the peak that counts as none: below the step of 16 bits."""

SHORTEST = 0.1
"""Seconds; below it there is not even a syllable."""

QUIETEST = 10 ** (-60 / 20)
"""Peak; below -60 dB of full scale a file is silence."""

TOP = 40.0
"""Decibels below the loudest frame at which the ends of a recording count as silence and are cut off."""

CLIPPED = 0.01
"""Share of samples at the file's peak, in runs of three or more, above which a recording is distorted."""


@dataclass(frozen=True)
class Refused(Exception):  # noqa: N818 - it is an answer as often as it is an error
    """Why a recording cannot be used.

    Args:
        path: the file.
        reason: in words.
    """

    path: Path
    reason: str

    def __str__(self) -> str:
        """``name: reason``."""
        return f"{self.path.name}: {self.reason}"


def read_recording(path: Path | str, contract: MelContract, longest: float = 30.0) -> Tensor:
    """(N,) float32 samples in [-1, 1] at the contract's rate; channels are averaged.

    Args:
        path: the file.
        contract: gives the rate.
        longest: seconds; a longer file is refused.

    Raises:
        FewstepError: saying what is wrong with the file.
    """
    try:
        return heard_file(Path(path), contract, longest)
    except Refused as problem:
        raise FewstepError(
            f"the recording {path} cannot be used: {problem.reason}",
            f"sound between {SHORTEST:g} and {longest:g} seconds that is neither silent nor distorted",
            "give another recording",
        ) from problem


def read_recordings(paths: Sequence[Path], contract: MelContract, longest: float = 30.0) -> list[Tensor]:
    """Each as :func:`read_recording`.

    Raises:
        FewstepError: naming every file that cannot be used, with the reason.
    """
    waves, refused = [], []
    for path in paths:
        try:
            waves.append(heard_file(path, contract, longest))
        except Refused as problem:
            refused.append(f"{path}: {problem.reason}")
    if refused:
        raise FewstepError(
            f"{len(refused)} of {len(paths)} recordings cannot be used:\n  " + "\n  ".join(refused),
            f"sounds between {SHORTEST:g} and {longest:g} seconds that are neither silent nor distorted",
            "mend or replace them, or take them out of the folder",
        )
    return waves


def heard_file(path: Path, contract: MelContract, longest: float) -> Tensor:
    """As :func:`read_recording`, for those who count refusals.

    Raises:
        Refused: with the reason.
    """
    wave, rate = _samples(path, longest)
    if not np.isfinite(wave).all():
        raise Refused(path, "it holds values that are not numbers")
    peak = float(np.abs(wave).max())
    if peak < QUIETEST:
        raise Refused(path, f"it is silent (peak {peak:.1g} of full scale)")
    share = flat_share(wave)
    if share > CLIPPED:
        raise Refused(path, f"it is distorted: {share:.0%} of its samples are cut off at its peak")
    mono = torch.from_numpy(wave.mean(1))
    if float(mono.abs().max()) < QUIETEST:
        raise Refused(path, "its channels cancel each other")
    return torchaudio.functional.resample(mono, rate, contract.rate).clamp(-1, 1)


def _samples(path: Path, longest: float) -> tuple[np.ndarray, int]:
    """(N, channels) float32 and the rate; the header is read first, so that a long file is not loaded."""
    if not path.is_file():
        raise Refused(path, "there is no such file")
    try:
        with soundfile.SoundFile(path) as file:
            seconds = file.frames / file.samplerate
            if seconds < SHORTEST:
                raise Refused(path, f"it lasts {seconds:.2g} seconds")
            if seconds > longest:
                raise Refused(path, f"it lasts {told(seconds)}, at most {told(longest)} can be used at once")
            return file.read(dtype="float32", always_2d=True), file.samplerate
    except soundfile.LibsndfileError as error:
        raise Refused(path, f"it is not a sound file that can be read ({error.error_string})") from error


def flat_share(wave: np.ndarray) -> float:
    """Share of samples that stand at the peak of their channel in runs of three or more: a cut-off wave is flat."""
    peak = np.abs(wave).max(0, keepdims=True)
    top = (np.abs(wave) >= (1 - FLAT) * peak) & (peak > 0)
    inner = top[1:-1] & top[:-2] & top[2:]
    return float(inner.mean()) if len(inner) else 0.0


def trimmed(wave: Tensor, contract: MelContract) -> Tensor:
    """Without the silence before and after, but for one hop and four."""
    _, (begin, end) = librosa.effects.trim(
        wave.numpy(), top_db=TOP, frame_length=contract.window, hop_length=contract.hop
    )
    return wave[max(0, int(begin) - contract.hop) : int(end) + 4 * contract.hop]


def recordings_in(folder: Path) -> Sequence[Path]:
    """Files under a folder that are named like recordings, in the order of their paths.

    Raises:
        FewstepError: there is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise FewstepError(f"{folder} is not a folder", "a folder of recordings", "correct the path")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise FewstepError(
            f"there is no recording under {folder}",
            f"files named {', '.join(sorted(SUFFIXES))}",
            "point at the folder that holds the sound files",
        )
    return found


def told(seconds: float) -> str:
    """A length in words: ``42 s``, ``3 min``, ``1.5 h``."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
