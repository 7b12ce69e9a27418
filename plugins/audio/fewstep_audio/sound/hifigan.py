"""The generators of HiFi-GAN (Kong et al. 2020, arXiv:2010.05646) and BigVGAN (Lee et al. 2023, arXiv:2206.04658).

Both raise a mel spectrogram to the rate of sound by transposed convolutions, each followed by residual blocks of several
widths whose outputs are averaged. BigVGAN bends with periodic functions, at twice the rate so that nothing folds back.
Parameters are named as published. Shape legend: B batch, M bands, T frames, C channels, N samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.1
"""Of HiFi-GAN's leaky ReLU; after the last block the released code takes torch's default, 0.01."""


class Generator(nn.Module):
    """Log-mel to sound.

    Args:
        told: the published config.json.
        periodic: BigVGAN's activations in place of leaky ReLU.
    """

    def __init__(self, told: Mapping[str, Any], periodic: bool = False) -> None:
        """Weight normalization is folded, so layers are plain."""
        super().__init__()
        wide = told["upsample_initial_channel"]
        self.conv_pre = nn.Conv1d(told["num_mels"], wide, 7, padding=3)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        block = {"1": DoubleBlock, "2": SingleBlock}[str(told["resblock"])]
        shapes = list(zip(told["resblock_kernel_sizes"], told["resblock_dilation_sizes"], strict=True))
        for level, (rate, kernel) in enumerate(
            zip(told["upsample_rates"], told["upsample_kernel_sizes"], strict=True)
        ):
            channels = wide // 2 ** (level + 1)
            self.ups.append(
                nn.ConvTranspose1d(2 * channels, channels, kernel, rate, padding=(kernel - rate) // 2)
            )
            bend = _bends(told, channels) if periodic else None
            self.resblocks.extend(block(channels, size, dilations, bend) for size, dilations in shapes)
        self.activation_post: nn.Module = _bends(told, channels)() if periodic else nn.LeakyReLU()
        self.conv_post = nn.Conv1d(channels, 1, 7, padding=3, bias=told.get("use_bias_at_final", True))
        self.periodic, self.soft = periodic, told.get("use_tanh_at_final", True)

    def forward(self, mel: Tensor) -> Tensor:
        """(B, M, T) natural log-mel -> (B, N) in [-1, 1], N = hop T."""
        hidden = self.conv_pre(mel)
        widths = len(self.resblocks) // len(self.ups)
        for level, up in enumerate(self.ups):
            hidden = up(hidden if self.periodic else F.leaky_relu(hidden, SLOPE))
            blocks = self.resblocks[level * widths : (level + 1) * widths]
            hidden = sum(block(hidden) for block in blocks) / widths
        wave = self.conv_post(self.activation_post(hidden))[:, 0]
        return torch.tanh(wave) if self.soft else wave.clamp(-1, 1)


class DoubleBlock(nn.Module):
    """Residual pairs of a dilated and a plain convolution.

    Args:
        channels: C.
        kernel: taps.
        dilations: one pair each.
        bend: makes an activation; None = leaky ReLU.
    """

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int], bend: Any = None) -> None:
        """Named as published."""
        super().__init__()
        self.convs1 = nn.ModuleList(_conv(channels, kernel, dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(_conv(channels, kernel, 1) for _ in dilations)
        self.activations = _activations(bend, 2 * len(dilations))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, N) -> (B, C, N)."""
        bends = iter(self.activations)
        for first, second in zip(self.convs1, self.convs2, strict=True):
            x = x + second(next(bends)(first(next(bends)(x))))
        return x


