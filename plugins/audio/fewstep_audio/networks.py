"""The denoiser of mel spectrograms: phones laid out in time, and a WaveNet that sees them and the noisy mel.

Shape legend: B batch, M mel bands, T frames, C channels, P phones.
"""

from __future__ import annotations

import math
from copy import deepcopy

import torch
from torch import Tensor, nn

from fewstep.protocol import Cond
from fewstep_audio.sound.mel import Scale
from fewstep_audio.speech.durations import PhoneEncoder

WAVES = 64
"""Sinusoids of the time embedding."""


class MelNetwork(nn.Module):
    """Noisy mel, time and condition to the raw prediction; carries the scale of its mels.

    The encoder is separate from the decoder so that a student may keep the teacher's (Ye et al. 2023 sec. 3.3).

    Args:
        bands: M.
        channels: C.
        dilations: of the decoder's blocks, one each.
        scale: of the training mels; left open when weights are loaded afterwards.
        encoder: ``(cond, dtype) -> (B, C, T)``, what is known of every frame; a :class:`FrameEncoder` by default.
        predicts: whether the encoder also says which mel it expects, ``mu``, as priors around it need.
    """

    def __init__(
        self,
        bands: int,
        channels: int,
        dilations: tuple[int, ...],
        scale: Scale | None = None,
        *,
        encoder: nn.Module | None = None,
        predicts: bool = False,
    ) -> None:
        """The scale is a pair of buffers, so that weights and scale travel together."""
        super().__init__()
        self.encoder = FrameEncoder(channels) if encoder is None else encoder
        self.decoder = WaveNet(bands, channels, dilations)
        self.expected = _zero(nn.Conv1d(channels, bands, 1)) if predicts else None
        self.spread = 0.5 if scale is None else scale.spread
        self.register_buffer("mean", torch.zeros(bands, 1) if scale is None else scale.mean.clone())
        self.register_buffer("std", torch.ones(bands, 1) if scale is None else scale.std.clone())

    mean: Tensor
    std: Tensor

    @property
    def scale(self) -> Scale:
        """From states to log-mel."""
        return Scale(self.mean, self.std, self.spread)

    @property
    def accepts(self) -> frozenset[str]:
        """``to``, where the decoder is told its destination."""
        return frozenset(() if self.decoder.destination is None else {"to"})

    def copied(self, lands: bool) -> MelNetwork:
        """A copy that may learn, and if it ``lands`` is also told where: at first it does the same everywhere."""
        copy = deepcopy(self).requires_grad_(True).train()
        if lands and copy.decoder.destination is None:
            copy.decoder.destination = copy.decoder.destinations()
        return copy

    def mu(self, cond: Cond, dtype: torch.dtype) -> Tensor:
        """(B, M, T) the mel that the encoder alone expects, zero at padding.

        Raises:
            ValueError: the network was not made to predict it.
        """
        if self.expected is None:
            raise ValueError("this network expects no mel; make it with predicts=True")
        found = self.expected(self.encoder(cond, dtype))
        return found if cond.mask is None else found * cond.mask

    def forward(self, x: Tensor, time: Tensor, cond: Cond, to: Tensor | None = None) -> Tensor:
        """(B, M, T), (B,), condition with ``at`` and ``place``, (B,) destination -> (B, M, T)."""
        real = torch.ones_like(x[:, :1]) if cond.mask is None else cond.mask.to(x.dtype)
        return self.decoder(x, time, self.encoder(cond, x.dtype), real, to)


class FrameEncoder(nn.Module):
    """The encoder's phones, spread over their frames, and who speaks them if that is told.

    Args:
        channels: C.
        voices: how many speakers there are to be told apart; 0 = nobody is told.
    """

    def __init__(self, channels: int, voices: int = 0) -> None:
        """Place in the phone and speaker enter linearly."""
        super().__init__()
        self.phones = PhoneEncoder(channels)
        self.place = nn.Linear(2, channels)
        self.voice = nn.Embedding(voices, channels) if voices else None

    def forward(self, cond: Cond, dtype: torch.dtype) -> Tensor:
        """(B, C, T)."""
        hidden = self.phones(cond.data["phones"], cond.data["stress"])
        at = cond.data["at"][:, None].expand(-1, hidden.shape[1], -1)
        spread = hidden.gather(2, at) + self.place(cond.data["place"].to(dtype)).transpose(1, 2)
        return spread if self.voice is None else spread + self.voice(cond.data["voice"])[:, :, None]


