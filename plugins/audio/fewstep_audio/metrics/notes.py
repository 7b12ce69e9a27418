"""Which notes sound, as an independent listener hears them: the transcriber of Bittner et al. 2022 (basic-pitch).

Its network is a file of the package basic-pitch, run here by onnxruntime alone: what the package itself asks for is
not needed. 22 050 Hz in, 86 frames per second of 88 keys out.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fewstep.errors import FewstepError
from fewstep_audio.music.notes import melody, pitch_class

RATE, HOP = 22050, 256
WINDOW, FRAMES = 43_844, 172
"""Samples that the network takes, and frames that it gives of them."""
MARGIN = 15
"""Frames at each end of a window that are not trusted."""
THRESHOLDS = (0.2, 0.3, 0.4, 0.5)
FRAME_RATE = RATE / HOP


def heard(wave: np.ndarray) -> np.ndarray:
    """(N,) samples at 22 050 Hz -> (88, T) float32, how sure it is that each key sounds; T = N // 256 + 1.

    Raises:
        FewstepError: onnxruntime or the file of the network is not there.
    """
    session = _session()
    kept = FRAMES - 2 * MARGIN
    frames = len(wave) // HOP + 1
    padded = np.concatenate([np.zeros(MARGIN * HOP), wave, np.zeros(WINDOW)]).astype(np.float32)
    windows = [padded[begin * HOP :][:WINDOW] for begin in range(0, frames, kept)]
    asked = {session.get_inputs()[0].name: np.stack(windows)[:, :, None]}
    (notes,) = session.run(["StatefulPartitionedCall:1"], asked)
    return np.concatenate(list(notes[:, MARGIN:-MARGIN]))[:frames].T


def frame_f1(found: np.ndarray, truth: np.ndarray) -> float:
    """Harmonic mean of precision and recall over keys and frames, both (88, T) bool (Bay et al. 2009)."""
    both = np.logical_and(found, truth).sum()
    return float(2 * both / max(1, found.sum() + truth.sum()))


def best_threshold(sure: np.ndarray, truth: np.ndarray) -> float:
    """Of ``THRESHOLDS``, the one with the best F1 on music that is set aside for this choice."""
    return max(THRESHOLDS, key=lambda threshold: frame_f1(sure > threshold, truth))


def shuffled(grid: np.ndarray, seed: int = 0) -> np.ndarray:
    """(88, T) with its keys in another order: the same rhythm, other pitches. What chance would reach."""
    used = np.flatnonzero(grid.any(1))
    span = np.arange(used.min(), used.max() + 1) if len(used) else used
    moved = grid.copy()
    moved[span] = grid[np.random.default_rng(seed).permutation(span)]
    return moved


def melody_hits(found: np.ndarray, classes: np.ndarray) -> float:
    """Share of a melody's frames in which the highest note that was heard is of its pitch class.

    Args:
        found: (88, T) bool, keys that were heard.
        classes: (T,) 0 = C to 11 = B, -1 where the melody rests; such frames do not count.
    """
    sung = classes >= 0
    top = pitch_class(melody(found))
    return float((top == classes)[sung].mean()) if sung.any() else float("nan")


@lru_cache(maxsize=1)
def _session() -> Any:
    spec = find_spec("basic_pitch")
    places = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]
    files = itertools.chain.from_iterable(place.rglob("nmp.onnx") for place in places)
    file = next(files, None)
    if file is None or find_spec("onnxruntime") is None:
        raise FewstepError(
            "the transcriber of notes is not installed",
            "onnxruntime, and the file nmp.onnx of the package basic-pitch",
            'pip install "fewstep[listening]" && pip install --no-deps basic-pitch',
        )
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
