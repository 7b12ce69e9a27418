"""Melody, cepstra, opinions and time: known answers, identity, and worse and worse sounds."""

from __future__ import annotations

import math
import time
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from fewstep.errors import FewstepError
from fewstep_audio.metrics import optional
from fewstep_audio.metrics.cepstrum import cepstra, mcd_mel, path
from fewstep_audio.metrics.pitch import along, melody, pitch_error
from fewstep_audio.metrics.quality import _network, opinion
from fewstep_audio.metrics.speed import real_time_factors
from fewstep_audio.sound.mel import MelContract

CONTRACT = MelContract()
needs_world = pytest.mark.skipif(find_spec("pyworld") is None, reason='pip install "fewstep[singing]"')
needs_opinions = pytest.mark.skipif(find_spec("speechmos") is None, reason='pip install "fewstep[listening]"')


def test_cepstra_are_the_cosine_transform_without_loudness() -> None:
    from scipy.fft import dct

    mel = torch.randn(80, 7, generator=torch.Generator().manual_seed(0))
    expected = dct(mel.numpy(), axis=0, norm="ortho")[1:14]
    torch.testing.assert_close(cepstra(mel), torch.from_numpy(expected), atol=1e-5, rtol=0)
    torch.testing.assert_close(cepstra(mel + 3), cepstra(mel), atol=1e-4, rtol=0)


def test_one_cepstral_coefficient_moves_the_distortion_by_its_definition() -> None:
    mel = torch.zeros(80, 5)
    wave = math.sqrt(2 / 80) * torch.cos(math.pi * 3 * (torch.arange(80.0) + 0.5) / 80)[:, None]
    assert mcd_mel(mel, mel + 0.7 * wave) == pytest.approx(10 / math.log(10) * math.sqrt(2) * 0.7, rel=1e-5)


def test_speaking_twice_as_slowly_is_no_distortion(sounds: Any) -> None:
    mel = sounds.utterances[0].mel
    slow = mel.repeat_interleave(2, 1)
    assert mcd_mel(slow, mel) == pytest.approx(0, abs=1e-4)
    here, there = path(cepstra(slow), cepstra(mel))
    assert torch.equal(there, here // 2)


def test_smearing_distorts_step_by_step_and_another_sentence_more(sounds: Any) -> None:
    first, second = (one.mel for one in sounds.utterances[:2])
    ladder = [mcd_mel(sounds.smeared(frames)[0], first) for frames in (1, 5, 9, 17)]
    assert ladder[0] == pytest.approx(0, abs=1e-4)
    assert sounds.rising([*ladder, mcd_mel(second, first)])


@needs_world
def test_the_pitch_of_a_tone_is_its_frequency() -> None:
    time_ = torch.arange(22050) / 22050
    tone = sum(torch.sin(2 * torch.pi * 150 * k * time_) / k for k in range(1, 8)) / 4
    found = melody(tone, CONTRACT)
    assert len(found) == CONTRACT.frames(22050)
    assert float(found[10:-10].median()) == pytest.approx(150, abs=0.5)


@needs_world
def test_a_sentence_differs_from_itself_in_nothing(sounds: Any) -> None:
    error = pitch_error(sounds.resynthesized[0], sounds.resynthesized[0], CONTRACT)
    assert (error.cents, error.hertz, error.voicing) == (0, 0, 0)


@pytest.mark.parametrize("cents", [0, 50, 100, 300])
def test_a_transposed_melody_is_off_by_as_many_cents(cents: int) -> None:
    true = torch.tensor([100.0, 0.0, 200.0, 150.0])
    error = along(true * 2 ** (cents / 1200), true)
    assert error.cents == pytest.approx(cents, abs=1e-3)
    assert error.voicing == 0


def test_voicing_errors_count_frames_and_not_pitch() -> None:
    error = along(torch.tensor([100.0, 0.0, 0.0, 150.0]), torch.tensor([100.0, 120.0, 0.0, 150.0]))
    assert (error.cents, error.voicing) == (0, 0.25)
    assert math.isnan(along(torch.zeros(3), torch.ones(3)).cents)


@needs_opinions
def test_noise_is_heard_in_the_opinion(sounds: Any) -> None:
    ladder = [-opinion(sounds.noisy(size)[0][:26_000], sounds.rate).overall for size in (0.0, 0.02, 0.1)]
    assert sounds.rising(ladder)
    assert -ladder[0] > 1.8
    assert -ladder[-1] < 1.6


@needs_opinions
def test_opinions_are_those_of_the_package(sounds: Any) -> None:
    package = pytest.importorskip("speechmos.dnsmos")
    wave = optional.at_rate(sounds.resynthesized[1], sounds.rate, 16_000).clamp(-1, 1)[
        :19_200
    ]  # one piece of 9 s
    theirs, ours = package.run(wave.numpy(), 16_000), opinion(wave, 16_000)
    assert (ours.overall, ours.voice, ours.background) == pytest.approx(
        (theirs["ovrl_mos"], theirs["sig_mos"], theirs["bak_mos"]), abs=1e-4
    )


def test_a_missing_network_is_named_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(optional.util, "find_spec", lambda name: None)
    _network.cache_clear()
    with pytest.raises(FewstepError, match=r"speechmos[\s\S]*fewstep\[listening\]"):
        opinion(torch.zeros(1000), 16_000)


def test_parts_of_a_chain_are_timed_apart() -> None:
    calls: list[str] = []

    def part(name: str, seconds: float) -> None:
        calls.append(name)
        time.sleep(seconds)

    found = real_time_factors(
        {"network": lambda: part("network", 0.002), "vocoder": lambda: part("vocoder", 0.02)},
        2.0,
        warm=1,
        times=3,
    )
    assert calls == ["network", "vocoder"] * 4
    assert found["vocoder"].seconds > 2 * found["network"].seconds > 0
    assert found["vocoder"].factor == found["vocoder"].seconds / 2
