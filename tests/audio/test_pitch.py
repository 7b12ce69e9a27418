"""Pitch and energy have one value for each frame, and follow what is known about the sound."""

from __future__ import annotations

import torch

from fewstep_audio.sound.mel import MelContract, log_mel
from fewstep_audio.sound.pitch import energy, pitch
from fewstep_audio.speech.espeak import Request, speak

CONTRACT = MelContract()


def test_the_pitch_of_a_tone_is_its_frequency_and_silence_has_none() -> None:
    time = torch.arange(CONTRACT.rate) / CONTRACT.rate
    tone = 0.3 * torch.sin(2 * torch.pi * 220 * time) + 0.1 * torch.sin(2 * torch.pi * 440 * time)
    found = pitch(torch.cat([tone, torch.zeros(CONTRACT.rate // 2)]), CONTRACT)
    assert float((found[5:80] - 220).abs().max()) < 3
    assert float(found[-20:].abs().max()) == 0


def test_pitch_energy_and_spectrogram_have_the_same_frames() -> None:
    wave = torch.from_numpy(speak([Request("The river runs.")])[0].wave)
    frames = log_mel(wave, CONTRACT).shape[1]
    assert pitch(wave, CONTRACT).shape == energy(wave, CONTRACT).shape == (frames,)


def test_energy_is_twice_as_large_for_twice_the_amplitude() -> None:
    wave = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(energy(2 * wave, CONTRACT), 2 * energy(wave, CONTRACT))
