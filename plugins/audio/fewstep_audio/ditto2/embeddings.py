"""Frozen embeddings of a spectrogram of music, with gradients: what ``--like`` approaches.

``timbre`` is a network that ships in a package and was made to tell voices apart; it hears the color of a sound and not
what is played. A text needs one that was trained on texts and sounds together, whose weights a user brings: any callable
``module:attribute`` from log-mel (B, M, T) to (B, E) can be named in its place.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from torch import Tensor
from torch.nn import functional as F

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
