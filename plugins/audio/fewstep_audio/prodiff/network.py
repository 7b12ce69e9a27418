"""The denoiser: CoMoSpeech's, over an encoder that hears pitch and energy, and beside a source-filter model.

Shape legend: B batch, M mel bands, T frames, C channels, K knots of pitch.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from fewstep.protocol import Cond
from fewstep_audio.networks import FrameEncoder, MelNetwork, sinusoids
from fewstep_audio.sound.mel import MelContract, Scale, log_mel
from fewstep_audio.sound.pitch import HIGHEST, LOWEST

PITCHES, LOUDNESSES = 128, 16
"""Knots of the two tables; 128 are 29 cents apart."""


class ProDiffNetwork(MelNetwork):
    """Noisy mel, time, phones and prosody to the raw prediction; carries the scale of its mels.

    The logarithm of a voice's spectrum is an envelope plus the ripple of its harmonics (Fant 1960). Both are offered as a
    sum, envelope(frame) + depth(frame) ripple(pitch), times a share that falls where the noisy mel shows them already; the
    decoder adds what they lack. A small decoder alone does not learn harmonics in minutes, and whispers.

    Args:
        channels: C.
        dilations: of the decoder's blocks, one each.
        voices: how many speakers there are to be told apart; 0 = nobody is told.
        scale: of the training mels; left open when weights are loaded afterwards.
    """

    encoder: ProsodyEncoder

    def __init__(
        self, channels: int, dilations: tuple[int, ...], voices: int, scale: Scale | None = None
    ) -> None:
        """Envelope and depth begin at zero."""
        contract = MelContract()
        encoder = ProsodyEncoder(channels, voices)
        super().__init__(contract.bands, channels, dilations, scale, encoder=encoder)
        self.filter = nn.Conv1d(channels, 2 * contract.bands, 1)
        self.share = nn.Linear(channels, 2 * contract.bands)
        for parameter in self.filter.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, time: Tensor, cond: Cond, to: Tensor | None = None) -> Tensor:
        """(B, M, T), (B,), condition with pitch and energy, (B,) destination -> (B, M, T)."""
        real = torch.ones_like(x[:, :1]) if cond.mask is None else cond.mask.to(x.dtype)
        seen = self.encoder(cond, x.dtype)
        share = torch.sigmoid(self.share(self.decoder.time(sinusoids(time))))[:, :, None]
        envelope, depth = (self.filter(seen) * share).chunk(2, 1)
        ripple = self.encoder.ripple(cond, x.dtype)
        return self.decoder(x, time, seen, real, to) + envelope + depth * ripple


class ProsodyEncoder(nn.Module):
    """CoMoSpeech's encoder of phones, durations and voice, and what is told of pitch and energy.

    Args:
        channels: C.
        voices: how many speakers there are to be told apart; 0 = nobody is told.
    """

    def __init__(self, channels: int, voices: int) -> None:
        """A convolution mixes what is told about neighboring frames."""
        super().__init__()
        self.frames = FrameEncoder(channels, voices)
        self.pitch = nn.Linear(MelContract().bands + 1, channels)
        self.energy = nn.Linear(LOUDNESSES, channels)
        self.mixed = nn.Conv1d(channels, channels, 5, padding=2)
        self.register_buffer("harmonics", harmonics(), persistent=False)

    harmonics: Tensor

    def ripple(self, cond: Cond, dtype: torch.dtype) -> Tensor:
        """(B, M, T) harmonics of the pitch, zero where there is none."""
        place = knots(cond.data["pitch"].to(dtype), math.log(LOWEST), math.log(HIGHEST), PITCHES)
        found = (place @ self.harmonics.to(dtype)).transpose(1, 2)
        return found * cond.data["voiced"].to(dtype)[:, None]

    def forward(self, cond: Cond, dtype: torch.dtype) -> Tensor:
        """(B, C, T)."""
        voiced = cond.data["voiced"].to(dtype)[..., None]
        height = self.ripple(cond, dtype).transpose(1, 2)
        loud = knots(cond.data["energy"].to(dtype), -3.0, 3.0, LOUDNESSES)
        shown = self.pitch(torch.cat([height, voiced], -1)) + self.energy(loud)
        told = self.frames(cond, dtype) + shown.transpose(1, 2)
        if cond.mask is not None:  # what lies behind a sentence must not reach into it
            told = told * cond.mask.to(dtype)
        return told + torch.relu(self.mixed(told))


def knots(value: Tensor, low: float, high: float, count: int) -> Tensor:
    """(...,) -> (..., count) weights of the two nearest of ``count`` even knots: a table that is continuous.

    FastSpeech 2 rounds to the nearest of 256 (Ren et al. 2021 sec. 2.3); what lies outside belongs to the last knot.
    """
    spot = ((value - low) / (high - low)).clamp(0, 1) * (count - 1)
    place = torch.arange(count, dtype=value.dtype, device=value.device)
    return (1 - (spot[..., None] - place).abs()).clamp(min=0)


@lru_cache(maxsize=1)
def harmonics() -> Tensor:
    """(K, M) log-mel of even pulses at every knot of pitch, less its mean over bands, in units of its spread.

    Pulses without aliases have a closed form: sum_h cos(h u) = sin((H + 1/2) u) / (2 sin(u / 2)) - 1/2.
    """
    contract = MelContract()
    hertz = torch.logspace(math.log(LOWEST), math.log(HIGHEST), PITCHES, math.e, dtype=torch.float64)
    phase = 2 * math.pi * hertz[:, None] * (torch.arange(4 * contract.window) + 0.5) / contract.rate
    count = (contract.high / hertz).floor()[:, None]
    half = torch.sin(phase / 2)
    half = torch.where(half.abs() < 1e-9, 1e-9, half)
    pulses = torch.sin((count + 0.5) * phase) / (2 * half) - 0.5
    mel = log_mel(pulses.float(), contract)[..., 4:-4].mean(-1)
    mel = mel - mel.mean(1, keepdim=True)
    return mel / mel.std()
