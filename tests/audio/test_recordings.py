"""Recordings of any rate are read; what cannot be used is refused with its reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from fewstep.errors import FewstepError
from fewstep_audio.sound.mel import MelContract
from fewstep_audio.sound.pitch import pitch
from fewstep_audio.sound.recordings import flat_share, read_recording, read_recordings, recordings_in

CONTRACT = MelContract()


def tone(rate: int, seconds: float = 1.0, level: float = 0.4, hertz: float = 220.0) -> np.ndarray:
    time = np.arange(int(rate * seconds)) / rate
    return (level * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def write(folder: Path, wave: np.ndarray, rate: int, name: str = "take.wav") -> Path:
    soundfile.write(folder / name, wave, rate)
    return folder / name


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000, 96000])
def test_a_tone_has_its_pitch_at_any_sample_rate(tmp_path: Path, rate: int) -> None:
    wave = read_recording(write(tmp_path, tone(rate), rate), CONTRACT)
    assert abs(len(wave) - CONTRACT.rate) <= 2
    assert abs(float(pitch(wave, CONTRACT)[10:-10].median()) - 220) < 3


@pytest.mark.parametrize("name", ["take.flac", "take.ogg", "take.mp3"])
def test_compressed_formats_are_read(tmp_path: Path, name: str) -> None:
    wave = read_recording(write(tmp_path, tone(44100), 44100, name), CONTRACT)
    assert 0.2 < float(wave.abs().max()) < 0.5


def test_channels_are_averaged(tmp_path: Path) -> None:
    stereo = np.stack([tone(22050), np.zeros(22050, np.float32)], 1)
    assert abs(float(read_recording(write(tmp_path, stereo, 22050), CONTRACT).abs().max()) - 0.2) < 0.01


def test_clipped_speech_is_told_from_loud_speech(tmp_path: Path) -> None:
    loud = np.clip(1.05 * tone(22050, level=0.9), -1, 1)
    assert flat_share(loud) < 0.01
    read_recording(write(tmp_path, loud, 22050), CONTRACT)


REFUSED = {
    "empty": (np.zeros(0, np.float32), "lasts 0 seconds"),
    "short": (tone(22050, 0.05), "lasts 0.05 seconds"),
    "silent": (np.zeros(22050, np.float32), "silent"),
    "clipped": (np.clip(8 * tone(22050), -1, 1), "distorted"),
    "cancelling": (np.stack([tone(22050), -tone(22050)], 1), "cancel each other"),
    "long": (tone(8000, 31.0), "at most 30 s"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_recording_that_cannot_be_used_is_refused_with_the_reason(tmp_path: Path, kind: str) -> None:
    wave, reason = REFUSED[kind]
    with pytest.raises(FewstepError, match=reason):
        read_recording(write(tmp_path, wave, 8000 if kind == "long" else 22050), CONTRACT)


def test_values_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    wave = tone(22050)
    wave[100] = np.nan
    soundfile.write(tmp_path / "take.wav", wave, 22050, subtype="FLOAT")
    with pytest.raises(FewstepError, match="not numbers"):
        read_recording(tmp_path / "take.wav", CONTRACT)


def test_a_file_that_is_no_sound_is_refused(tmp_path: Path) -> None:
    (tmp_path / "take.wav").write_text("once upon a time")
    with pytest.raises(FewstepError, match="not a sound file"):
        read_recording(tmp_path / "take.wav", CONTRACT)


def test_all_recordings_that_cannot_be_used_are_told_at_once(tmp_path: Path) -> None:
    paths = [tmp_path / "a.wav", tmp_path / "b.wav", tmp_path / "c.wav"]
    soundfile.write(paths[0], np.zeros(22050), 22050)
    soundfile.write(paths[1], 0.5 * np.sin(np.arange(22050) / 10), 22050)
    with pytest.raises(
        FewstepError, match=r"2 of 3 recordings(.|\n)*a.wav: it is silent(.|\n)*c.wav: there is no"
    ):
        read_recordings(paths, CONTRACT)
    assert len(read_recordings(paths[1:2], CONTRACT)) == 1


def test_an_hour_of_sound_is_refused_without_being_loaded(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 8000, 1, subtype="PCM_U8") as file:
        for _ in range(3700):
            file.write(np.zeros(8000, np.float32))
    with pytest.raises(FewstepError, match=r"lasts 61\.7 min"):
        read_recording(path, CONTRACT)


def test_a_folder_without_recordings_says_what_they_are_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(FewstepError, match=r"\.wav"):
        recordings_in(tmp_path)


def test_recordings_are_found_in_subfolders_in_one_order(tmp_path: Path) -> None:
    for name in ("b/2.wav", "a/1.FLAC", "a/x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in recordings_in(tmp_path)] == ["1.FLAC", "2.wav"]
