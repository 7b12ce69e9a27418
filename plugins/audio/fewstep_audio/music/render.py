"""From notes to sound: fluidsynth where it is installed, else the tinysoundfont wheel; the same notes give the same samples.

Reverb and chorus are off: what is played is dry, so that both make nearly the same sound.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import soundfile

from fewstep.errors import FewstepError
from fewstep_audio.music.notes import Tune

FONTS = (Path("/usr/share/sounds/sf2/TimGM6mb.sf2"),)
"""Where Debian's timgm6mb-soundfont puts its file; pretty_midi brings the same one."""

Player: TypeAlias = Literal["auto", "fluidsynth", "tinysoundfont"]
Render: TypeAlias = Callable[[Tune, np.ndarray, int, float, int], np.ndarray]
DRUMS = 9
"""The channel, from 0, on which General MIDI has drums."""


def play(
    notes: Tune, velocities: np.ndarray, program: int, seconds: float, rate: int, player: Player = "auto"
) -> np.ndarray:
    """(rate * seconds,) float32 samples of the notes.

    Args:
        notes: what is played; each part has a channel of its own.
        velocities: (N,) 1 to 127, how loud each note is.
        program: General MIDI instrument, 0 to 127; 0 = grand piano, 19 = church organ, 48 = strings.
        seconds: length; what sounds later is cut.
        rate: samples per second.
        player: who plays; "auto" takes fluidsynth if it is there.

    Raises:
        FewstepError: neither player is installed, or there is no soundfont.
    """
    return _PLAYERS[chosen(player)](notes, velocities, program, seconds, rate)


def chosen(player: Player = "auto") -> str:
    """Who plays.

    Raises:
        FewstepError: whoever was asked for is not installed.
    """
    there = {
        "fluidsynth": shutil.which("fluidsynth") is not None,
        "tinysoundfont": find_spec("tinysoundfont") is not None,
    }
    if player != "auto" and there[player]:
        return player
    if player == "auto" and any(there.values()):
        return next(name for name, found in there.items() if found)
    raise FewstepError(
        f"no player of MIDI was found (asked for {player})",
        "the program fluidsynth or the Python package tinysoundfont",
        "apt-get install fluidsynth timgm6mb-soundfont, or pip install --no-deps tinysoundfont",
    )


def soundfont() -> Path:
    """The soundfont TimGM6mb: Debian's, else the one that pretty_midi brings.

    Raises:
        FewstepError: it is in neither place.
    """
    spec = find_spec("pretty_midi")
    brought = [] if spec is None or spec.origin is None else [Path(spec.origin).with_name("TimGM6mb.sf2")]
    for file in (*brought, *FONTS):
        if file.is_file():
            return file
    raise FewstepError(
        "no soundfont was found",
        "TimGM6mb.sf2, which the package pretty_midi brings",
        'pip install "fewstep[music]", or apt-get install timgm6mb-soundfont',
    )


def _fluidsynth(notes: Tune, velocities: np.ndarray, program: int, seconds: float, rate: int) -> np.ndarray:
    """Through a MIDI file and the program's fast rendering."""
    import pretty_midi

    song = pretty_midi.PrettyMIDI(resolution=960)
    parts: dict[int, pretty_midi.Instrument] = {}
    for (start, end, pitch, part), velocity in zip(notes.notes, velocities, strict=True):
        voice = parts.setdefault(int(part), pretty_midi.Instrument(program))
        voice.notes.append(pretty_midi.Note(int(velocity), int(pitch), float(start), float(end)))
    song.instruments.extend(parts.values())
    with tempfile.TemporaryDirectory() as folder:
        score, sound = Path(folder, "notes.mid"), Path(folder, "sound.wav")
        song.write(str(score))
        command = ["fluidsynth", "-ni", "-q", "-g", "0.6", "-R", "0", "-C", "0", "-r", str(rate)]
        command += ["-O", "float", "-F", str(sound), str(soundfont()), str(score)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not sound.is_file():
            raise FewstepError(
                f"fluidsynth failed: {done.stderr.strip()[-300:]}",
                "a sound file",
                "try the tinysoundfont package instead",
            )
        wave, _ = soundfile.read(sound, dtype="float32", always_2d=True)
    return _fitted(wave.mean(1), seconds, rate)


def _tinysoundfont(
    notes: Tune, velocities: np.ndarray, program: int, seconds: float, rate: int
) -> np.ndarray:
    """By turning keys on and off between blocks of samples."""
    import tinysoundfont

    synth = tinysoundfont.Synth(samplerate=rate, gain=-2.0)
    font = synth.sfload(str(soundfont()))
    for part in range(16):
        synth.program_select(part, font, 0, program)
    events = [
        (time, on, int(pitch), int(part), int(velocity))
        for (start, end, pitch, part), velocity in zip(notes.notes, velocities, strict=True)
        for time, on in ((start, True), (end, False))
    ]
    blocks, now = [], 0
    for time, on, pitch, part, velocity in sorted(events):  # at one moment keys go up before others go down
        then = min(round(time * rate), round(seconds * rate))
        blocks.append(_samples(synth, then - now))
        now = then
        if on:
            synth.noteon(_channel(part), pitch, velocity)
        else:
            synth.noteoff(_channel(part), pitch)
    blocks.append(_samples(synth, round(seconds * rate) - now))
    return _fitted(np.concatenate(blocks), seconds, rate)


def _samples(synth: object, count: int) -> np.ndarray:
    if count <= 0:
        return np.zeros(0, dtype=np.float32)
    block = np.frombuffer(bytes(synth.generate(count)), dtype=np.float32)  # type: ignore[attr-defined]
    return block.reshape(-1, 2).mean(1)


def _channel(part: int) -> int:
    """Parts share 15 channels; the tenth is for drums."""
    channel = part % 15
    return channel + (channel >= DRUMS)


def _fitted(wave: np.ndarray, seconds: float, rate: int) -> np.ndarray:
    """Exactly so many samples, silent after the end."""
    wanted = round(seconds * rate)
    return np.pad(wave[:wanted], (0, max(0, wanted - len(wave)))).astype(np.float32)


_PLAYERS: dict[str, Render] = {"fluidsynth": _fluidsynth, "tinysoundfont": _tinysoundfont}


def velocities(notes: Tune, levels: Sequence[float], every: float) -> np.ndarray:
    """(N,) 1 to 127: how loud notes are when the dynamics pass through ``levels``, one ``every`` so many seconds."""
    times = np.arange(len(levels)) * every
    return np.interp(notes.notes[:, 0], times, levels).round().clip(1, 127).astype(np.int64)
