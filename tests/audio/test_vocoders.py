"""Vocoders with weights from disk: tiny ones, saved as their authors save them, sing and are refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from fewstep.errors import FewstepError
from fewstep_audio.comospeech.config import CoMoSpeechConfig
from fewstep_audio.sound.choice import VocoderConfig, vocoder_from
from fewstep_audio.sound.hifigan import Generator, half_band
from fewstep_audio.sound.mel import MelContract, log_mel, stft
from fewstep_audio.sound.vocoder import GriffinLim, Lapped, Vocoder
from fewstep_audio.sound.vocoders import load_bigvgan, load_hifigan, load_vocos
from fewstep_audio.sound.vocos import Vocos, overlapped
from fewstep_audio.sound.weights import folded

HIFIGAN = {
    "resblock": "1",
    "upsample_rates": [8, 8, 2, 2],
    "upsample_kernel_sizes": [16, 16, 4, 4],
    "upsample_initial_channel": 16,
    "resblock_kernel_sizes": [3, 5],
    "resblock_dilation_sizes": [[1, 3], [1, 3]],
    "num_mels": 80,
    "n_fft": 1024,
    "hop_size": 256,
    "sampling_rate": 22050,
    "fmin": 0,
    "fmax": 8000,
}
BIGVGAN = {**HIFIGAN, "activation": "snakebeta", "snake_logscale": True, "use_tanh_at_final": False}
VOCOS = {
    "feature_extractor": {
        "init_args": {
            "sample_rate": 22050,
            "n_mels": 80,
            "f_min": 0,
            "f_max": 8000,
            "mel_scale": "slaney",
            "norm": "slaney",
            "clip_val": 1e-5,
        }
    },
    "backbone": {"init_args": {"input_channels": 80, "dim": 16, "intermediate_dim": 32, "num_layers": 2}},
    "head": {"init_args": {"dim": 16, "n_fft": 1024, "hop_length": 256, "padding": "center"}},
}
MEL = torch.sin(torch.arange(80.0)[:, None] / 9 + torch.arange(20.0) / 3) - 4


def random(net: nn.Module) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=0.1)
    return net.eval()


def published(
    state: dict[str, Tensor], names: tuple[str, str] = ("weight_g", "weight_v")
) -> dict[str, Tensor]:
    """Convolutions under weight normalization, as HiFi-GAN's code saves them; directions are thrice too long."""
    out = {}
    for name, value in state.items():
        if name.endswith(".weight"):
            whole = name.removesuffix("weight")
            out[whole + names[0]] = value.norm(dim=tuple(range(1, value.ndim)), keepdim=True)
            out[whole + names[1]] = 3 * value
        else:
            out[name] = value
    return out


def hifigan_folder(folder: Path, **changed: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**HIFIGAN, **changed}))
    torch.save({"generator": published(random(Generator(HIFIGAN)).state_dict())}, folder / "generator_v1")
    return folder


def vocos_folder(folder: Path) -> Path:
    (folder / "config.yaml").write_text(yaml.safe_dump(VOCOS))
    net = random(Vocos(VOCOS["backbone"]["init_args"], VOCOS["head"]["init_args"]))
    extra = {"feature_extractor.mel_spec.spectrogram.window": torch.ones(4)}
    torch.save({**net.state_dict(), **extra}, folder / "pytorch_model.bin")
    return folder


def bigvgan_folder(folder: Path) -> Path:
    (folder / "config.json").write_text(json.dumps(BIGVGAN))
    state = published(random(Generator(BIGVGAN, periodic=True)).state_dict())
    named = {_inner(name): value for name, value in state.items()}
    torch.save({"generator": named}, folder / "bigvgan_generator.pt")
    return folder


def _inner(name: str) -> str:
    """BigVGAN keeps each upsampling layer in a list of its own: ups.0.0.weight_g."""
    parts = name.split(".")
    return ".".join([*parts[:2], "0", *parts[2:]]) if parts[0] == "ups" else name


FOLDERS = {"hifigan": hifigan_folder, "bigvgan": bigvgan_folder, "vocos": vocos_folder}


@pytest.mark.parametrize("kind", FOLDERS)
def test_sings_in_time_with_a_centered_spectrogram(kind: str, tmp_path: Path) -> None:
    vocoder = vocoder_from(VocoderConfig(kind=kind, path=str(FOLDERS[kind](tmp_path))))
    wave = vocoder(MEL)
    assert isinstance(vocoder, Vocoder)
    assert len(wave) == 256 * 19
    assert float(wave.abs().max()) <= 0.99
    assert float(wave.std()) > 1e-3
    assert torch.equal(wave, vocoder(MEL))


@pytest.mark.parametrize("kind", FOLDERS)
def test_another_rate_is_refused_with_both_numbers(kind: str, tmp_path: Path) -> None:
    FOLDERS[kind](tmp_path)
    with pytest.raises(FewstepError, match=r"rate 22050.*\n.*rate 16000|rate 22050") as told:
        vocoder_from(VocoderConfig(kind=kind, path=str(tmp_path)), MelContract(rate=16000))
    assert "16000" in str(told.value)


def test_folded_weights_are_those_that_torch_computes() -> None:
    layer = weight_norm(nn.Conv1d(4, 6, 3))
    with torch.no_grad():
        layer.parametrizations.weight.original0.mul_(1.7)
    state = folded({f"conv.{name}": value for name, value in layer.state_dict().items()})
    torch.testing.assert_close(state["conv.weight"], layer.weight)
    assert set(state) == {"conv.weight", "conv.bias"}


