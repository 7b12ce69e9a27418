"""Voices: the published numbers of the published weights, and what noise and other speakers do to them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fewstep.errors import FewstepError
from fewstep_audio.metrics import optional
from fewstep_audio.metrics.optional import at_rate
from fewstep_audio.metrics.speakers import similarity, voice, voice_encoder, voice_windows, voices

try:
    voice_encoder()
except FewstepError as error:
    pytest.skip(f"voices: {error}", allow_module_level=True)


@pytest.fixture(scope="module")
def true(sounds: Any) -> torch.Tensor:
    return voices([one.sound for one in sounds.utterances], sounds.rate)


def test_a_voice_is_nearer_to_itself_than_to_another(true: torch.Tensor, sounds: Any) -> None:
    names = [one.voice for one in sounds.utterances]
    alike = true @ true.T
    same = torch.tensor([[a == b for a in names] for b in names]) & ~torch.eye(len(names), dtype=torch.bool)
    other = torch.tensor([[a != b for a in names] for b in names])
    assert float(alike[same].mean()) > 0.78
    assert float(alike[other].mean()) < 0.7
    assert float(alike[same].min()) > float(alike[other].mean())


def test_a_sound_is_its_own_speaker(true: torch.Tensor) -> None:
    torch.testing.assert_close(similarity(true, true), torch.ones(len(true)))


def test_noise_takes_the_voice_away_step_by_step(true: torch.Tensor, sounds: Any) -> None:
    ladder = [
        -float(similarity(true, voices(sounds.noisy(size), sounds.rate)).mean())
        for size in (0.0, 0.01, 0.03, 0.1)
    ]
    assert ladder[0] < -0.95
    assert sounds.rising(ladder)
    assert ladder[-1] > -0.7


def test_loudness_does_not_matter_below_the_trained_one(sounds: Any) -> None:
    wave = sounds.utterances[0].sound
    quiet = 10 ** (-32 / 20) / wave.square().mean().sqrt()
    torch.testing.assert_close(
        voice(quiet * wave, sounds.rate), voice(0.1 * quiet * wave, sounds.rate), atol=1e-4, rtol=0
    )


def test_long_sounds_have_several_windows_and_a_cough_has_one(sounds: Any) -> None:
    wave = sounds.utterances[0].sound
    assert voice_windows(wave[:2000], sounds.rate).shape == (1, 256)
    long = voice_windows(wave.repeat(4), sounds.rate)
    assert len(long) > 5
    torch.testing.assert_close(long.norm(dim=1), torch.ones(len(long)))


def test_spectrograms_are_those_of_the_training_code(sounds: Any) -> None:
    import librosa

    from fewstep_audio.metrics.speakers import CONTRACT, spectrum
    from fewstep_audio.sound.mel import mel_filters

    wave = at_rate(sounds.utterances[0].sound, sounds.rate, 16_000)
    theirs = librosa.feature.melspectrogram(y=wave.numpy(), sr=16_000, n_fft=400, hop_length=160, n_mels=40)
    ours = mel_filters(CONTRACT) @ spectrum(wave)
    torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=1e-3, atol=1e-5)


def test_missing_weights_are_named_with_their_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optional.util, "find_spec", lambda name: None)
    voice_encoder.cache_clear()
    with pytest.raises(FewstepError, match="pip install --no-deps resemblyzer"):
        voice_encoder()
