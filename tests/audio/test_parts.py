"""Network, durations, metrics, files and panel, without training."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from fewstep.errors import FewstepError
from fewstep.objectives.tangent import Difference, forward
from fewstep.processes import edm
from fewstep.protocol import Batch, Cond, Denoiser, Drawn, Key, Step
from fewstep_audio.metrics.spectrogram import detail, distance, spread
from fewstep_audio.networks import FrameEncoder, MelNetwork
from fewstep_audio.panels import speech_panel
from fewstep_audio.sound.cache import kept
from fewstep_audio.sound.files import mel_picture, wav_bytes, write_wavs
from fewstep_audio.sound.mel import MelContract, Scale
from fewstep_audio.sound.vocoder import GriffinLim
from fewstep_audio.speech.durations import DurationFit, Durations
from fewstep_audio.speech.layout import conditioned, laid_out, speakers
from fewstep_audio.speech.phones import Pronunciation

CONTRACT = MelContract()
SAID = (
    Pronunciation(torch.tensor([5, 9, 3, 1]), torch.tensor([0, 2, 0, 0])),
    Pronunciation(torch.tensor([7, 2]), torch.tensor([1, 0])),
)
FRAMES = torch.tensor([[4, 6, 5, 3], [6, 5, 0, 0]])


def spoken() -> Batch:
    """Two utterances of 18 and 11 frames with smooth made-up mels."""
    cond = laid_out(conditioned(SAID), FRAMES)
    bands, time = torch.arange(80.0)[:, None], torch.arange(18.0)
    mel = torch.stack([torch.sin(bands / 7 + time / 3), torch.cos(bands / 5 - time / 4)]) * 2 - 5
    return Batch(
        torch.zeros(2, 80, 18), {"mel": mel}, cond, {"texts": ("A cat.", "Rain <falls>."), "frames": FRAMES}
    )


def network() -> MelNetwork:
    """A small network whose zero layers are not zero any more."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = MelNetwork(80, 16, (1, 2), Scale(torch.full((80, 1), -5.0), torch.full((80, 1), 2.0)))
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return net.double()


def doubled(cond: Cond) -> Cond:
    return Cond({**cond.data, "place": cond.data["place"].double()}, cond.mask)


def test_padding_changes_nothing_for_what_is_real() -> None:
    net, batch = network(), spoken()
    x = Key(1).normal(torch.zeros(2, 80, 18).double())
    alone = laid_out(conditioned(SAID[1:]), FRAMES[1:, :2])
    time = torch.tensor([0.3, 0.3]).double()
    together = net(x, time, doubled(batch.cond))[1:, :, :11]
    torch.testing.assert_close(together, net(x[1:, :, :11], time[:1], doubled(alone)), atol=1e-12, rtol=0)


def test_the_estimate_is_the_state_itself_at_the_cleanest_level() -> None:
    process = edm(sigma_min=0.02, sigma_max=20.0)
    denoiser = Denoiser(network(), process, "boundary")
    x = Key(2).normal(torch.zeros(2, 80, 18).double())
    cond = doubled(spoken().cond)
    est = denoiser(x, torch.full((2,), 0.02, dtype=torch.float64), cond)
    torch.testing.assert_close(est.x0, x * cond.mask, atol=1e-12, rtol=0)


def test_a_flow_map_starts_as_its_teacher_and_learns_where_to_land() -> None:
    net, cond = network(), doubled(spoken().cond)
    told = net.copied(lands=True).double()
    x, time = Key(3).normal(torch.zeros(2, 80, 18).double()), torch.tensor([0.3, 0.7]).double()
    assert (net.accepts, told.accepts) == (frozenset(), {"to"})
    assert torch.equal(told(x, time, cond, to=time / 2), net(x, time, cond))
    told(x, time, cond, to=time / 2).square().mean().backward()
    torch.optim.SGD(told.parameters(), lr=0.1).step()
    assert not torch.allclose(told(x, time, cond, to=time / 2), told(x, time, cond, to=-time), rtol=1e-3)


def test_its_derivative_in_forward_mode_is_the_difference() -> None:
    net, cond = network(), doubled(spoken().cond)
    x, time = Key(3).normal(torch.zeros(2, 80, 18).double()), torch.tensor([0.3, 0.7]).double()
    path = (x, time), (x.roll(1, 2), torch.full_like(time, 1e-2))
    found = [derivative(lambda x, t: net(x, t, cond), *path) for derivative in (forward, Difference())]
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-7)


def test_scale_travels_with_the_weights() -> None:
    fresh = MelNetwork(80, 16, (1, 2)).double()
    fresh.load_state_dict(network().state_dict())
    assert float(fresh.scale.restored(torch.zeros(80, 1))[0]) == -5.0


def test_a_voice_that_is_told_moves_every_frame_alike_and_one_that_is_not_nothing() -> None:
    cond = spoken().cond
    by = [
        replace(cond, data={**cond.data, **speakers(names, ("m", "f"))}) for names in (("m", "m"), ("m", "f"))
    ]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        told, hidden = FrameEncoder(16, voices=2), FrameEncoder(16)
        durations = Durations(16, voices=2)
    moved = (told(by[1], torch.float32) - told(by[0], torch.float32)).detach()
    assert float(moved[0].abs().max()) == 0
    torch.testing.assert_close(moved[1], moved[1, :, :1].expand_as(moved[1]), atol=1e-5, rtol=0)
    assert float(moved[1].abs().min()) > 0
    longer = durations(by[1]) - durations(by[0])
    torch.testing.assert_close(longer[1], longer[1, :1].expand(4), atol=1e-5, rtol=0)
    assert torch.equal(hidden(by[0], torch.float32), hidden(by[1], torch.float32))
    assert speakers(("m", "f"), ()) == {}
    with pytest.raises(FewstepError, match="speech by a speaker without a name"):
        speakers(("m", ""), ("m", "f"))