def test_both_names_of_weight_normalization_give_the_same_sound(tmp_path: Path) -> None:
    first = load_hifigan(hifigan_folder(tmp_path / "old"), MelContract())(MEL)
    folder = hifigan_folder(tmp_path / "new")
    names = ("parametrizations.weight.original0", "parametrizations.weight.original1")
    state = published(random(Generator(HIFIGAN)).state_dict(), names)
    torch.save({"generator": state}, folder / "generator_v1")
    torch.testing.assert_close(first, load_hifigan(folder, MelContract())(MEL))


def test_hifigan_has_as_many_parameters_as_published() -> None:
    """13.92, 0.92 and 1.46 million (Kong et al. 2020 table 1)."""
    third = {**HIFIGAN, "resblock": "2", "upsample_rates": [8, 8, 4], "upsample_kernel_sizes": [16, 16, 8]}
    wide = {"resblock_kernel_sizes": [3, 7, 11], "resblock_dilation_sizes": [[1, 3, 5]] * 3}
    narrow = {"resblock_kernel_sizes": [3, 5, 7], "resblock_dilation_sizes": [[1, 2], [2, 6], [3, 12]]}
    sizes = {
        13.92: {**HIFIGAN, **wide, "upsample_initial_channel": 512},
        0.92: {**HIFIGAN, **wide, "upsample_initial_channel": 128},
        1.46: {**third, **narrow, "upsample_initial_channel": 256},
    }
    for size, told in sizes.items():
        with torch.device("meta"):
            count = sum(one.numel() for one in Generator(told).parameters())
        assert count / 1e6 == pytest.approx(size, abs=0.012)


def test_a_frame_between_hops_is_shifted_by_half_a_hop(tmp_path: Path) -> None:
    folder = hifigan_folder(tmp_path)
    centered, between = (load_hifigan(folder, MelContract(center=center))(MEL) for center in (True, False))
    assert len(between) == 256 * 20
    torch.testing.assert_close(centered, between[128:-128])


def test_an_inverse_transform_between_hops_gives_back_the_sound() -> None:
    sound = torch.sin(torch.arange(4096.0) / 11)[None]
    window = torch.hann_window(1024)
    padded = torch.nn.functional.pad(sound, (384, 384))
    frames = padded.unfold(1, 1024, 256).transpose(1, 2) * window[:, None]
    torch.testing.assert_close(overlapped(frames, window, 256), sound, atol=1e-5, rtol=0)


def test_periodic_activations_do_not_change_the_loudness_of_a_constant() -> None:
    assert float(half_band(12).sum()) == pytest.approx(1.0)
    torch.testing.assert_close(half_band(12), half_band(12).flip(0))


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    folder = hifigan_folder(tmp_path, upsample_initial_channel=32)
    with pytest.raises(FewstepError, match="do not fit its config"):
        load_hifigan(folder, MelContract())


def test_a_folder_without_weights_and_one_with_code_are_refused(tmp_path: Path) -> None:
    folder = hifigan_folder(tmp_path)
    (folder / "generator_v1").unlink()
    with pytest.raises(FewstepError, match="no file"):
        load_hifigan(folder, MelContract())
    for strange in ({"generator": Path("x")}, torch.zeros(3)):
        torch.save(strange, folder / "generator_v1")
        with pytest.raises(FewstepError, match="cannot be read"):
            load_hifigan(folder, MelContract())


def test_a_config_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in HIFIGAN.items() if k != "resblock"}))
    with pytest.raises(FewstepError, match="resblock"):
        load_bigvgan(tmp_path, MelContract())
    with pytest.raises(FewstepError, match=r"config\.yaml"):
        load_vocos(tmp_path, MelContract())


def test_settings_name_a_network_and_its_folder_together() -> None:
    assert isinstance(vocoder_from(CoMoSpeechConfig(vocoder="griffin-lim").vocoder), GriffinLim)
    with pytest.raises(ValueError, match=r"needs vocoder\.path"):
        VocoderConfig(kind="hifigan")
    with pytest.raises(ValueError, match="means nothing to griffin-lim"):
        VocoderConfig(path="somewhere")


@pytest.mark.parametrize("contract", [MelContract(), MelContract(window=1000, hop=300)])
def test_griffin_lims_own_transforms_are_those_of_torch(contract: MelContract) -> None:
    wave = torch.sin(torch.arange(30 * contract.hop) ** 1.3 / 50)
    lapped, window = Lapped(contract, 31), torch.hann_window(contract.window)
    spectrum = lapped.spectrum(wave)
    torch.testing.assert_close(spectrum.T, stft(wave, contract), atol=1e-4, rtol=0)
    spoiled = spectrum * torch.linspace(0.5, 2, 31)[:, None]
    theirs = torch.istft(spoiled.T, contract.window, contract.hop, window=window, length=len(wave))
    torch.testing.assert_close(lapped.wave(spoiled), theirs, atol=1e-4, rtol=1e-4)


def test_griffin_lim_comes_closer_with_every_doubling_and_refuses_half_a_window() -> None:
    wave = torch.sin(torch.arange(40 * 256) ** 1.2 / 40) * 0.3
    mel = log_mel(wave, MelContract())
    gaps = [
        float((log_mel(GriffinLim(iterations=n)(mel), MelContract()) - mel).abs().mean()) for n in (2, 8, 32)
    ]
    assert gaps[0] > gaps[1] > gaps[2]
    with pytest.raises(ValueError, match="T >= 4"):
        GriffinLim()(mel[:, :3])
