"""A voice that sings: espeak-ng's speech, taken apart and put together on the notes by WORLD.

WORLD (Morise et al. 2016) splits speech into pitch, spectral envelope and aperiodicity. Here vowels are stretched to
their notes, consonants keep their lengths, and the pitch is that of the score. How it is sung (:class:`Manner`) is
drawn for every take and told to nobody: the same score has many renderings, as with a human singer.
Shape legend: H half frames (128 samples), P phones, K bins of the envelope.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from fewstep.errors import FewstepError
from fewstep.protocol import Key
from fewstep_audio.singing.line import Line
from fewstep_audio.singing.score import REST
from fewstep_audio.singing.syllables import NUCLEI, UNVOICED
from fewstep_audio.sound.mel import MelContract
from fewstep_audio.speech.espeak import Speech
from fewstep_audio.speech.phones import ALPHABET

Track = NDArray[np.float64]

GLIDING = frozenset(number for number in NUCLEI if ALPHABET[number - 1][:2] in ("aɪ", "aʊ", "eɪ", "oʊ", "ɔɪ"))
"""Diphthongs: a singer holds their first sound and moves to the second at the end."""

LEVEL, PEAK = 0.08, 0.95
"""Root mean square of what is sung, and the largest sample."""

ROOM = 3e-4
"""Standard deviation of the noise of the room, so that rests are quiet and not digital silence."""


@dataclass(frozen=True)
class Manner:
    """How a take is sung; hidden from the networks.

    Args:
        tuning: cents above the score.
        depth: of the vibrato, in cents.
        rate: of the vibrato, in Hz.
        phase: of the vibrato, in turns.
        glide: seconds from one pitch to the next.
        formants: factor on the frequencies of the vocal tract; 1.05 is a shorter one.
    """

    tuning: float
    depth: float
    rate: float
    phase: float
    glide: float
    formants: float


def manner(key: Key) -> Manner:
    """One way to sing, from the ranges of trained voices (vibrato: Prame 1994, 1997)."""
    cents, depth, rate, phase, glide, formants = key.at("manner").uniform((6,)).tolist()
    return Manner(
        24 * cents - 12, 60 * depth, 5 + 1.5 * rate, phase, 0.04 + 0.08 * glide, 0.93 + 0.14 * formants
    )


@dataclass(frozen=True)
class Taken:
    """Speech taken apart.

    Args:
        envelope: (H, K) natural logarithm of the power.
        breath: (H, K) aperiodicity, 0 to 1.
        edges: (P + 1,) half frames where phones begin, and the end.
    """

    envelope: Track
    breath: Track
    edges: NDArray[np.int64]


def taken_apart(speech: Speech, phones: NDArray[np.int64], starts: NDArray[np.int64], hop: int) -> Taken:
    """WORLD's analysis, vowels taken as voiced throughout.

    Args:
        speech: monotone, so that its pitch is easy to find.
        phones: (P,) numbers.
        starts: (P,) first sample of each.
        hop: samples of a half frame.

    Raises:
        FewstepError: pyworld is not there, or the speech has no voiced sound.
    """
    world = _world()
    wave, step = speech.wave.astype(np.float64), 1000 * hop / speech.rate
    found, when = world.dio(wave, speech.rate, frame_period=step)
    pitch = world.stonemask(wave, found, when, speech.rate)
    if not (pitch > 0).any():
        raise FewstepError("the voice has no voiced sound", "a voice that speaks", "choose another voice")
    edges = np.append(np.round(starts / hop).astype(np.int64), len(pitch))
    voiced = np.repeat(~np.isin(phones, list(UNVOICED)), np.diff(edges))
    usual = np.median(pitch[pitch > 0])
    pitch[edges[0] :] = np.where(
        voiced & (pitch[edges[0] :] == 0), usual, np.where(voiced, pitch[edges[0] :], 0.0)
    )
    pitch[: edges[0]] = 0.0
    envelope = world.cheaptrick(wave, pitch, when, speech.rate)
    return Taken(np.log(envelope), world.d4c(wave, pitch, when, speech.rate), edges)


def sing(
    line: Line, frames: NDArray[np.int64], taken: Taken, how: Manner, contract: MelContract, key: Key
) -> NDArray[np.float32]:
    """(N,) samples whose spectrogram has exactly as many frames as the line.

    Args:
        line: what is sung.
        frames: (P,) of each phone.
        taken: its words as they were spoken.
        how: the manner of this take.
        contract: what a frame is.
        key: of the room's noise.

    Raises:
        FewstepError: pyworld is not there.
    """
    hop = contract.hop // 2
    halves = 2 * frames
    where = _places(line, halves, taken)
    envelope, breath = (_between(table, where) for table in (taken.envelope, taken.breath))
    pitch = contour(line, frames, how, contract)
    voiced = np.repeat(~np.isin(line.said.phones.numpy(), list(UNVOICED)), halves)
    wave = _world().synthesize(
        np.where(voiced, pitch, 0.0),
        np.exp(_warped(envelope, how.formants)),
        np.clip(_warped(breath, how.formants), 0.0, 1.0),
        contract.rate,
        1000 * hop / contract.rate,
    )
    samples = contract.hop * int(frames.sum()) - 1
    wave = np.pad(wave, (0, max(0, samples - len(wave))))[:samples]
    loud = _loudness(np.repeat(line.note.numpy() != REST, halves), samples, hop)
    wave = wave * loud
    wave *= min(LEVEL / np.sqrt((wave**2).sum() / loud.sum()), (PEAK - 5 * ROOM) / np.abs(wave).max())
    room = key.at("room").uniform((samples,)).numpy() - 0.5
    return (wave + np.sqrt(12) * ROOM * room).astype(np.float32)


def contour(line: Line, frames: NDArray[np.int64], how: Manner, contract: MelContract) -> Track:
    """(H,) pitch in Hz: the notes, with smooth transitions, and vibrato that grows within each note."""
    halves, hop = 2 * frames, contract.hop / 2 / contract.rate
    steps = np.repeat(_filled(line.note.numpy()), halves).astype(np.float64)
    window = np.hanning(2 * round(how.glide / hop / 2) + 3)
    smooth = np.convolve(np.pad(steps, len(window) // 2, mode="edge"), window / window.sum(), mode="valid")
    ages = np.concatenate([np.arange(count) * hop for count in halves])
    held = np.repeat(line.holds.numpy(), halves)
    grown = np.clip((ages - 0.15) / 0.2, 0, 1) * held
    wave = np.sin(2 * np.pi * (how.rate * np.arange(len(steps)) * hop + how.phase))
    return 440 * 2 ** ((smooth - 69 + (how.tuning + how.depth * grown * wave) / 100) / 12)


def _filled(notes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rests take the pitch of the note that follows, the last one that of the note before."""
    filled = notes.copy()
    for i in range(len(notes) - 2, -1, -1):
        filled[i] = filled[i] or filled[i + 1]
    for i in range(1, len(notes)):
        filled[i] = filled[i] or filled[i - 1]
    return filled


