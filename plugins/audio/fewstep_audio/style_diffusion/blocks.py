"""Attention and transformer blocks that all networks of the family are made of.

Shape legend: B batch, L tokens, S tokens of the context, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017) from tokens to a context; padding is not looked at.

    Args:
        channels: C.
        heads: divide C.
    """

    def __init__(self, channels: int, heads: int) -> None:
        """The output begins at zero, so that a new block changes nothing."""
        super().__init__()
        self.heads = heads
        self.ask = nn.Linear(channels, channels)
        self.answer = nn.Linear(channels, 2 * channels)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor, context: Tensor, real: Tensor | None = None) -> Tensor:
        """(B, L, C), (B, S, C), (B, S) bool -> (B, L, C)."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.ask(x), *self.answer(context).chunk(2, -1))
        )
        mask = None if real is None else real[:, None, None]
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out(seen.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Tokens look at each other, then at a context, then each thinks (pre-normalized, Xiong et al. 2020).

    Args:
        channels: C.
        heads: of both attentions.
        told: whether a moment (B, C) is added before the first of them.
    """

    def __init__(self, channels: int, heads: int, told: bool = False) -> None:
        """Every branch begins at zero."""
        super().__init__()
        self.moment = nn.Linear(channels, channels) if told else None
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))
        self.within = Attention(channels, heads)
        self.across = Attention(channels, heads)
        self.think = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.GELU(), zeroed(nn.Linear(2 * channels, channels))
        )

    def forward(
        self,
        x: Tensor,
        context: Tensor,
        context_real: Tensor | None = None,
        real: Tensor | None = None,
        moment: Tensor | None = None,
    ) -> Tensor:
        """(B, L, C), (B, S, C), (B, S), (B, L), (B, C) -> (B, L, C)."""
        if self.moment is not None and moment is not None:
            x = x + self.moment(moment)[:, None]
        calm = self.norms[0](x)
        x = x + self.within(calm, calm, real)
        x = x + self.across(self.norms[1](x), context, context_real)
        return x + self.think(self.norms[2](x))


def sinusoids(value: Tensor, channels: int, slowest: float = 1000.0) -> Tensor:
    """(...) -> (..., channels) sines and cosines whose periods grow from 2 pi to ``slowest`` times that."""
    rates = slowest ** (-torch.arange(channels // 2, device=value.device) / max(1, channels // 2 - 1))
    angles = value[..., None] * rates.to(value.dtype)
    return torch.cat([angles.sin(), angles.cos()], -1)


def zeroed(module: nn.Module) -> nn.Module:
    """The module with all parameters at zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module
