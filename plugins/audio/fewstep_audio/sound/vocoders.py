"""Vocoders with weights from disk: HiFi-GAN, BigVGAN and Vocos, each from the folder that its authors' code writes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from fewstep.errors import FewstepError
from fewstep_audio.sound.hifigan import Generator
from fewstep_audio.sound.mel import MelContract
from fewstep_audio.sound.vocoder import Vocoder, unclipped
from fewstep_audio.sound.vocos import Vocos
from fewstep_audio.sound.weights import filled, state_of

SLANEY = {"scale": "slaney", "area": "slaney"}
"""How the bands of our contract are spaced and normalized; others may differ there too."""


@dataclass(frozen=True, eq=False)
class NeuralVocoder:
    """A network that sings.

    Args:
        contract: of the spectrograms.
        net: (1, M, T) natural log-mel -> (1, N).
    """

    contract: MelContract
    net: nn.Module

    def __call__(self, mel: Tensor) -> Tensor:
        """(M, T) natural log-mel -> (N,) waveform on the processor, N = hop (T - 1) where frames are centered, else hop T.

        A network that was trained on frames between hops gives half a hop more at each end; there a centered
        spectrogram has none, so that it is cut off and nothing is shifted.

        Raises:
            ValueError: for another shape.
        """
        if mel.ndim != 2 or mel.shape[0] != self.contract.bands or mel.shape[1] < 3:
            raise ValueError(f"expected ({self.contract.bands}, T >= 3) log-mel, got {tuple(mel.shape)}")
        with torch.no_grad():
            wave = self.net(mel[None].float().cpu())[0]
        wanted = self.contract.hop * (mel.shape[1] - self.contract.center)
        over = (len(wave) - wanted) // 2
        return unclipped(wave[over : over + wanted])


def load_hifigan(folder: Path, contract: MelContract) -> Vocoder:
    """HiFi-GAN v1, v2 or v3: config.json and generator_v1, g_02500000 or a safetensors file.

    Raises:
        FewstepError: something is missing, does not fit, or was made for other spectrograms.
    """
    told = _config(folder, "config.json")
    check_contract(contract, _told(told), folder)
    net = _built(Generator, told, folder)
    return NeuralVocoder(contract, filled(net, state_of(folder), folder))


def load_bigvgan(folder: Path, contract: MelContract) -> Vocoder:
    """BigVGAN, first or second version: config.json and bigvgan_generator.pt.

    Raises:
        FewstepError: something is missing, does not fit, or was made for other spectrograms.
    """
    told = _config(folder, "config.json")
    check_contract(contract, _told(told), folder)
    net = _built(lambda config: Generator(config, periodic=True), told, folder)
    state = {re.sub(r"^(ups\.\d+)\.0\.", r"\1.", name): value for name, value in state_of(folder).items()}
    return NeuralVocoder(contract, filled(net, state, folder))


def load_vocos(folder: Path, contract: MelContract) -> Vocoder:
    """Vocos on mel spectrograms: config.yaml and pytorch_model.bin.

    Raises:
        FewstepError: something is missing, does not fit, or was made for other spectrograms.
    """
    told = _config(folder, "config.yaml")
    parts = {
        name: told.get(name, {}).get("init_args", {}) for name in ("feature_extractor", "backbone", "head")
    }
    heard = parts["feature_extractor"]
    check_contract(
        contract,
        {
            "rate": heard.get("sample_rate", 24000),
            "window": heard.get("n_fft", 1024),
            "hop": heard.get("hop_length", 256),
            "bands": heard.get("n_mels", 100),
            "low": heard.get("f_min", 0),
            "high": heard.get("f_max") or heard.get("sample_rate", 24000) / 2,
            "floor": heard.get("clip_val", 1e-7),
            "scale": heard.get("mel_scale", "htk"),
            "area": heard.get("norm"),
        },
        folder,
    )
    net = _built(lambda _: Vocos(parts["backbone"], parts["head"]), told, folder)
    state = {name: one for name, one in state_of(folder).items() if not name.startswith("feature_extractor.")}
    return NeuralVocoder(contract, filled(net, state, folder))


LOADERS: Mapping[str, Callable[[Path, MelContract], Vocoder]] = {
    "hifigan": load_hifigan,
    "bigvgan": load_bigvgan,
    "vocos": load_vocos,
}


def check_contract(contract: MelContract, theirs: Mapping[str, Any], folder: Path) -> None:
    """Whether a vocoder was trained on our spectrograms. Where frames are centered does not matter: it is a shift.

    Raises:
        FewstepError: telling every difference, ours and theirs.
    """
    ours = {**asdict(contract), **SLANEY}
    apart = [name for name, value in theirs.items() if ours[name] != value]
    if apart:
        raise FewstepError(
            f"the vocoder in {folder} was trained on other spectrograms: "
            + ", ".join(f"{name} {theirs[name]}" for name in apart),
            ", ".join(f"{name} {ours[name]}" for name in apart),
            "bring weights for these spectrograms, or take vocoder=griffin-lim",
        )


def _told(config: Mapping[str, Any]) -> dict[str, Any]:
    """HiFi-GAN's names for the contract; its code fixes floor, scale and area."""
    names = {
        "rate": "sampling_rate",
        "window": "n_fft",
        "hop": "hop_size",
        "bands": "num_mels",
        "low": "fmin",
    }
    top = config.get("fmax") or config.get("sampling_rate", 0) / 2
    return {ours: config.get(theirs) for ours, theirs in names.items()} | {"high": top}


def _config(folder: Path, name: str) -> dict[str, Any]:
    try:
        text = (folder / name).read_text(encoding="utf-8")
        found = json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise FewstepError(
            f"{folder / name} cannot be read ({error})",
            "the published folder of a vocoder",
            "correct vocoder.path",
        ) from error
    return found


def _built(
    make: Callable[[Mapping[str, Any]], nn.Module], told: Mapping[str, Any], folder: Path
) -> nn.Module:
    try:
        return make(told)
    except (KeyError, TypeError, ValueError) as error:
        raise FewstepError(
            f"the config in {folder} does not describe this kind of vocoder ({type(error).__name__}: {error})",
            "the config that was published with the weights",
            "correct vocoder.kind or vocoder.path",
        ) from error
