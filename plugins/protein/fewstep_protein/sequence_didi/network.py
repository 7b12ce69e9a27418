"""Networks that read partly hidden sequences: a denoiser, a student that reads noise too, and a discriminator.

Convolutions: they learn which letters like each other in seconds, and read a protein of any length. There is no time
input: the best guess of a hidden letter depends on what is visible, not on t (Zheng et al. 2025, "Masked diffusion
models are secretly time-agnostic").

Shape legend: B batch, L positions, D channels, C channels of noise.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from fewstep.protocol import Cond
from fewstep_protein.sequence_didi.alphabet import HIDDEN

KERNEL = 5
"""Positions that one convolution sees, before dilation."""


class Layer(nn.Module):
    """Residual: a dilated convolution over neighbors, then a perceptron over channels."""

    def __init__(self, channels: int, dilation: int) -> None:
        """Lengths stay as they are."""
        super().__init__()
        reach = (KERNEL // 2) * dilation
        self.look = nn.Conv1d(channels, channels, KERNEL, padding=reach, dilation=dilation)
        self.norm = nn.LayerNorm(channels)
        self.think = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.SiLU(), nn.Linear(2 * channels, channels)
        )

    def forward(self, h: Tensor, real: Tensor | None) -> Tensor:
        """(B, L, D) -> (B, L, D); padding is zero when neighbors look at it."""
        shown = h if real is None else h * real
        return h + self.think(self.norm(self.look(shown.mT).mT))


class Reader(nn.Module):
    """Ids, and noise where it reads some, to features.

    Args:
        channels: D.
        dilations: one layer each.
        noise: C; 0 = none is read.
    """

    def __init__(self, channels: int, dilations: Sequence[int], noise: int = 0) -> None:
        """Build the layers."""
        super().__init__()
        self.letters = nn.Embedding(HIDDEN + 1, channels)
        self.noise = nn.Linear(noise, channels, bias=False) if noise else None
        self.layers = nn.ModuleList(Layer(channels, dilation) for dilation in dilations)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, cond: Cond) -> Tensor:
        """(B, L) ids; ``cond.mask`` (B, L) True where real; ``cond.data`` (B, L, C) noise -> (B, L, D)."""
        real = None if cond.mask is None else cond.mask.unsqueeze(-1).to(self.letters.weight.dtype)
        h = self.letters(x)
        if self.noise is not None and cond.data is not None:
            h = h + self.noise(cond.data)
        for layer in self.layers:
            h = layer(h, real)
        return self.norm(h)


class SequenceNet(nn.Module):
    """Denoiser: which letter is behind each hidden position. The head starts at zero: all are equally likely."""

    def __init__(self, channels: int, dilations: Sequence[int]) -> None:
        """Arguments as in :class:`Reader`."""
        super().__init__()
        self.reader = Reader(channels, dilations)
        self.head = _silent(nn.Linear(channels, HIDDEN))

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        """(B, L, 20) logits."""
        return self.head(self.reader(x, cond))


class Corrected(nn.Module):
    """A copy of a teacher's network plus a correction that reads noise: at first exactly the teacher.

    Letters that appear in one call are independent of one another given what the network sees. Noise that it sees at
    all positions lets them agree with each other, so the student is a mixture of factorized laws instead of one.

    Args:
        base: called like a network; copied. Whatever parameters it has are trained on.
        channels, dilations, noise: as in :class:`Reader`.
    """

    def __init__(self, base: nn.Module, channels: int, dilations: Sequence[int], noise: int) -> None:
        """Copy the base."""
        super().__init__()
        self.base = copy.deepcopy(base).requires_grad_(True)
        self.reader = Reader(channels, dilations, noise)
        self.head = _silent(nn.Linear(channels, HIDDEN))

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        """(B, L, 20) logits; ``cond.data`` is the noise (B, L, C), which the base never sees."""
        return self.base(x, time, Cond(mask=cond.mask)) + self.head(self.reader(x, cond))


class Critic(nn.Module):
    """Discriminator: log p(x_t) / q(x_t) of a sequence, as a sum of one term per position.

    The sum makes it an energy of neighborhoods, which the log ratio of two chains is; its head is spectrally normalized
    (DiDi-Instruct, sec. on the auxiliary).
    """

    def __init__(self, channels: int, dilations: Sequence[int]) -> None:
        """Arguments as in :class:`Reader`."""
        super().__init__()
        self.reader = Reader(channels, dilations)
        self.head = nn.Sequential(
            spectral_norm(nn.Linear(channels, channels)), nn.SiLU(), spectral_norm(nn.Linear(channels, 1))
        )

    def start_from(self, net: nn.Module) -> Critic:
        """Take over the reader of a denoiser of the same size, where it has one."""
        if isinstance(net, SequenceNet):
            self.reader.load_state_dict(net.reader.state_dict())
        return self

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        """(B,) logits, positive where the sequence looks real. The student's noise is not shown."""
        terms = self.head(self.reader(x, Cond(mask=cond.mask))).squeeze(-1)
        return (terms if cond.mask is None else terms * cond.mask).sum(1)


def _silent(layer: nn.Linear) -> nn.Linear:
    """The layer, answering zero until it has learned something."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
