"""Small convolutional readers of masked text: a denoiser and a discriminator over one body.

Convolutions, because on two cores they learn the spelling of English in tens of seconds where attention of the same
size needs minutes, and because they read a text of any length. There is no time input: the best guess of a hidden
token depends on what is visible, not on t (Zheng et al. 2025, "Masked diffusion models are secretly time-agnostic").

Shape legend: B batch, L positions, V vocabulary (the hidden token has id V), D channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from fewstep.protocol import Cond


class Block(nn.Module):
    """Residual: a wide convolution over neighbours, then a perceptron over channels."""

    def __init__(self, channels: int, kernel: int, dilation: int) -> None:
        """``kernel`` is odd, so that the length stays."""
        super().__init__()
        self.mix = nn.Conv1d(channels, channels, kernel, padding=(kernel // 2) * dilation, dilation=dilation)
        self.norm = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels)
        )

    def forward(self, h: Tensor, real: Tensor | None) -> Tensor:
        """(B, L, D) -> (B, L, D); padding is zero before neighbours look at it."""
        shown = h if real is None else h * real
        mixed = self.mix(shown.transpose(1, 2)).transpose(1, 2)
        return h + self.mlp(self.norm(mixed))


class Body(nn.Module):
    """Token ids to features.

    Args:
        vocabulary: V; id V, the hidden token, has an embedding too.
        channels: D.
        dilations: one block each; with kernel k a feature sees 1 + (k - 1) sum(dilations) positions.
        kernel: width of each convolution, odd.

    Raises:
        ValueError: the kernel is even.
    """

    def __init__(self, vocabulary: int, channels: int, dilations: Sequence[int], kernel: int) -> None:
        """Build the blocks."""
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"the kernel must be odd, so that text keeps its length; got {kernel}")
        self.embed = nn.Embedding(vocabulary + 1, channels)
        self.blocks = nn.ModuleList(Block(channels, kernel, dilation) for dilation in dilations)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, L) ids, (B, L) True where real -> (B, L, D)."""
        real = None if mask is None else mask.unsqueeze(-1).to(self.embed.weight.dtype)
        h = self.embed(x)
        for block in self.blocks:
            h = block(h, real)
        return self.norm(h)


class TextNet(nn.Module):
    """Denoiser: which token is behind each hidden position. Arguments as in :class:`Body`."""

    def __init__(self, vocabulary: int, channels: int, dilations: Sequence[int], kernel: int = 7) -> None:
        """The head starts at zero: at first every token is equally likely."""
        super().__init__()
        self.body = Body(vocabulary, channels, dilations, kernel)
        self.head = nn.Linear(channels, vocabulary)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        """(B, L, V) logits."""
        return self.head(self.body(x))


class TextCritic(nn.Module):
    """Discriminator: one logit per position, by a spectrally normalised head (DiDi-Instruct, app. on the auxiliary)."""

    def __init__(self, vocabulary: int, channels: int, dilations: Sequence[int], kernel: int = 7) -> None:
        """Arguments as in :class:`Body`."""
        super().__init__()
        self.body = Body(vocabulary, channels, dilations, kernel)
        self.head = nn.Sequential(
            spectral_norm(nn.Linear(channels, channels)), nn.SiLU(), spectral_norm(nn.Linear(channels, 1))
        )

    def start_from(self, net: TextNet) -> TextCritic:
        """Take over the body of a denoiser of the same size: it reads well already."""
        self.body.load_state_dict(net.body.state_dict())
        return self

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        """(B, L) logits, positive where the text looks real."""
        return torch.squeeze(self.head(self.body(x)), -1)
