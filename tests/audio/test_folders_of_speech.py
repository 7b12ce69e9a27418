"""Speech that a user brings: flite's voices and folders of recordings, with phones carried over from espeak-ng."""

from __future__ import annotations

import logging
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from fewstep.errors import FewstepError
from fewstep_audio.sound.mel import MelContract
from fewstep_audio.speech.alignment import carried
from fewstep_audio.speech.corpus import CorpusSettings, load_corpus
from fewstep_audio.speech.espeak import Request, speak
from fewstep_audio.speech.flite import check_flite
from fewstep_audio.speech.folder import listed, load_folder
from fewstep_audio.speech.utterance import heard
from fewstep_audio.speech.voices import references

CONTRACT = MelContract()
TEXTS = ("The river runs under the old bridge.", "She put a blue cup on the table.", "We enjoy the music.")
needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="Debian's flite is not installed")


def said(text: str, voice: str = "en-us+m3", rate: int = 175) -> np.ndarray:
    return speak([Request(text, voice, 40, 30, rate)])[0].wave


def ljspeech(folder: Path, voice: str = "en-us+m3") -> Path:
    """A small folder in LJSpeech's layout, at another sample rate, with silence around each recording."""
    (folder / "wavs").mkdir(parents=True)
    lines = []
    for number, text in enumerate(TEXTS * 2):
        rate, wave = (16000, said(text, voice))
        quiet = np.zeros(8000, np.float32)
        resampled = np.interp(np.arange(0, len(wave), 22050 / rate), np.arange(len(wave)), wave)
        whole = np.concatenate([quiet, resampled, quiet])
        soundfile.write(folder / "wavs" / f"A{number}.wav", whole, rate)
        lines.append(f"A{number}|{text}|{text}")
    (folder / "metadata.csv").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize(("voice", "rate"), [("en-us+m3", 220), ("en-us+f2", 140)])
def test_phones_are_carried_onto_another_voice_at_another_pace(voice: str, rate: int) -> None:
    errors = []
    for text, told in zip(TEXTS, references(TEXTS, CONTRACT), strict=True):
        request = Request(text, voice, 40, 30, rate)
        other = heard(request, speak([request])[0], CONTRACT)
        found = carried(told, other.mel)
        assert int(found.sum()) == other.mel.shape[1]
        assert int(found.min()) >= 1
        errors.append((found.cumsum(0) - other.frames.cumsum(0)).abs().float())
    assert float(torch.cat(errors).median()) <= 1


def test_a_recording_of_another_length_is_not_the_text() -> None:
    told = references(TEXTS[:1], CONTRACT)[0]
    with pytest.raises(ValueError, match="its text takes"):
        carried(told, told[0].mel.repeat(1, 4))


def test_a_folder_in_the_layout_of_ljspeech_is_a_corpus(tmp_path: Path) -> None:
    corpus = load_folder(ljspeech(tmp_path / "anna"), 2, CONTRACT, tmp_path / "cache")
    assert (len(corpus.training), len(corpus.testing)) == (4, 2)
    one = corpus.testing[0]
    assert one.text == TEXTS[0]
    assert one.voice == "anna"
    assert int(one.frames.sum()) == one.mel.shape[1]
    # Half a second of silence before and after is gone.
    assert one.mel.shape[1] < CONTRACT.frames(len(said(TEXTS[0]))) + 12


def test_a_text_beside_each_sound_is_a_corpus_and_folders_are_speakers(tmp_path: Path) -> None:
    for speaker, voice in (("anna", "en-us+f2"), ("bert", "en-us+m3")):
        (tmp_path / speaker).mkdir()
        for number, text in enumerate(TEXTS):
            soundfile.write(tmp_path / speaker / f"{number}.flac", said(text, voice), 22050)
            (tmp_path / speaker / f"{number}.txt").write_text(text)
    corpus = load_folder(tmp_path, 2, CONTRACT, tmp_path / "cache")
    assert {one.voice for one in corpus.testing} == {"anna", "bert"}
    assert len(corpus.training) == 4


