"""Words of the command as controls: what is asked, how long it lasts, and all that is wrong with it at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
import torch

from fewstep.errors import FewstepError
from fewstep_audio.ditto2.controls import Known
from fewstep_audio.ditto2.requests import Request, mixed, understood
from fewstep_audio.music.corpus import MUSIC
from fewstep_audio.sound.mel import Scale, log_mel

PLAIN = Scale(torch.zeros(MUSIC.bands, 1), torch.ones(MUSIC.bands, 1))


def test_inpainting_keeps_the_song_outside_of_the_span(song: str) -> None:
    job = understood(Request(inpaint=(song, "1.0-2.0")), PLAIN)
    ((weight, control),) = job.controls
    assert weight == 1
    assert isinstance(control, Known)
    free = (~control.known).nonzero()
    assert int(free.min()) * 512 / 22050 == pytest.approx(1.0, abs=0.1)
    assert int(free.max()) * 512 / 22050 == pytest.approx(2.0, abs=0.1)
    before, rate = soundfile.read(song, dtype="float32")
    after = job.finish(torch.zeros(512 * (job.frames - 1)))
    assert torch.equal(after[: rate - 2000], torch.from_numpy(before)[: rate - 2000])
    assert float(after[rate : 2 * rate].abs().max()) == 0
    assert torch.equal(after[2 * rate + 2000 :], torch.from_numpy(before)[2 * rate + 2000 :])


def test_outpainting_agrees_with_the_songs_end_and_adds_what_was_asked(song: str) -> None:
    job = understood(Request(outpaint=(song, "1.5")), PLAIN)
    whole = log_mel(torch.from_numpy(soundfile.read(song, dtype="float32")[0]), MUSIC)
    control = job.controls[0][1]
    assert control.name == "outpaint"
    kept = round(2.0 * 22050 / 512)
    last = 4 * 22050 // 512
    assert torch.equal(control.reference[:, :kept], whole[:, last - kept : last])
    added = len(job.finish(torch.zeros(512 * (job.frames - 1)))) / 22050 - 4.0
    assert added == pytest.approx(1.5, abs=0.05)


def test_a_loop_leads_from_the_end_to_the_beginning(song: str) -> None:
    job = understood(Request(loop=song, seconds=2.0), PLAIN)
    control = job.controls[0][1]
    assert bool(control.known[0])
    assert bool(control.known[-1])
    assert not bool(control.known[job.frames // 2])
    length = len(job.finish(torch.zeros(512 * (job.frames - 1)))) / 22050
    assert length == pytest.approx(6.0, abs=0.05)


def test_a_mixture_changes_only_between_its_ends() -> None:
    out = mixed(torch.ones(22050), torch.zeros(22050), 8000, 12000)
    assert float(out[8000:12000].max()) == 0
    assert float(out[:7000].min()) == float(out[13000:].min()) == 1


def test_words_become_controls_with_weights_and_a_length(song: str) -> None:
    request = Request(intensity="0:-30 3:-10", melody="C4:1 E4:2", structure="ABA", weights="melody=0.5")
    job = understood(request, PLAIN)
    assert [(weight, control.name) for weight, control in job.controls] == [
        (1, "intensity"),
        (0.5, "melody"),
        (1, "structure"),
    ]
    assert job.frames == MUSIC.frames(3 * 22050)
    classes = job.controls[1][1].classes
    assert classes[:43].tolist() == [0] * 43
    assert classes[50:120].tolist() == [4] * 70


def test_an_embedding_of_anyones_own_can_be_named(
    song: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_embeddings.py").write_text("def level(mel):\n    return mel.mean(2)\n")
    monkeypatch.syspath_prepend(tmp_path)
    control = understood(Request(like=song, embed="my_embeddings:level"), PLAIN).controls[0][1]
    assert control.name == "adherence"
    heard = log_mel(torch.from_numpy(soundfile.read(song, dtype="float32")[0]), MUSIC)[None]
    assert float(control(heard)) == pytest.approx(0, abs=1e-6)
    with pytest.raises(FewstepError, match="cannot be imported"):
        understood(Request(like=song, embed="my_embeddings:gone"), PLAIN)


def test_all_that_is_wrong_is_told_at_once(song: str) -> None:
    wrong = Request(
        inpaint=(song, "3.0-9.0"),
        loop=song,
        intensity="0:5",
        melody="H4:1",
        structure="aba",
        like="gone.wav",
        weights="volume=1",
    )
    with pytest.raises(FewstepError) as refused:
        understood(wrong, PLAIN)
    told = str(refused.value)
    for part in ("--intensity: 0:5", "H4:1", "'aba'", "gone.wav", "'volume'", "--inpaint and --loop"):
        assert part in told, part
    with pytest.raises(FewstepError, match=r"lasts 4\.00 s"):
        understood(Request(inpaint=(song, "3.0-9.0")), PLAIN)
    with pytest.raises(FewstepError, match="nothing is asked"):
        understood(Request(), PLAIN)
    with pytest.raises(FewstepError, match="no span of seconds"):
        understood(Request(inpaint=(song, "later")), PLAIN)
