"""What the denoiser, which is CoMoSpeech's, is told: phones, durations, voice, and how high and loud every frame is.

Shape legend: B batch, T frames, C channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fewstep.protocol import Cond
from fewstep_audio.comospeech.network import FrameEncoder
from fewstep_audio.sound.pitch import HIGHEST, LOWEST

PITCHES, LOUDNESSES = 48, 16
"""Knots of the two tables."""


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
        self.pitch = nn.Linear(PITCHES + 1, channels)
        self.energy = nn.Linear(LOUDNESSES, channels)
        self.mixed = nn.Conv1d(channels, channels, 5, padding=2)

    def forward(self, cond: Cond, dtype: torch.dtype) -> Tensor:
        """(B, C, T)."""
        voiced = cond.data["voiced"].to(dtype)[..., None]
        height = knots(cond.data["pitch"].to(dtype), math.log(LOWEST), math.log(HIGHEST), PITCHES)
        loud = knots(cond.data["energy"].to(dtype), -3.0, 3.0, LOUDNESSES)
        shown = self.pitch(torch.cat([height * voiced, voiced], -1)) + self.energy(loud)
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
