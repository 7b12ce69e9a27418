"""The mel contract against librosa and torchaudio, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fewstep.protocol import Key
from fewstep_audio.sound.mel import MelContract, Scale, log_mel, mel_filters, stft
from fewstep_audio.sound.vocoder import GriffinLim, unclipped

CONTRACT = MelContract()


def sweep(samples: int = 22050) -> Tensor:
    """A rising tone in a little noise."""
    time = torch.arange(samples, dtype=torch.float32) / CONTRACT.rate
    tone = 0.5 * torch.sin(2 * torch.pi * (200 + 1500 * time) * time)
    return tone + 0.01 * Key(3).normal(tone)


def test_filters_equal_librosas() -> None:
    librosa = pytest.importorskip("librosa")
    theirs = librosa.filters.mel(sr=22050, n_fft=1024, n_mels=80, fmin=0, fmax=8000, norm="slaney", htk=False)
    np.testing.assert_allclose(mel_filters(CONTRACT).numpy(), theirs, atol=1e-7)


def test_mels_equal_librosas_to_1e_5() -> None:
    librosa = pytest.importorskip("librosa")
    wave = sweep()
    theirs = librosa.feature.melspectrogram(
        y=wave.numpy(),
        sr=22050,
        n_fft=1024,
        hop_length=256,
        power=1.0,
        n_mels=80,
        fmin=0,
        fmax=8000,
        pad_mode="reflect",
    )
    np.testing.assert_allclose(log_mel(wave, CONTRACT).exp().numpy(), np.maximum(theirs, 1e-5), atol=1e-5)


def test_mels_equal_torchaudios_to_1e_5_of_the_peak() -> None:
    transforms = pytest.importorskip("torchaudio.transforms")
    theirs = transforms.MelSpectrogram(
        22050,
        1024,
        hop_length=256,
        power=1.0,
        n_mels=80,
        f_min=0,
        f_max=8000,
        norm="slaney",
        mel_scale="slaney",
    )(sweep())
    torch.testing.assert_close(
        log_mel(sweep(), CONTRACT).exp(), theirs.clamp(min=1e-5), atol=1e-5 * float(theirs.max()), rtol=0
    )


def test_the_padding_of_hifigan_gives_one_frame_per_hop() -> None:
    contract = MelContract(center=False)
    assert log_mel(sweep(256 * 60), contract).shape == (80, 60) == (80, contract.frames(256 * 60))
    assert log_mel(sweep(256 * 60), CONTRACT).shape == (80, 61) == (80, CONTRACT.frames(256 * 60))


def test_silence_has_the_floor() -> None:
    torch.testing.assert_close(log_mel(torch.zeros(4096), CONTRACT), torch.full((80, 17), CONTRACT.silence))


def test_a_wave_shorter_than_half_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match="512 samples is shorter than half a window"):
        log_mel(torch.zeros(512), CONTRACT)


def test_a_scale_is_undone_and_gives_every_band_the_same_spread() -> None:
    mel = log_mel(sweep(), CONTRACT)
    scale = Scale(mel.mean(1, keepdim=True), mel.std(1, keepdim=True), 0.5)
    state = scale.normalized(mel)
    torch.testing.assert_close(state.std(1), torch.full((80,), 0.5))
    torch.testing.assert_close(scale.restored(state), mel, atol=1e-4, rtol=1e-5)


def test_griffin_lim_comes_back_to_its_mel_and_random_phases_do_not() -> None:
    mel = log_mel(sweep(), CONTRACT)
    loud = mel > mel.max() - 4

    def miss(iterations: int) -> float:
        wave = GriffinLim(iterations=iterations)(mel)
        assert len(wave) == 256 * (mel.shape[1] - 1)
        return float((log_mel(wave, CONTRACT) - mel)[loud].abs().mean())

    assert miss(32) < 0.3 < 0.5 < miss(0)


def test_griffin_lim_is_the_same_every_time_and_leaves_the_global_generator_alone() -> None:
    mel = log_mel(sweep(8192), CONTRACT)
    before = torch.random.get_rng_state()
    assert torch.equal(GriffinLim()(mel), GriffinLim()(mel))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_momentum_brings_griffin_lim_closer_than_without() -> None:
    mel = log_mel(sweep(), CONTRACT)

    def miss(momentum: float) -> float:
        wave = GriffinLim(momentum=momentum, iterations=32)(mel)
        return float((stft(wave, CONTRACT).abs() - stft(sweep(), CONTRACT).abs()[:, : mel.shape[1]]).norm())

    assert miss(0.99) < miss(0.0)


@pytest.mark.parametrize("shape", [(80, 2), (40, 10), (1, 80, 10)])
def test_griffin_lim_refuses_what_is_no_spectrogram(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        GriffinLim()(torch.zeros(shape))


def test_a_loud_wave_is_made_quieter_and_a_quiet_one_is_left() -> None:
    loud, quiet = torch.tensor([2.0, -4.0]), torch.tensor([0.2, -0.4])
    torch.testing.assert_close(unclipped(loud), torch.tensor([0.495, -0.99]))
    assert torch.equal(unclipped(quiet), quiet)
