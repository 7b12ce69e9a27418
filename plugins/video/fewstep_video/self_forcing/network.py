"""One small video transformer for all three parts: bidirectional teacher and fake, causal student.

Blocks are those of DiT (Peebles & Xie 2023: adaptive layer norm, gates that start at zero) over patches of frames.
What makes the student causal is not another network but which frames it is shown: ``past`` holds keys and values of
frames that are already final. Shape legend: B batch, F frames, C channels, Y and X canvas, P patches, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.protocol import Cond
from fewstep_video.data import CLASSES
from fewstep_video.self_forcing.attention import FrameAttention, Rotation, rotation


@dataclass(frozen=True)
class NetworkShape:
    """How large the transformer is; ``canvas`` is (height, width) of a frame in pixels.

    Raises:
        ValueError: if patches do not tile the canvas, or heads do not divide the width into even parts.
    """

    canvas: tuple[int, int]
    channels: int = 1
    patch: int = 4
    width: int = 64
    depth: int = 3
    heads: int = 4
    classes: int = CLASSES

    def __post_init__(self) -> None:
        """Refuse sizes that do not divide."""
        if any(side % self.patch for side in self.canvas):
            raise ValueError(
                f"patches of {self.patch} do not tile a canvas of {self.canvas}; choose a divisor"
            )
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of twice the {self.heads} heads")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches in a frame."""
        return self.canvas[0] // self.patch, self.canvas[1] // self.patch


class Layer(nn.Module):
    """Attention and a two-layer perceptron, both modulated by time and class, frame by frame."""

    def __init__(self, width: int, heads: int) -> None:
        """Gates start at zero: a fresh layer is the identity."""
        super().__init__()
        self.attention = FrameAttention(width, heads)
        self.perceptron = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width)
        )
        self.modulate = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(
        self, x: Tensor, about: Tensor, by: Rotation, past: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """From x (B, F, P, D) and about (B, F, D) to the next x, and the keys and values to keep."""
        shift, scale, gate, shift2, scale2, gate2 = self.modulate(about)[:, :, None].chunk(6, -1)
        seen, kept = self.attention(_normalized(x) * (1 + scale) + shift, by, past, mask)
        x = x + gate * seen
        return x + gate2 * self.perceptron(_normalized(x) * (1 + scale2) + shift2), kept


class VideoTransformer(nn.Module):
    """Clip in, clip out; optionally on top of kept frames.

    Args:
        shape: its sizes.
        lands: whether it is told the time where a flow map lands; at first this changes nothing.
    """

    def __init__(self, shape: NetworkShape, lands: bool = False) -> None:
        """Build with fresh weights; the output layer starts at zero."""
        super().__init__()
        self.shape = shape
        self.accepts = frozenset({"to"} if lands else ())
        pixels, width = shape.channels * shape.patch**2, shape.width
        self.read = nn.Linear(pixels, width)
        self.place = nn.Parameter(0.02 * torch.randn(math.prod(shape.grid), width))
        self.time = _clock(width)
        self.label = nn.Embedding(shape.classes, width)
        self.layers = nn.ModuleList(Layer(width, shape.heads) for _ in range(shape.depth))
        self.modulate = nn.Linear(width, 2 * width)
        self.write = nn.Linear(width, pixels)
        nn.init.zeros_(self.write.weight)
        nn.init.zeros_(self.write.bias)
        if lands:
            self.destination = _clock(width)
            nn.init.zeros_(self.destination[-1].weight)
            nn.init.zeros_(self.destination[-1].bias)

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        cond: Cond,
        *,
        to: Tensor | None = None,
        past: Tensor | None = None,
        mask: Tensor | None = None,
        keep: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Raw prediction for the frames of x.

        Args:
            x: (B, F, C, Y, X).
            time: (B,) one time for all frames, or (B, F).
            cond: data {"label": (B,)}.
            to: where a flow map lands, like ``time``.
            past: (layers, 2, B, heads, K, P, E) raw keys and values of K kept frames, seen before x.
            mask: (F, K + F) True = the frame may be seen.
            keep: also return the raw keys and values (layers, 2, B, heads, F, P, E) of x.
        """
        frames = x.shape[1]
        about = self._about(time, to, cond, frames)
        known = frames if past is None else frames + past.shape[4]
        by = rotation(known, self.shape.grid, self.shape.width // self.shape.heads, x)
        tokens = self.read(self._patches(x)) + self.place
        kept = []
        for i, layer in enumerate(self.layers):
            tokens, own = layer(tokens, about, by, None if past is None else past[i], mask)
            kept.append(own)
        shift, scale = self.modulate(about)[:, :, None].chunk(2, -1)
        out = self._frames(self.write(_normalized(tokens) * (1 + scale) + shift))
        return (out, torch.stack(kept)) if keep else out

    def _about(self, time: Tensor, to: Tensor | None, cond: Cond, frames: int) -> Tensor:
        """(B, F, D) what every frame is told: its time, where it lands and the class of the clip."""
        told = self.time(self._times(time, frames)) + self.label(cond.data["label"])[:, None]
        if to is not None:
            told = told + self.destination(self._times(to, frames))
        return F.silu(told)

    def _times(self, time: Tensor, frames: int) -> Tensor:
        """(B, F, D) waves of (B,) times of whole clips, or (B, F) of frames."""
        return _waves(time[:, None].expand(-1, frames) if time.ndim == 1 else time, self.shape.width)

    def _patches(self, x: Tensor) -> Tensor:
        """(B, F, C, Y, X) -> (B, F, P, C * patch^2)."""
        batch, frames, channels = x.shape[:3]
        (rows, columns), patch = self.shape.grid, self.shape.patch
        cut = x.reshape(batch, frames, channels, rows, patch, columns, patch)
        return cut.permute(0, 1, 3, 5, 2, 4, 6).reshape(batch, frames, rows * columns, -1)

    def _frames(self, tokens: Tensor) -> Tensor:
        """The inverse of :meth:`_patches`."""
        batch, frames = tokens.shape[:2]
        (rows, columns), patch, channels = self.shape.grid, self.shape.patch, self.shape.channels
        cut = tokens.view(batch, frames, rows, columns, channels, patch, patch).permute(0, 1, 4, 2, 5, 3, 6)
        return cut.reshape(batch, frames, channels, rows * patch, columns * patch)


def _clock(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))


def _normalized(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])


def _waves(time: Tensor, width: int) -> Tensor:
    """Sines and cosines (..., width) of a time in 0 to 1000, made in float64 (Vaswani et al. 2017 sec. 3.5)."""
    half = width // 2
    speed = torch.exp(-math.log(1e4) * torch.arange(half, dtype=torch.float64, device=time.device) / half)
    angle = time.double()[..., None] * speed
    return torch.cat([angle.cos(), angle.sin()], -1).to(time.dtype)
