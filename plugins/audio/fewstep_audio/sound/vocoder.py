"""From log-mel back to sound: the vocoder protocol, and Griffin-Lim, which needs no weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from fewstep.protocol import Key
from fewstep_audio.sound.mel import MelContract, mel_filters


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
            ValueError: for another shape, or a sound of half a window or less.
        """
        told, least = self.contract, self.contract.window // 2 // self.contract.hop + 2
        if mel.ndim != 2 or mel.shape[0] != told.bands or mel.shape[1] < least:
            raise ValueError(f"expected ({told.bands}, T >= {least}) log-mel, got {tuple(mel.shape)}")
        magnitude = (inverse_filters(told) @ mel.float().cpu().exp()).clamp(min=0)
        turn = 2 * torch.pi * self.key.uniform(magnitude.shape, dtype=torch.float32)
        # Frames by frequencies from here on: transforms and overlaps then run over memory in its order.
        magnitude, lapped = magnitude.T.contiguous(), Lapped(told, mel.shape[1])
        spectrum = torch.polar(magnitude, turn.T.contiguous())
        before = torch.zeros_like(spectrum)
        for _ in range(self.iterations):
            rebuilt = lapped.spectrum(lapped.wave(spectrum))
            ahead = torch.add(rebuilt, before, alpha=-self.momentum / (1 + self.momentum))
            # A product with the conjugate, because torch takes five times as long for |z|.
            length = (ahead * ahead.conj()).real.sqrt().clamp_(min=1e-16)
            spectrum, before = ahead.mul_(magnitude / length), rebuilt
        return unclipped(lapped.wave(spectrum))


class Lapped:
    """Sound from overlapping frames and back, for one length; everything that does not change is made once.

    Args:
        contract: of the spectrograms; frames are centered, and the sound is reflected at its ends.
        frames: T.
    """

    def __init__(self, contract: MelContract, frames: int) -> None:
        """Laps are the hops in a window."""
        self.size, self.hop, self.frames = contract.window, contract.hop, frames
        self.laps = math.ceil(self.size / self.hop)
        self.window = torch.hann_window(self.size)
        self.weight = 1 / self._added(self.window.square().expand(frames, -1)).clamp(min=1e-11)

    def wave(self, spectrum: Tensor) -> Tensor:
        """(T, window / 2 + 1) complex -> (N,) sound whose frames come closest, N = hop (T - 1)."""
        frames = torch.fft.irfft(spectrum, n=self.size)
        return self._added(frames.mul_(self.window)).mul_(self.weight)

    def spectrum(self, wave: Tensor) -> Tensor:
        """(N,) -> (T, window / 2 + 1) complex short-time Fourier transform."""
        half = self.size // 2
        whole = torch.cat([wave[1 : half + 1].flip(0), wave, wave[-half - 1 : -1].flip(0)])
        return torch.fft.rfft(whole.unfold(0, self.size, self.hop) * self.window)

    def _added(self, frames: Tensor) -> Tensor:
        """(T, window) -> (N,) the sum where they overlap, without the halves that stick out."""
        parts = F.pad(frames, (0, self.laps * self.hop - self.size)).view(self.frames, self.laps, self.hop)
        whole = parts.new_zeros(self.frames + self.laps - 1, self.hop)
        for lap in range(self.laps):
            whole[lap : lap + self.frames] += parts[:, lap]
        begin = self.size // 2
        return whole.flatten()[begin : begin + self.hop * (self.frames - 1)]


def unclipped(wave: Tensor, peak: float = 0.99) -> Tensor:
    """The waveform, made quieter if it would clip."""
    return wave * min(1.0, peak / max(float(wave.abs().max()), 1e-9))


@lru_cache(maxsize=8)
def inverse_filters(contract: MelContract) -> Tensor:
    """(window / 2 + 1, M) pseudo-inverse of the filters, in float64 and rounded once."""
    return torch.linalg.pinv(mel_filters(contract).double()).float()
