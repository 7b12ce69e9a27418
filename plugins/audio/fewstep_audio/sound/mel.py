"""The mel contract: how a waveform becomes the picture that every speech recipe of this plugin works on.

22 050 Hz mono, Hann window of 1024 every 256 samples, centered with reflection, magnitude, 80 Slaney bands up to
8 kHz, natural logarithm with a floor. The numbers of Grad-TTS, CoMoSpeech and HiFi-GAN v1, so that their vocoders fit.
Plain torch; agrees with librosa and torchaudio to 1e-5 (tests). Shape legend: B batch, N samples, M bands, T frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

LINEAR_TOP = 1000.0
"""Below it the Slaney scale is linear (3 mel per 200 Hz), above logarithmic (27 mel per factor 6.4)."""


@dataclass(frozen=True)
class MelContract:
    """What a mel spectrogram means.

    Args:
        rate: samples per second.
        window: Hann window and Fourier transform, in samples.
        hop: samples between frames.
        bands: mel bands.
        low: lowest frequency, Hz.
        high: highest frequency, Hz.
        floor: smallest magnitude before the logarithm.
        center: True: frame t is centered on sample t * hop (librosa's way). False: the padding of HiFi-GAN, which
            gives N / hop frames.
    """

    rate: int = 22050
    window: int = 1024
    hop: int = 256
    bands: int = 80
    low: float = 0.0
    high: float = 8000.0
    floor: float = 1e-5
    center: bool = True

    @property
    def silence(self) -> float:
        """Log-mel of digital silence."""
        return math.log(self.floor)

    def frames(self, samples: int) -> int:
        """How many frames ``log_mel`` makes of that many samples."""
        return samples // self.hop + 1 if self.center else samples // self.hop


def log_mel(wave: Tensor, contract: MelContract) -> Tensor:
    """(..., N) waveform in [-1, 1] -> (..., M, T) natural log of the mel magnitudes.

    Raises:
        ValueError: if the waveform is too short to be reflected at its ends.
    """
    if wave.shape[-1] <= contract.window // 2:
        raise ValueError(
            f"a waveform of {wave.shape[-1]} samples is shorter than half a window ({contract.window // 2})"
        )
    magnitude = stft(wave, contract).abs()
    return torch.log((mel_filters(contract).to(wave) @ magnitude).clamp(min=contract.floor))


def stft(wave: Tensor, contract: MelContract) -> Tensor:
    """(..., N) -> (..., window / 2 + 1, T) complex short-time Fourier transform."""
    if not contract.center:
        pad = (contract.window - contract.hop) // 2
        flat = F.pad(wave.reshape(-1, wave.shape[-1]), (pad, pad), mode="reflect")
        wave = flat.reshape(*wave.shape[:-1], -1)
    return torch.stft(
        wave,
        contract.window,
        contract.hop,
        window=torch.hann_window(contract.window, dtype=wave.dtype, device=wave.device),
        center=contract.center,
        pad_mode="reflect",
        return_complex=True,
    )


@lru_cache(maxsize=8)
def mel_filters(contract: MelContract) -> Tensor:
    """(M, window / 2 + 1) triangles of equal area on the Slaney mel scale (Slaney 1998, Auditory Toolbox)."""
    corners = _corners(contract)
    bins = torch.linspace(0, contract.rate / 2, contract.window // 2 + 1, dtype=torch.float64)
    width = corners.diff()
    slope = corners[:, None] - bins[None]
    rising, falling = -slope[:-2] / width[:-1, None], slope[2:] / width[1:, None]
    triangles = torch.minimum(rising, falling).clamp(min=0)
    return (triangles * (2 / (corners[2:] - corners[:-2]))[:, None]).float()


def band_centers(contract: MelContract) -> Tensor:
    """(M,) Hz, float64, where each band is loudest."""
    return _corners(contract)[1:-1]


def _corners(contract: MelContract) -> Tensor:
    """(M + 2,) Hz: feet and peaks of the triangles, evenly spaced in mel."""
    low, high = _mel(torch.tensor([contract.low, contract.high], dtype=torch.float64)).tolist()
    return _hertz(torch.linspace(low, high, contract.bands + 2, dtype=torch.float64))


def _mel(hertz: Tensor) -> Tensor:
    linear = hertz * 3 / 200
    return torch.where(
        hertz < LINEAR_TOP, linear, 15 + 27 * torch.log(hertz.clamp(min=1e-9) / LINEAR_TOP) / math.log(6.4)
    )


def _hertz(mel: Tensor) -> Tensor:
    return torch.where(mel < 15, mel * 200 / 3, LINEAR_TOP * torch.exp(math.log(6.4) * (mel - 15) / 27))


@dataclass(frozen=True)
class Scale:
    """Log-mel to the space of the process and back: zero mean and standard deviation ``spread`` in every band.

    Args:
        mean: (M, 1) of the training data.
        std: (M, 1) of the training data.
        spread: sigma_data of the process.
    """

    mean: Tensor
    std: Tensor
    spread: float = 0.5

    def normalized(self, mel: Tensor) -> Tensor:
        """(..., M, T) log-mel -> state."""
        return (mel - self.mean.to(mel)) / self.std.to(mel) * self.spread

    def restored(self, state: Tensor) -> Tensor:
        """(..., M, T) state -> log-mel."""
        return state / self.spread * self.std.to(state) + self.mean.to(state)