class SingleBlock(nn.Module):
    """Residual dilated convolutions, as in HiFi-GAN v3.

    Args:
        channels: C.
        kernel: taps.
        dilations: one convolution each.
        bend: makes an activation; None = leaky ReLU.
    """

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int], bend: Any = None) -> None:
        """Named as published."""
        super().__init__()
        self.convs = nn.ModuleList(_conv(channels, kernel, dilation) for dilation in dilations)
        self.activations = _activations(bend, len(dilations))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, N) -> (B, C, N)."""
        for conv, bend in zip(self.convs, self.activations, strict=True):
            x = x + conv(bend(x))
        return x


class Snake(nn.Module):
    """x + sin(a x)^2 / b for each channel (Ziyin et al. 2020), b = a unless it has its own.

    Args:
        channels: C.
        own: whether b is learned apart ("snakebeta").
        logs: whether parameters are logarithms.
    """

    def __init__(self, channels: int, own: bool, logs: bool) -> None:
        """Begins with a = b = 1."""
        super().__init__()
        first = torch.zeros(channels) if logs else torch.ones(channels)
        self.alpha = nn.Parameter(first)
        if own:
            self.beta = nn.Parameter(first.clone())
        self.own, self.logs = own, logs

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, N) -> (B, C, N)."""
        rate, size = self.alpha[:, None], (self.beta if self.own else self.alpha)[:, None]
        if self.logs:
            rate, size = rate.exp(), size.exp()
        return x + torch.sin(x * rate).square() / (size + 1e-9)


class Unaliased(nn.Module):
    """An activation at twice the rate, between two low-pass filters, so that what it adds does not fold back.

    Args:
        act: the activation.
        taps: of the filters.
    """

    def __init__(self, act: nn.Module, taps: int = 12) -> None:
        """Filters are buffers and come with the weights."""
        super().__init__()
        self.act, self.upsample, self.downsample = act, _Filter(taps), _Lowpass(taps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, N) -> (B, C, N)."""
        up, down = self.upsample.filter, self.downsample.lowpass.filter
        channels, taps = x.shape[1], up.shape[-1]
        edge = taps // 2 - 1
        x = F.pad(x, (edge, edge), mode="replicate")
        x = 2 * F.conv_transpose1d(x, up.expand(channels, -1, -1), stride=2, groups=channels)
        begin, end = 2 * edge + (taps - 2) // 2, 2 * edge + (taps - 1) // 2
        x = F.pad(self.act(x[..., begin : x.shape[-1] - end]), (edge, taps // 2), mode="replicate")
        return F.conv1d(x, down.expand(channels, -1, -1), stride=2, groups=channels)


class _Filter(nn.Module):
    filter: Tensor

    def __init__(self, taps: int) -> None:
        super().__init__()
        self.register_buffer("filter", half_band(taps)[None, None])


class _Lowpass(nn.Module):
    def __init__(self, taps: int) -> None:
        super().__init__()
        self.lowpass = _Filter(taps)


def half_band(taps: int) -> Tensor:
    """(taps,) Kaiser-windowed sinc that passes the lower half of the band, of sum 1 (Kaiser 1974; width 0.3)."""
    wide = 2.285 * (taps // 2 - 1) * torch.pi * 4 * 0.3 + 7.95
    beta = 0.1102 * (wide - 8.7) if wide > 50 else 0.5842 * (wide - 21) ** 0.4 + 0.07886 * (wide - 21)
    window = torch.kaiser_window(taps, periodic=False, beta=beta)
    time = torch.arange(-(taps // 2), taps // 2) + 0.5
    taken = window * torch.sinc(0.5 * time)
    return taken / taken.sum()


def _bends(told: Mapping[str, Any], channels: int) -> Any:
    own, logs = told.get("activation") == "snakebeta", bool(told.get("snake_logscale", True))
    return lambda: Unaliased(Snake(channels, own, logs))


def _activations(bend: Any, count: int) -> nn.ModuleList:
    return nn.ModuleList(nn.LeakyReLU(SLOPE) if bend is None else bend() for _ in range(count))


def _conv(channels: int, kernel: int, dilation: int) -> nn.Conv1d:
    return nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=dilation * (kernel - 1) // 2)
