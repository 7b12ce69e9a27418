"""Controls of DITTO-2 against closed forms: loudness, melody, what is known, form, timbre and words about the sound."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fewstep.errors import FewstepError
from fewstep.protocol import Key
from fewstep_audio.ditto2.asked import gap
from fewstep_audio.ditto2.controls import (
    Adherence,
    Intensity,
    Known,
    Melody,
    PerRow,
    Structure,
    Sum,
    chroma,
    cosines,
    decibels,
    ramp,
    savitzky_golay,
    similarity,
    smoothed,
)
from fewstep_audio.ditto2.requests import Request, understood
from fewstep_audio.music.corpus import MUSIC
from fewstep_audio.sound.mel import Scale, band_centers, log_mel

ONES = torch.ones(MUSIC.bands, 1)
PLAIN = Scale(0 * ONES, ONES)


def tone(hertz: float, seconds: float = 1.0, level: float = 0.5) -> Tensor:
    time = torch.arange(round(seconds * MUSIC.rate)) / MUSIC.rate
    return level * torch.sin(2 * math.pi * hertz * time)


def noise(seconds: float = 1.0, level: float = 0.1) -> Tensor:
    return level * Key(0).normal(torch.zeros(round(seconds * MUSIC.rate)))


def mel(wave: Tensor) -> Tensor:
    return log_mel(wave, MUSIC)[None]


# ----------------------------------------------------------------------------------------------------------- intensity


@pytest.mark.parametrize("gain", [-20.0, -6.0, 6.0])
def test_a_sound_scaled_by_some_decibels_is_that_many_louder(gain: float) -> None:
    before, after = (decibels(mel(wave), MUSIC) for wave in (noise(), noise() * 10 ** (gain / 20)))
    torch.testing.assert_close(after - before, torch.full_like(before, gain), atol=1e-3, rtol=0)


@pytest.mark.parametrize("wave", [noise(level=0.1), tone(440), tone(2000), tone(220) + tone(660, level=0.2)])
def test_decibels_of_a_spectrogram_are_nearly_those_of_the_sound(wave: Tensor) -> None:
    truth = 20 * math.log10(float(wave.square().mean().sqrt()))
    assert float(decibels(mel(wave), MUSIC)[0, 5:-5].mean()) == pytest.approx(
        truth, abs=2.5
    )  # white noise: a quarter lies above the bands


def test_silence_is_at_the_floor_and_has_no_gradient() -> None:
    silent = mel(torch.zeros(MUSIC.rate)).requires_grad_(True)
    level = decibels(silent, MUSIC)
    assert torch.equal(level, torch.full_like(level, -60.0))
    (slope,) = torch.autograd.grad(level.sum(), [silent])
    assert not slope.any()


def test_smoothing_keeps_straight_lines_and_agrees_with_scipy() -> None:
    signal = pytest.importorskip("scipy.signal")
    line = torch.linspace(-40, -10, 100)[None]
    torch.testing.assert_close(smoothed(line, 43)[:, 30:-30], line[:, 30:-30])
    for width, order in ((43, 1), (21, 2)):
        expected = torch.from_numpy(signal.savgol_coeffs(width, order)).float()
        torch.testing.assert_close(savitzky_golay(width, order), expected, atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="odd"):
        savitzky_golay(10, 1)


def test_intensity_is_zero_for_its_own_curve_and_the_square_of_a_constant_gap() -> None:
    given = mel(noise(3.0))
    curve = smoothed(decibels(given, MUSIC), 43)[0]
    assert Intensity(curve, MUSIC)(given) == pytest.approx(0, abs=1e-6)
    off = Intensity(curve - 6, MUSIC)
    assert float(off(given)) == pytest.approx(36, rel=1e-3)
    assert off.shown(36.0) == 6


def test_a_ramp_goes_straight_through_its_points() -> None:
    frames = 130
    curve = ramp([(3.0, -10.0), (0.0, -40.0)], frames, MUSIC)
    assert curve[0] == -40
    assert float(curve[-1]) == pytest.approx(-40 + 10 * (frames - 1) * MUSIC.hop / MUSIC.rate, abs=1e-4)


# ------------------------------------------------------------------------------------------------------ melody, chroma


@pytest.mark.parametrize("pitch", range(60, 90, 3))
def test_a_pure_tone_has_its_energy_in_its_pitch_class(pitch: int) -> None:
    shares = chroma(mel(tone(440 * 2 ** ((pitch - 69) / 12))), MUSIC)[0, :, 10:-10].mean(1)
    assert int(shares.argmax()) == pitch % 12
    assert float(shares.sum()) == pytest.approx(1, abs=1e-5)
    assert float(shares.max()) > (0.65 if pitch >= 69 else 0.4)  # at middle C a band is as wide as a semitone


def test_chroma_does_not_depend_on_loudness() -> None:
    one, other = (chroma(mel(wave), MUSIC) for wave in (tone(440), 0.1 * tone(440)))
    torch.testing.assert_close(one[..., 3:-3], other[..., 3:-3], atol=1e-3, rtol=1e-3)


def test_melody_prefers_the_tone_that_was_asked_and_does_not_hear_rests() -> None:
    frames = mel(tone(440)).shape[-1]
    asked = torch.full((frames,), 9)
    a, c = (Melody(asked, MUSIC)(mel(tone(hertz))) for hertz in (440.0, 523.25))
    assert a < 0.6 < 2.5 < c
    asked[::2] = -1
    half = Melody(asked, MUSIC)(mel(tone(440)))
    assert half == pytest.approx(float(a), abs=0.1)


def test_equal_energy_everywhere_costs_the_logarithm_of_twelve() -> None:
    flat = torch.zeros(1, MUSIC.bands, 10)
    centers = band_centers(MUSIC)
    assert float(centers.diff()[:20].mean()) < 16
    loss = torch.stack([Melody(torch.full((10,), which), MUSIC)(flat)[0] for which in range(12)])
    assert float(loss.mean()) == pytest.approx(math.log(12), abs=0.1)


# ------------------------------------------------------------------------------------- inpainting, structure, the rest


def test_what_is_not_known_does_not_count() -> None:
    reference = Key(1).normal(torch.zeros(MUSIC.bands, 30))
    known = gap(30)
    assert known.tolist() == [True] * 10 + [False] * 10 + [True] * 10
    control = Known(reference, known, 2 * ONES)
    x = reference.clone()[None]
    x[:, :, ~known] += 100
    assert float(control(x)) == 0
    assert float(control(x + 4)) == pytest.approx(4)
    assert control.shown(4.0) == 2


def test_cepstra_are_rows_of_an_orthonormal_transform_without_the_level() -> None:
    rows = cosines(192)
    torch.testing.assert_close(rows @ rows.T, torch.eye(13), atol=1e-5, rtol=0)
    assert float((rows @ torch.ones(192)).abs().max()) < 1e-4


def sections(letters: str, frames: int = 40) -> Tensor:
    """(1, M, T) whose sections are cepstra of their own."""
    return torch.cat(
        [cosines(192)[ord(letter) - ord("A"), :, None].expand(-1, frames) for letter in letters], 1
    )[None]


def test_the_similarity_of_an_aba_is_one_where_letters_agree_and_zero_elsewhere() -> None:
    found = similarity(sections("ABA"), block=8)[0]
    assert found.shape == (15, 15)
    assert found[1, 1:4].tolist() == pytest.approx([1, 1, 1])
    assert float(found[2, 7]) == pytest.approx(0, abs=1e-5)
    assert float(found[2, 12]) == pytest.approx(1, abs=1e-5)


def test_structure_is_zero_for_what_was_asked_and_not_for_another_form() -> None:
    control = Structure("ABA", PLAIN.mean, PLAIN.std)
    assert float(control(sections("ABA"))) == pytest.approx(0, abs=1e-5)
    assert float(control(sections("CBC"))) == pytest.approx(0, abs=1e-5)
    assert float(control(sections("AAB"))) > 0.1
    assert float(control(sections("AAA"))) > 0.1


def test_adherence_is_zero_on_its_target_and_one_at_a_right_angle() -> None:
    control = Adherence(lambda x: x.mean(2), torch.tensor([1.0, 0.0]))
    x = torch.tensor([[[2.0], [0.0]], [[0.0], [3.0]]])
    assert control(x).tolist() == pytest.approx([0, 1])


def test_a_sum_weighs_its_parts_and_rows_are_asked_for_their_own() -> None:
    reference, known = torch.zeros(MUSIC.bands, 4), torch.ones(4, dtype=torch.bool)
    low, high = Known(reference, known, ONES), Known(reference + 2, known, ONES)
    x = torch.zeros(2, MUSIC.bands, 4)
    assert Sum(((1.0, low), (0.5, high)))(x).tolist() == [2, 2]
    assert PerRow((low, high))(x).tolist() == [0, 4]


@pytest.mark.parametrize(
    "control",
    [
        Known(torch.zeros(MUSIC.bands, 32), gap(32), ONES),
        Intensity(torch.full((32,), -20.0), MUSIC),
        Melody(torch.arange(32) % 12, MUSIC),
        Structure("ABA", PLAIN.mean, PLAIN.std),
    ],
    ids=lambda control: control.name,
)
def test_every_control_has_a_gradient_that_leads_down(
    control: Known | Intensity | Melody | Structure,
) -> None:
    x = (Key(2).normal(torch.zeros(2, MUSIC.bands, 32)) - 3).requires_grad_(True)
    loss = control(x)
    assert loss.shape == (2,)
    (slope,) = torch.autograd.grad(loss.sum(), [x])
    ahead = control(x - 1e-3 * slope / slope.norm())
    assert bool((ahead < loss).all())


def test_the_timbre_of_a_sound_is_nearer_to_itself_than_to_another() -> None:
    pytest.importorskip("resemblyzer", reason="timbre needs pip install --no-deps resemblyzer")
    from fewstep_audio.ditto2.embeddings import timbre
    from fewstep_audio.metrics.speakers import voice

    buzz = (torch.sin(2 * math.pi * 200 * torch.arange(3 * MUSIC.rate) / MUSIC.rate) > 0).float() - 0.5
    waves = [0.3 * buzz, tone(500, 3.0, 0.2), noise(3.0, 0.05)]
    ours = torch.cat([timbre(mel(wave)) for wave in waves])
    theirs = torch.stack([voice(wave, MUSIC.rate) for wave in waves])
    assert (ours @ theirs.T).argmax(1).tolist() == [0, 1, 2]


@pytest.fixture(scope="module")
def clap_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A CLAP model of random weights in its smallest size, saved as a user's would be."""
    transformers = pytest.importorskip("transformers", reason='CLAP needs pip install "fewstep[diffusers]"')
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "projection_dim": 8}
    sound = {"spec_size": 256, "patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [1, 2]}
    config = transformers.ClapConfig(
        text_config={**small, "intermediate_size": 16, "vocab_size": 64},
        audio_config={**sound, "hidden_size": 16, "projection_dim": 8, "window_size": 8},
        projection_dim=8,
    )
    folder = tmp_path_factory.mktemp("clap")
    torch.manual_seed(0)
    transformers.ClapModel(config).save_pretrained(folder)
    words = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "soft": 4, "loud": 5}
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>"
    )
    fast.save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
def test_a_text_is_approached_through_a_clap_model_from_a_folder(clap_folder: str) -> None:
    from fewstep_audio.ditto2.embeddings import Clap

    job = understood(Request(text="soft", clap=clap_folder), PLAIN)
    control = job.controls[0][1]
    x = mel(noise(2.0)).requires_grad_(True)
    (slope,) = torch.autograd.grad(control(x).sum(), [x])
    assert control(x - 5 * slope / slope.norm()) < control(x)
    clap = Clap(clap_folder)
    assert not torch.allclose(clap.text("soft"), clap.text("loud"))
    assert clap(mel(noise(12.0))).shape == (1, 8)


def test_a_text_without_a_model_and_a_folder_without_one_are_told(tmp_path: Path) -> None:
    with pytest.raises(FewstepError, match="needs --clap"):
        understood(Request(text="soft"), PLAIN)
    pytest.importorskip("transformers", reason='CLAP needs pip install "fewstep[diffusers]"')
    with pytest.raises(FewstepError, match="holds no CLAP model"):
        understood(Request(text="soft", clap=str(tmp_path)), PLAIN)
