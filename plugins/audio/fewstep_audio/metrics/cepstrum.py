"""Mel-cepstral distortion along the best alignment of two spectrograms."""

from __future__ import annotations

import math
from functools import lru_cache

import librosa
import numpy as np
import torch
from torch import Tensor

COEFFICIENTS = 13
"""c1 to c13; c0 is loudness."""

DISTORTION = 10 / math.log(10) * math.sqrt(2)
"""From a Euclidean distance of cepstra to dB (Kubichek 1993)."""


def cepstra(mel: Tensor) -> Tensor:
    """(M, T) natural log-mel -> (13, T), the orthonormal DCT-II of each frame without c0."""
    return cosines(mel.shape[0]).to(mel) @ mel


def mcd_mel(mel: Tensor, other: Tensor) -> float:
    """Mean distortion in dB over the path that dynamic time warping finds.

    Of cepstra of the mel spectrogram itself, with the orthonormal transform: sqrt(2 M) times as large, 12.6 for 80 bands,
    as with the coefficients of a Fourier series. Values from WORLD's mel-cepstrum are others again and not comparable.

    Args:
        mel: (M, T) natural log-mel.
        other: (M, T'), T' need not be T.
    """
    mine, true = (cepstra(one.detach().float().cpu()) for one in (mel, other))
    here, there = path(mine, true)
    return DISTORTION * float((mine[:, here] - true[:, there]).square().sum(0).sqrt().mean())


def path(mine: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Which frame of one goes with which of the other: (D, T), (D, T') -> two (L,) int64, ascending."""
    _, steps = librosa.sequence.dtw(mine.numpy(), true.numpy(), metric="euclidean")
    here, there = torch.from_numpy(np.ascontiguousarray(steps[::-1])).long().unbind(1)
    return here, there


@lru_cache(maxsize=8)
def cosines(bands: int) -> Tensor:
    """(13, M) rows 1 to 13 of the orthonormal DCT-II."""
    order = torch.arange(1, COEFFICIENTS + 1, dtype=torch.float64)[:, None]
    place = torch.arange(bands, dtype=torch.float64) + 0.5
    return (math.sqrt(2 / bands) * torch.cos(math.pi * order * place / bands)).float()
