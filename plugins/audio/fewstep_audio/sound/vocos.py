"""The generator of Vocos (Siuzdak 2024, arXiv:2306.00814): ConvNeXt blocks at the rate of frames, one inverse transform.

Parameters are named as published. Shape legend: B batch, M bands, T frames, C channels, N samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LOUDEST = 1e2
"""Magnitudes are clipped there, as in the released code."""


class Vocos(nn.Module):
    """Log-mel to sound.

    Args:
        backbone: ``input_channels``, ``dim``, ``intermediate_dim``, ``num_layers``.
        head: ``n_fft``, ``hop_length``, ``padding`` ("center" or "same").
    """

    def __init__(self, backbone: Mapping[str, Any], head: Mapping[str, Any]) -> None:
        """Untrained."""
        super().__init__()
        self.backbone = _Backbone(
            backbone["input_channels"],
            backbone["dim"],
            backbone["intermediate_dim"],
            backbone["num_layers"],
        )
        self.head = _Head(backbone["dim"], head["n_fft"], head["hop_length"], head.get("padding", "center"))

    def forward(self, mel: Tensor) -> Tensor:
        """(B, M, T) natural log-mel -> (B, N); N = hop T, or hop (T - 1) where frames are centered."""
        return self.head(self.backbone(mel))


class _Backbone(nn.Module):
    def __init__(self, bands: int, channels: int, wide: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Conv1d(bands, channels, 7, padding=3)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.convnext = nn.ModuleList(_Block(channels, wide) for _ in range(layers))
        self.final_layer_norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, mel: Tensor) -> Tensor:
        """(B, M, T) -> (B, T, C)."""
        x = self.norm(self.embed(mel).transpose(1, 2)).transpose(1, 2)
        for block in self.convnext:
            x = block(x)
        return self.final_layer_norm(x.transpose(1, 2))


class _Block(nn.Module):
    """Liu et al. 2022 (ConvNeXt) in one dimension."""

    def __init__(self, channels: int, wide: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv1d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(channels, wide), nn.Linear(wide, channels)
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        inner = self.norm(self.dwconv(x).transpose(1, 2))
        return x + (self.gamma * self.pwconv2(F.gelu(self.pwconv1(inner)))).transpose(1, 2)


class _Head(nn.Module):
    def __init__(self, channels: int, window: int, hop: int, padding: str) -> None:
        super().__init__()
        self.out = nn.Linear(channels, window + 2)
        self.istft = _Window(window)
        self.hop, self.centered = hop, padding == "center"

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, N)."""
        size, phase = self.out(x).transpose(1, 2).chunk(2, 1)
        spectrum = torch.polar(size.exp().clamp(max=LOUDEST), phase)
        window = self.istft.window
        if self.centered:
            return torch.istft(spectrum, len(window), self.hop, window=window)
        return overlapped(torch.fft.irfft(spectrum, dim=1), window, self.hop)


class _Window(nn.Module):
    window: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(size))


def overlapped(frames: Tensor, window: Tensor, hop: int) -> Tensor:
    """(B, W, T) frames, added where they overlap and divided by the windows' energy there -> (B, hop T)."""
    size, count = len(window), frames.shape[-1]
    length, cut = hop * (count - 1) + size, (size - hop) // 2

    def added(columns: Tensor) -> Tensor:
        return F.fold(columns, (1, length), (1, size), stride=(1, hop))[:, 0, 0, cut : length - cut]

    energy = window.square()[None, :, None].expand(1, -1, count)
    return added(frames * window[:, None]) / added(energy)