def test_a_network_that_expects_no_mel_says_so() -> None:
    with pytest.raises(ValueError, match="predicts=True"):
        network().mu(doubled(spoken().cond), torch.float64)


def test_durations_ignore_padding_and_are_at_least_one_frame() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Durations(16)
    both, alone = model(conditioned(SAID)), model(conditioned(SAID[1:]))
    torch.testing.assert_close(both[1:, :2], alone)
    frames = model.frames(conditioned(SAID))
    assert frames[1, 2:].tolist() == [0, 0]
    assert int(frames[conditioned(SAID).data["phones"] > 0].min()) >= 1


def test_a_faster_pace_takes_fewer_frames() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Durations(16)
    torch.nn.init.constant_(model.head.bias, 3.0)
    cond = conditioned(SAID)
    assert 1.8 < float(model.frames(cond, 1.0).sum() / model.frames(cond, 2.0).sum()) < 2.2


def test_the_duration_loss_is_the_mean_square_over_real_phones() -> None:
    class Known(torch.nn.Module):
        def forward(self, cond: Cond) -> Tensor:
            return torch.log1p(FRAMES.float()) + torch.tensor([[1.0, 1, 1, 1], [2, 2, 9, 9]])

    fit = DurationFit()
    loss = fit.loss(fit.phases(0)[0], {"durations": Known()}, spoken(), Step(0, 1, Key(0)))
    assert float(loss.total) == pytest.approx((4 * 1 + 2 * 4) / 6)


def test_distance_is_in_decibels_and_over_real_frames_only() -> None:
    batch = spoken()
    louder = batch.x["mel"] + np.log(10) / 20
    louder[1, :, 11:] += 100
    score = distance().fn({"mel": louder}, batch, Key(0))
    assert score.value == pytest.approx(1.0, abs=1e-5)
    assert score.n == 2


def test_distance_is_to_the_teachers_sample_where_one_was_drawn() -> None:
    batch = spoken()
    teacher = {"mel": batch.x["mel"] + 1.0}
    seen = Batch(batch.like, batch.x, batch.cond, {"drawn": {"teacher": teacher}})
    assert distance().fn(teacher, seen, Key(0)).value == 0.0


def test_blur_and_noise_both_widen_the_detail_gap() -> None:
    batch = spoken()
    mel = batch.x["mel"]
    blurred = torch.nn.functional.avg_pool1d(mel.transpose(1, 2), 21, 1, 10).transpose(1, 2)
    noisy = mel + Key(4).normal(mel)
    assert detail().fn(batch.x, batch, Key(0)).value == 0.0
    assert detail().fn({"mel": blurred}, batch, Key(0)).value > 0.05
    assert detail().fn({"mel": noisy}, batch, Key(0)).value > 0.5


def test_the_spread_gap_of_a_halved_signal_is_three_quarters() -> None:
    batch = spoken()
    assert spread().fn({"mel": batch.x["mel"] / 2}, batch, Key(0)).value == pytest.approx(0.75, abs=1e-6)


def test_features_are_made_once_and_a_write_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def make() -> dict[str, np.ndarray]:
        made.append(1)
        return {"x": np.arange(3)}

    def full(*given: object, **told: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="no space"):
            kept(tmp_path, "some", "one", make)
    assert list(tmp_path.iterdir()) == []
    for _ in range(2):
        assert kept(tmp_path, "some", "one", make)["x"].tolist() == [0, 1, 2]
    assert len(made) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["some-one.npz"]


def test_a_wav_file_reads_back_as_it_was_written() -> None:
    wave = 0.5 * torch.sin(torch.arange(4000) / 20.0)
    read, rate = soundfile.read(io.BytesIO(wav_bytes(wave, 22050)), dtype="float32")
    assert rate == 22050
    np.testing.assert_allclose(read, wave.numpy(), atol=1 / 32768)


def test_files_are_named_by_their_words_and_have_their_own_length(tmp_path: Path) -> None:
    batch = spoken()
    x = {"mel": batch.x["mel"], "frames": torch.tensor([18, 11])}
    files = write_wavs(x, batch, tmp_path / "new", GriffinLim(iterations=2))
    assert [file.name for file in files] == ["00-a-cat.wav", "01-rain-falls.wav"]
    assert [soundfile.info(file).frames for file in files] == [17 * 256, 10 * 256]


def test_a_picture_is_light_where_it_is_loud_and_has_low_bands_below() -> None:
    mel = torch.full((80, 10), CONTRACT.silence)
    mel[:20] = 0.0
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(mel_picture(mel, CONTRACT))))
    assert pixels.shape == (160, 20, 3)
    assert pixels[-1, 0].mean() > 150 > 10 > pixels[0, 0].mean()


def test_the_panel_has_a_labeled_player_and_picture_for_everyone_and_escapes_text() -> None:
    batch = spoken()
    x = {"mel": batch.x["mel"], "frames": torch.tensor([18, 11])}
    drawn = {name: Drawn(x, batch, calls, 0.1) for name, calls in (("teacher", 37), ("student", 1))}
    html = speech_panel(GriffinLim(iterations=2)).render(drawn)
    assert html.count("<audio") == html.count("<img") == 2 * 3
    assert html.count('alt="Mel spectrogram of student') == 2
    assert "Rain &lt;falls&gt;." in html
    assert "<falls>" not in html
    assert "37 network calls" in html
    assert "http" not in html
