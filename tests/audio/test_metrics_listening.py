"""What a run listens for: metrics of its spectrograms, their packages, and the command for finished runs and folders."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from torch.nn.utils.rnn import pad_sequence

from fewstep.errors import FewstepError
from fewstep.protocol import Batch, Drawn, Key, Tree
from fewstep_audio.comospeech.config import CoMoSpeechConfig
from fewstep_audio.listen import chosen, listen
from fewstep_audio.metrics import choice, listening
from fewstep_audio.metrics.choice import KINDS, check_ears, missing
from fewstep_audio.sound.mel import Scale
from fewstep_audio.sound.vocoder import GriffinLim
from fewstep_audio.speech.layout import held_out_batch

SCALE = Scale(torch.zeros(80, 1), torch.ones(80, 1))
BEST = {"wer": 0.1, "speaker": 1, "nearest_voice": 1, "pitch_error": 0, "voicing_error": 0, "mcd_mel": 0}
BEST |= {"fad_resem": 0, "fd_mel": 0}
QUICK = tuple(kind for kind in KINDS if kind != "quality" and kind not in missing(KINDS))


@pytest.fixture(scope="module")
def batch(sounds: Any) -> Batch:
    return held_out_batch(sounds.utterances[:4], SCALE)


def padded(mels: list[torch.Tensor]) -> Tree:
    frames = torch.tensor([mel.shape[1] for mel in mels])
    return {"mel": pad_sequence([mel.T for mel in mels], batch_first=True).transpose(1, 2), "frames": frames}


def test_every_metric_prefers_the_truth_to_a_smeared_copy(batch: Batch, sounds: Any) -> None:
    smeared = padded(sounds.smeared(17)[:4])
    for metric in listening.listening(QUICK, GriffinLim()):
        true, worse = (metric.fn(x, batch, Key(0)) for x in (batch.x, smeared))
        assert true.low <= true.value <= true.high
        assert true.value == pytest.approx(BEST[metric.name], abs=1e-4) or metric.name == "wer"
        assert worse.value < true.value if metric.better == "higher" else worse.value > true.value, (
            metric.name
        )
        assert metric.description


def test_a_sound_is_made_once_however_many_metrics_ask(batch: Batch) -> None:
    made = []

    class Counting(GriffinLim):
        def __call__(self, mel: torch.Tensor) -> torch.Tensor:
            made.append(mel)
            return super().__call__(mel)

    for metric in listening.listening(("cepstrum", "frechet"), Counting(iterations=2))[::2]:
        metric.fn(batch.x, batch, Key(0))
    assert len(made) == len(batch.extra["texts"])


@pytest.mark.skipif("words" not in QUICK, reason='pip install "fewstep[listening]"')
def test_sentences_that_cannot_be_spelled_are_left_out_and_told(
    batch: Batch, caplog: pytest.LogCaptureFixture
) -> None:
    texts = ("The zwumf.", *batch.extra["texts"][1:])
    (metric,) = listening.listening(("words",), GriffinLim(iterations=8))
    score = metric.fn(batch.x, Batch(batch.like, batch.x, batch.cond, {"texts": texts}), Key(0))
    assert score.n == len(texts) - 1
    assert "zwumf" in caplog.text


def test_the_report_tells_what_the_truth_itself_scores(batch: Batch) -> None:
    metrics = listening.listening(("cepstrum",), GriffinLim(iterations=2))
    panel = listening.truth_panel(metrics)
    assert "<td>mcd_mel</td><td>0 dB</td>" in panel.render({"student": Drawn(batch.x, batch, 1, 0.1)})


def test_all_missing_packages_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    with pytest.raises(FewstepError, match=r"listen=words,speaker") as told:
        check_ears(("words", "speaker", "cepstrum"))
    assert 'pip install "fewstep[listening]" && pip install --no-deps resemblyzer' in str(told.value)


def test_settings_name_what_is_listened_for() -> None:
    assert CoMoSpeechConfig(listen="words,speaker").listen == ("words", "speaker")
    assert CoMoSpeechConfig(listen=("words",)).listen == ("words",)
    assert CoMoSpeechConfig().listen == ()
    with pytest.raises(ValueError, match="words"):
        CoMoSpeechConfig(listen=("wods",))
    with pytest.raises(FewstepError, match=r"did you mean.*words|words"):
        chosen("wods")


@pytest.mark.skipif("words" not in QUICK, reason='pip install "fewstep[listening]"')
def test_a_folder_of_recordings_is_listened_to(
    tmp_path: Path, sounds: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, (wave, text) in enumerate(zip(sounds.resynthesized[:2], sounds.texts, strict=False)):
        soundfile.write(tmp_path / f"{number}.wav", wave.numpy(), 22050)
        (tmp_path / f"{number}.txt").write_text(text)
    listen(str(tmp_path), "words,cepstrum", str(tmp_path), Path("runs"), "", True)
    (row,) = json.loads(capsys.readouterr().out)["rows"].values()
    assert row["wer"]["value"] <= 0.2
    assert row["mcd_mel"]["value"] == pytest.approx(0, abs=1e-4)
    listen(str(tmp_path), "words,cepstrum", "", Path("runs"), "", True)
    (row,) = json.loads(capsys.readouterr().out)["rows"].values()
    assert set(row) == {"wer"}


def test_what_this_machine_cannot_hear_is_found_without_importing_it() -> None:
    assert set(missing(KINDS)) == {
        kind for kind in KINDS if any(find_spec(name) is None for name, _ in choice.PACKAGES[kind])
    }
