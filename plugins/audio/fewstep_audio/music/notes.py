"""Notes in seconds: a tune, its melody, and the grids of notes by time that targets and transcribers share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

LOWEST, KEYS = 21, 88
"""MIDI number of the first key of a piano, and how many there are."""
CLASSES = 12


@dataclass(frozen=True)
class Tune:
    """Notes of a piece.

    Args:
        name: where they come from.
        notes: (N, 4) float64, by start: start and end in seconds, MIDI pitch, part (0 is the first of the score).
    """

    name: str
    notes: np.ndarray

    @property
    def seconds(self) -> float:
        """When the last note ends."""
        return float(self.notes[:, 1].max(initial=0.0))

    def cut(self, begin: float, seconds: float) -> Tune:
        """What sounds in that window, which begins at 0; notes that reach across its edges are shortened."""
        inside = self.notes[(self.notes[:, 1] > begin) & (self.notes[:, 0] < begin + seconds)].copy()
        inside[:, :2] = (inside[:, :2] - begin).clip(0, seconds)
        return replace(self, notes=inside)

    def transposed(self, semitones: int) -> Tune:
        """The same tune, higher by so many semitones."""
        return replace(self, notes=self.notes + np.array([0, 0, semitones, 0]))


def tune(name: str, notes: Sequence[tuple[float, float, float, float]]) -> Tune:
    """A tune of (start, end, pitch, part) in any order."""
    made = np.array(sorted(notes), dtype=np.float64).reshape(-1, 4)
    return Tune(name, made)


def roll(notes: Tune, frames: int, rate: float) -> np.ndarray:
    """(88, T) bool: which keys of a piano sound at the time of each frame, ``rate`` frames per second."""
    grid = np.zeros((KEYS, frames), dtype=bool)
    for start, end, pitch, _ in notes.notes:
        key = int(pitch) - LOWEST
        if 0 <= key < KEYS:
            grid[key, _first(start, rate) : _first(end, rate)] = True
    return grid


def _first(seconds: float, rate: float) -> int:
    """The first frame that is not before that time."""
    return max(0, int(np.ceil(seconds * rate - 1e-9)))


def melody(grid: np.ndarray) -> np.ndarray:
    """(T,) int64 highest sounding key of (88, T), 0 to 87; -1 where nothing sounds (Uitdenbogerd & Zobel 1999)."""
    highest = KEYS - 1 - grid[::-1].argmax(0)
    return np.where(grid.any(0), highest, -1).astype(np.int64)


def pitch_class(key: np.ndarray) -> np.ndarray:
    """0 = C to 11 = B of keys of the piano; -1 stays."""
    return np.where(key < 0, -1, (key + LOWEST) % CLASSES)


def intervals(notes: Tune, count: int = 12) -> tuple[int, ...]:
    """Steps between the first notes of the first part, in semitones: the same in every key."""
    first = notes.notes[notes.notes[:, 3] == 0]
    return tuple(int(step) for step in np.diff(first[: count + 1, 2]))
