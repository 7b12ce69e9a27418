"""The denoiser of codes: a transformer over their tokens that sees text and prompt.

Shape legend: B batch, L = K + 1 tokens, D numbers in a token, C channels, P phones.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from fewstep.protocol import Cond
from fewstep_audio.style_diffusion.autoencoder import places
from fewstep_audio.style_diffusion.blocks import Block, sinusoids, zeroed


class StyleNetwork(nn.Module):
    """Noisy code, time, text and prompt to the raw prediction; carries the scale of its codes.

    The text (B, P, C) is what the autoencoder's encoder made of the phones.

    Args:
        tokens: L.
        size: D.
        channels: C.
        blocks: of the transformer.
        heads: of attention.
        mean: (L, D) of the training codes; left open when weights are loaded afterwards.
        std: (L, D) of the training codes.
    """

    def __init__(
        self,
        tokens: int,
        size: int,
        channels: int,
        blocks: int,
        heads: int,
        mean: Tensor | None = None,
        std: Tensor | None = None,
    ) -> None:
        """The output begins as a linear function of the noisy code, which a narrow trunk would have to carry."""
        super().__init__()
        self.channels = channels
        self.inner = nn.Linear(size, channels)
        self.place = nn.Parameter(torch.randn(tokens, channels) / channels**0.5)
        self.time = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, channels))
        self.prompt = nn.Sequential(nn.Linear(size + 1, channels), nn.SiLU(), nn.Linear(channels, channels))
        self.blocks = nn.ModuleList(Block(channels, heads, told=True) for _ in range(blocks))
        self.outer = nn.Sequential(nn.LayerNorm(channels), zeroed(nn.Linear(channels, size)))
        self.straight = zeroed(nn.Linear(size, size, bias=False))
        self.gain = zeroed(nn.Linear(channels, size))
        self.scale: nn.Module | None = None
        self.destination: nn.Module | None = None
        self.register_buffer("mean", torch.zeros(tokens, size) if mean is None else mean.clone())
        self.register_buffer("std", torch.ones(tokens, size) if std is None else std.clone())

    mean: Tensor
    std: Tensor

    @property
    def accepts(self) -> frozenset[str]:
        """``guidance`` and ``to``, where they have an embedding."""
        named = {"guidance": self.scale, "to": self.destination}
        return frozenset(name for name, module in named.items() if module is not None)

    def copied(self, lands: bool) -> StyleNetwork:
        """A copy that may learn, is told the guidance and, if it ``lands``, where; at first it does the same everywhere."""
        copy = deepcopy(self).requires_grad_(True).train()
        if copy.scale is None:
            copy.scale = self.embedding()
        if lands and copy.destination is None:
            copy.destination = self.embedding()
        return copy

    def embedding(self) -> nn.Module:
        """Of one more number: begins at zero."""
        wide = self.channels
        return nn.Sequential(nn.Linear(wide, wide), nn.SiLU(), zeroed(nn.Linear(wide, wide)))

    def restored(self, x: Tensor) -> Tensor:
        """States to codes."""
        return x * self.std + self.mean

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        cond: Cond,
        to: Tensor | None = None,
        guidance: Tensor | None = None,
    ) -> Tensor:
        """(B, L, D), (B,) log signal-to-noise ratio, text and prompt -> (B, L, D)."""
        told = cond.data
        real = told["phones"] > 0
        hidden = told["text"] + places(real, self.channels)
        prompt = torch.cat([told["prompt"], told["told"][:, None]], -1).to(x.dtype)
        moment = self.time(sinusoids(time, self.channels)) + self.prompt(prompt)
        if self.scale is not None and guidance is not None:
            moment = moment + self.scale(sinusoids(guidance.to(x.dtype), self.channels))
        if self.destination is not None and to is not None:
            moment = moment + self.destination(sinusoids(to, self.channels))
        tokens = self.inner(x) + self.place
        for block in self.blocks:
            tokens = block(tokens, hidden, real, moment=moment)
        return self.outer(tokens) + self.straight(x) + self.gain(moment)[:, None] * x


def unprompted(cond: Cond) -> Cond:
    """The condition without its prompt: what guidance pushes away from."""
    hidden = {name: torch.zeros_like(cond.data[name]) for name in ("prompt", "told")}
    return replace(cond, data={**cond.data, **hidden})