def test_what_cannot_be_used_is_left_out_counted_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = ljspeech(tmp_path / "anna")
    soundfile.write(folder / "wavs" / "A1.wav", np.zeros(22050), 22050)
    (folder / "wavs" / "A2.wav").write_bytes(b"no sound")
    (folder / "wavs" / "A3.wav").unlink()
    table = (folder / "metadata.csv").read_text() + "\nA9|Зима|Зима\nA10"
    (folder / "metadata.csv").write_text(table)
    with caplog.at_level(logging.WARNING):
        corpus = load_folder(folder, 1, CONTRACT, tmp_path / "cache")
    assert len(corpus.training) + len(corpus.testing) == 3
    for told in ("5 of 8 recordings are left out", "A1.wav: it is silent", "A2.wav: it is not a sound",
                 "A3.wav: there is no such file", "A9.wav: there is nothing to say",
                 "A10.wav: there is nothing to say"):  # fmt: skip
        assert told in caplog.text


def test_a_folder_where_nothing_can_be_used_is_refused_with_the_reasons(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "one.wav", np.zeros(22050), 22050)
    (tmp_path / "one.txt").write_text("Hello.")
    with pytest.raises(FewstepError, match=r"none of 1 recordings(.|\n)*one.wav: it is silent"):
        load_folder(tmp_path, 1, CONTRACT, tmp_path / "cache")


def test_a_table_may_begin_with_a_mark_and_one_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "metadata.csv"
    table.write_text("A1|Naïve.", encoding="utf-8-sig")
    assert [(one.path.name, one.text) for one in listed(tmp_path)] == [("A1.wav", "Naïve.")]
    table.write_text("A1|Naïve.", encoding="latin-1")
    with pytest.raises(FewstepError, match=r"metadata.csv is not UTF-8: byte 5"):
        listed(tmp_path)


def test_a_folder_without_texts_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "one.wav", said(TEXTS[0]), 22050)
    with pytest.raises(FewstepError, match="has a text"):
        load_folder(tmp_path, 1, CONTRACT, tmp_path / "cache")


def test_features_of_a_folder_are_made_once_and_again_when_a_file_changes(tmp_path: Path) -> None:
    folder, cache = ljspeech(tmp_path / "anna"), tmp_path / "cache"
    load_folder(folder, 2, CONTRACT, cache)
    load_folder(folder, 2, CONTRACT, cache)
    assert len(list(cache.iterdir())) == 1
    soundfile.write(folder / "wavs" / "A0.wav", said(TEXTS[0], "en-us+f2"), 22050)
    load_folder(folder, 2, CONTRACT, cache)
    assert len(list(cache.iterdir())) == 2


@needs_flite
def test_flite_speaks_beside_espeak_and_its_phones_lie_where_it_says(tmp_path: Path) -> None:
    settings = CorpusSettings(("flite:rms", "en-us+m3"), sentences=4, takes=1, held_out=2)
    corpus = load_corpus(settings, tmp_path)
    assert [one.voice for one in corpus.training] == ["flite:rms", "en-us+m3"] * 2
    one = corpus.training[0]
    line = ["flite", "-voice", "rms", "-psdur", "-t", one.text, "-o", str(tmp_path / "x.wav")]
    told = subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()
    mine = one.frames.cumsum(0) * CONTRACT.hop / CONTRACT.rate
    theirs = [float(item.split(":")[1]) for item in told[1:]]  # without the pause before the first word
    assert abs(float(mine[4] - mine[0]) - (theirs[4] - theirs[0])) < 0.08


def test_an_unknown_voice_of_flite_is_told() -> None:
    wanted = "no voice 'slz'; did you mean 'slt'" if shutil.which("flite") else "apt-get install flite"
    with pytest.raises(FewstepError, match=wanted):
        check_flite(["flite:slz"])