class WaveNet(nn.Module):
    """Gated residual blocks (Kong et al. 2021 DiffWave), and a linear shortcut from input to output.

    A narrow trunk of gates cannot carry the noise of 80 bands through; the shortcut W x + g(t) x can, and begins at zero.

    Args:
        bands: M.
        channels: C.
        dilations: one block each.
    """

    def __init__(self, bands: int, channels: int, dilations: tuple[int, ...]) -> None:
        """The output begins at zero, so that an untrained denoiser returns c_skip x."""
        super().__init__()
        self.time = nn.Sequential(
            nn.Linear(WAVES, channels), nn.SiLU(), nn.Linear(channels, channels), nn.SiLU()
        )
        self.inner = nn.Conv1d(bands, channels, 1)
        self.blocks = nn.ModuleList(GatedBlock(channels, dilation) for dilation in dilations)
        self.outer = nn.Sequential(
            nn.Conv1d(channels, channels, 1), nn.SiLU(), _zero(nn.Conv1d(channels, bands, 1))
        )
        self.straight = _zero(nn.Conv1d(bands, bands, 1, bias=False))
        self.gain = _zero(nn.Linear(channels, bands))
        self.destination: nn.Module | None = None

    def destinations(self) -> nn.Module:
        """An embedding of where a flow map lands, as large as that of the time, that begins at zero."""
        channels = self.inner.out_channels
        return nn.Sequential(nn.Linear(WAVES, channels), nn.SiLU(), _zero(nn.Linear(channels, channels)))

    def forward(
        self, x: Tensor, time: Tensor, seen: Tensor, real: Tensor, to: Tensor | None = None
    ) -> Tensor:
        """(B, M, T), (B,), (B, C, T), (B, 1, T), (B,) -> (B, M, T)."""
        moment = self.time(sinusoids(time))
        if to is not None and self.destination is not None:
            moment = moment + self.destination(sinusoids(to))
        hidden, skips = torch.relu(self.inner(x)), torch.zeros_like(seen)
        for block in self.blocks:
            hidden, skip = block(hidden, moment, seen, real)
            skips = skips + skip
        trunk = self.outer(skips / math.sqrt(len(self.blocks)))
        return trunk + self.straight(x) + self.gain(moment)[:, :, None] * x


class GatedBlock(nn.Module):
    """Dilated convolution of three frames, gated, told time and phones.

    Args:
        channels: C.
        dilation: frames between its taps.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        """Three inputs meet before the gate."""
        super().__init__()
        self.moment = nn.Linear(channels, channels)
        self.wide = nn.Conv1d(channels, 2 * channels, 3, padding=dilation, dilation=dilation)
        self.seen = nn.Conv1d(channels, 2 * channels, 1)
        self.out = nn.Conv1d(channels, 2 * channels, 1)

    def forward(self, x: Tensor, moment: Tensor, seen: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """The next hidden frames and this block's skip, both (B, C, T). Padding is silent at every depth."""
        inner = (x + self.moment(moment)[:, :, None]) * real
        filtered, gate = (self.wide(inner) + self.seen(seen)).chunk(2, 1)
        residual, skip = self.out(torch.tanh(filtered) * torch.sigmoid(gate)).chunk(2, 1)
        return (x + residual) / math.sqrt(2), skip


def sinusoids(time: Tensor) -> Tensor:
    """(B,) -> (B, WAVES) sines and cosines of 1000 times the time, as in CoMoSpeech's released code."""
    rates = torch.exp(-math.log(10_000) * torch.arange(WAVES // 2, device=time.device) / (WAVES // 2 - 1))
    angles = 1000 * time[:, None] * rates.to(time.dtype)
    return torch.cat([angles.sin(), angles.cos()], -1)


def _zero(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module
