"""Attention over patches of frames, with keys and values that can be kept for later frames.

Shape legend: B batch, F frames of this pass, N frames with keys (kept ones first), P patches per frame, H heads,
D width, E = D / H.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Rotation: TypeAlias = tuple[Tensor, Tensor]
"""Cosine and sine, each (N, P, E / 2)."""

BASE = 100.0
"""Rotary base. Published models take 1e4 for hundreds of positions; here at most a few dozen are told apart."""


def rotation(frames: int, grid: tuple[int, int], width: int, like: Tensor) -> Rotation:
    """Rotary angles of time, row and column (three axes share the E / 2 complex pairs), made in float64.

    Args:
        frames: N positions in time, 0 to N - 1.
        grid: rows and columns of patches in a frame.
        width: E.
        like: gives dtype and device.
    """
    pairs = width // 2
    space = pairs // 3
    row, column = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    time = _angles(torch.arange(frames), pairs - 2 * space)[:, None].expand(frames, grid[0] * grid[1], -1)
    where = torch.cat([_angles(row.flatten(), space), _angles(column.flatten(), space)], -1)
    angle = torch.cat([time, where[None].expand(frames, -1, -1)], -1)
    return angle.cos().to(like), angle.sin().to(like)


def rotate(x: Tensor, by: Rotation) -> Tensor:
    """Rotary embedding (Su et al. 2021) of x (B, H, F, P, E); pairs are (first half, second half)."""
    cos, sin = by
    real, imaginary = x.chunk(2, -1)
    return torch.cat([real * cos - imaginary * sin, real * sin + imaginary * cos], -1)


class FrameAttention(nn.Module):
    """Self-attention of the current frames over kept and current frames.

    Keys are kept normalized but *not* rotated, so that a stream of any length uses positions 0 to N - 1 only:
    kept frames come first, and the current frames take the last F positions.
    """

    def __init__(self, width: int, heads: int) -> None:
        """Projections for ``heads`` heads; ``width`` must be a multiple of 2 * heads."""
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(width, 3 * width)
        self.norm_query = nn.RMSNorm(width // heads)
        self.norm_key = nn.RMSNorm(width // heads)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Tensor, by: Rotation, past: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            x: (B, F, P, D).
            by: rotation of all N positions.
            past: (2, B, H, N - F, P, E) raw keys and values of kept frames.
            mask: (F, N) True = may be seen; everything by default.

        Returns:
            (B, F, P, D), and the raw keys and values (2, B, H, F, P, E) of the current frames.
        """
        batch, frames, patches, width = x.shape
        heads = self.project(x).view(batch, frames, patches, 3, self.heads, -1).permute(3, 0, 4, 1, 2, 5)
        query, key, value = self.norm_query(heads[0]), self.norm_key(heads[1]), heads[2]
        kept = torch.stack([key, value])
        if past is not None:
            key, value = torch.cat([past, kept], 3)
        now = (by[0][-frames:], by[1][-frames:])
        out = F.scaled_dot_product_attention(
            rotate(query, now).flatten(2, 3),
            rotate(key, by).flatten(2, 3),
            value.flatten(2, 3),
            attn_mask=None if mask is None else _per_patch(mask, patches),
        )
        out = out.view(batch, self.heads, frames, patches, -1).permute(0, 2, 3, 1, 4)
        return self.out(out.reshape(batch, frames, patches, width)), kept


def _angles(position: Tensor, pairs: int) -> Tensor:
    """(n,) -> (n, pairs) float64."""
    speed = BASE ** (-torch.arange(pairs, dtype=torch.float64) / max(pairs, 1))
    return position.double()[:, None] * speed


def _per_patch(mask: Tensor, patches: int) -> Tensor:
    return mask.repeat_interleave(patches, 0).repeat_interleave(patches, 1)
