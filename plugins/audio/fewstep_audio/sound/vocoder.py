"""From log-mel back to sound: the vocoder protocol, and Griffin-Lim, which needs no weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fewstep.protocol import Key
from fewstep_audio.sound.mel import MelContract, mel_filters, stft


@runtime_checkable
class Vocoder(Protocol):
    """Anything that sings a mel spectrogram: Griffin-Lim here, an adapter around HiFi-GAN or Vocos elsewhere."""

    @property
    def contract(self) -> MelContract:
        """What its spectrograms mean."""
        ...

    def __call__(self, mel: Tensor) -> Tensor:
        """(M, T) natural log-mel -> (N,) waveform in [-1, 1]."""
        ...


@dataclass(frozen=True)
class GriffinLim:
    """Phases by alternating projections with momentum (Griffin & Lim 1984; Perraudin et al. 2013).

    Args:
        contract: of the spectrograms.
        iterations: projections.
        momentum: 0 is the classical algorithm; 0.99 converges faster.
        key: where the initial phases come from; the same key gives the same samples.
    """

    contract: MelContract = field(default_factory=MelContract)
    iterations: int = 32
    momentum: float = 0.99
    key: Key = field(default_factory=lambda: Key(0).at("phase"))

    def __call__(self, mel: Tensor) -> Tensor:
        """(M, T) natural log-mel -> (N,) waveform, N = hop (T - 1).

        Raises:
            ValueError: for another shape, or fewer than three frames.
        """
        if mel.ndim != 2 or mel.shape[0] != self.contract.bands or mel.shape[1] < 3:
            raise ValueError(f"expected ({self.contract.bands}, T >= 3) log-mel, got {tuple(mel.shape)}")
        magnitude = (inverse_filters(self.contract) @ mel.float().cpu().exp()).clamp(min=0)
        samples = self.contract.hop * (mel.shape[1] - 1)
        phase = torch.exp(2j * torch.pi * self.key.uniform(magnitude.shape, dtype=torch.float32))
        before = torch.zeros_like(phase)
        for _ in range(self.iterations):
            rebuilt = stft(self._wave(magnitude * phase, samples), self.contract)
            ahead = rebuilt - self.momentum / (1 + self.momentum) * before
            phase, before = ahead / ahead.abs().clamp(min=1e-16), rebuilt
        return unclipped(self._wave(magnitude * phase, samples))

    def _wave(self, spectrum: Tensor, samples: int) -> Tensor:
        window = torch.hann_window(self.contract.window)
        return torch.istft(spectrum, self.contract.window, self.contract.hop, window=window, length=samples)


def unclipped(wave: Tensor, peak: float = 0.99) -> Tensor:
    """The waveform, made quieter if it would clip."""
    return wave * min(1.0, peak / max(float(wave.abs().max()), 1e-9))


@lru_cache(maxsize=8)
def inverse_filters(contract: MelContract) -> Tensor:
    """(window / 2 + 1, M) pseudo-inverse of the filters, in float64 and rounded once."""
    return torch.linalg.pinv(mel_filters(contract).double()).float()