def _places(line: Line, halves: NDArray[np.int64], taken: Taken) -> Track:
    """(H,) half frame of the speech for each of the song; rests repeat what comes before or after."""
    source, phones = line.source.numpy(), line.said.phones.numpy()
    parts: list[Track] = []
    i = 0
    while i < len(source):
        last = i + 1
        while last < len(source) and line.slur[last]:
            last += 1  # one vowel over several notes is one stretch
        count = int(halves[i:last].sum())
        if source[i] < 0:
            here = float(parts[-1][-1]) if parts else float(taken.edges[0])
            parts.append(np.full(count, here))
        else:
            begin, end = taken.edges[source[i]], taken.edges[source[i] + 1]
            parts.append(begin + _stretched(max(int(end - begin), 1), count, int(phones[i])))
        i = last
    return np.concatenate(parts)


def _stretched(there: int, wanted: int, phone: int) -> Track:
    """(wanted,) places in a phone of ``there`` half frames: vowels keep their ends and are held in between."""
    out = np.arange(wanted) + 0.5
    if phone not in NUCLEI or wanted <= there:
        return out * there / wanted - 0.5
    begin, end = (0.2, 0.45) if phone in GLIDING else (0.3, 0.7)
    corners = (0.0, begin * there, wanted - (1 - end) * there, float(wanted))
    return np.interp(out, corners, (0.0, begin * there, end * there, float(there))) - 0.5


def _between(table: Track, where: Track) -> Track:
    """Rows between rows."""
    where = np.clip(where, 0, len(table) - 1)
    low = np.minimum(where.astype(np.int64), len(table) - 2)
    share = (where - low)[:, None]
    return table[low] * (1 - share) + table[low + 1] * share


def _warped(table: Track, factor: float) -> Track:
    """(H, K) with frequencies multiplied by ``factor``."""
    return np.ascontiguousarray(_between(table.T, np.arange(table.shape[1]) / factor).T)


def _loudness(sounding: NDArray[np.bool_], samples: int, hop: int, fade: int = 9) -> Track:
    """(N,) gain, 0 in rests, with ends faded over 50 ms."""
    window = np.hanning(fade + 2)[1:-1]
    soft = np.convolve(sounding.astype(np.float64), window / window.sum(), mode="same") * sounding
    return np.interp(np.arange(samples), np.arange(len(soft)) * hop, soft)


def _world() -> ModuleType:
    try:
        import warnings

        with warnings.catch_warnings():  # pyworld asks pkg_resources for its own version
            warnings.simplefilter("ignore")
            import pyworld
    except ImportError as error:
        raise FewstepError(
            "singing needs the pyworld package, or its setuptools<81 is missing",
            "",
            'pip install "fewstep[singing]"',
        ) from error
    return pyworld
