"""Frozen embeddings of a spectrogram of music, with gradients: what ``--like`` approaches.

``timbre`` is a network that ships in a package and was made to tell voices apart; it hears the color of a sound and not
what is played. A text needs one that was trained on texts and sounds together, whose weights a user brings: ``Clap``.
Any other callable ``module:attribute`` from log-mel (B, M, T) to (B, E) can be named in its place.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fewstep.errors import FewstepError
from fewstep_audio.metrics.optional import needed
from fewstep_audio.metrics.speakers import CONTRACT, STEP, WINDOW, voice_encoder
from fewstep_audio.music.corpus import MUSIC
from fewstep_audio.sound.mel import mel_filters
from fewstep_audio.sound.vocoder import inverse_filters


def timbre(mel: Tensor) -> Tensor:
    """(B, M, T) log-mel of music -> (B, 256) unit vectors, the mean over windows of 1.6 s (Wan et al. 2018)."""
    magnitude = (inverse_filters(MUSIC).to(mel) @ mel.exp()).clamp(min=0)
    power = _bridge().to(mel) @ magnitude.square()
    frames = max(WINDOW, round(mel.shape[2] * MUSIC.hop / MUSIC.rate * CONTRACT.rate / CONTRACT.hop))
    at_rate = F.interpolate(power, size=frames, mode="linear", align_corners=False)
    windows = at_rate.unfold(2, WINDOW, STEP).permute(0, 2, 3, 1)
    heard = voice_encoder()(windows.flatten(0, 1)).unflatten(0, windows.shape[:2])
    return F.normalize(heard.mean(1), dim=1)


@lru_cache(maxsize=1)
def _bridge() -> Tensor:
    """(40, window / 2 + 1) the encoder's bands over our frequencies.

    Power grows with the length of the window, and sums over frequencies with how close they lie.
    """
    bands = replace(MUSIC, bands=CONTRACT.bands, low=CONTRACT.low, high=CONTRACT.high)
    longer = MUSIC.window / CONTRACT.window
    closer = (CONTRACT.rate / CONTRACT.window) / (MUSIC.rate / MUSIC.window)
    return mel_filters(bands) / (longer * closer)


class Clap:
    """Texts and sounds in one space, from a folder with CLAP weights in the format of transformers (Wu et al. 2023).

    Our spectrogram ends at 8 kHz and theirs at 14: what lies above is silent, as in a recording of low rate.

    Args:
        folder: with config.json, weights and the tokenizer's files; nothing is downloaded.

    Raises:
        FewstepError: transformers is not installed, or the folder holds no such model.
    """

    BANDS = replace(MUSIC, bands=64, low=50.0, high=14_000.0)
    RATE, SAMPLES, HOP, LONGEST = 48_000, 1024, 480, 1000
    SILENCE = 1e-10

    def __init__(self, folder: str | Path) -> None:
        """Load, frozen."""
        clap = needed("transformers", "a text as a target", 'pip install "fewstep[diffusers]"')
        try:
            model = clap.ClapModel.from_pretrained(str(folder), local_files_only=True)
            self.words = clap.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError) as error:
            raise FewstepError(
                f"{folder} holds no CLAP model: {error}",
                "a folder with config.json, weights and tokenizer of a ClapModel",
                "save one there with save_pretrained, or correct the path",
            ) from error
        self.model = model.eval().requires_grad_(False)

    def __call__(self, mel: Tensor) -> Tensor:
        """(B, M, T) log-mel of music -> (B, E)."""
        magnitude = (inverse_filters(MUSIC).to(mel) @ mel.exp()).clamp(min=0)
        shorter = (
            self.SAMPLES / MUSIC.window
        ) ** 2  # the power of a tone grows with the square of the window
        power = shorter * mel_filters(self.BANDS).to(mel) @ magnitude.square()
        frames = round(mel.shape[2] * MUSIC.hop / MUSIC.rate * self.RATE / self.HOP)
        told = 10 * torch.log10(F.interpolate(power, size=frames, mode="linear").clamp(min=self.SILENCE))
        parts = told.transpose(1, 2)[:, None].split(self.LONGEST, dim=2)
        found = [_vector(self.model.get_audio_features(input_features=part)) for part in parts]
        return torch.stack([F.normalize(one, dim=1) for one in found]).mean(0)

    def text(self, words: str) -> Tensor:
        """(E,) of a text."""
        with torch.no_grad():
            return _vector(self.model.get_text_features(**self.words(words, return_tensors="pt")))[0]


def _vector(found: Any) -> Tensor:
    """Some releases of transformers give the vector, others an output that holds it."""
    return getattr(found, "pooler_output", found)
