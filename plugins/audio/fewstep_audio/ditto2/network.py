"""The denoiser of music: a WaveNet over spectrograms that is told nothing but the noise level."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from fewstep.protocol import Cond
from fewstep_audio.comospeech.network import WaveNet
from fewstep_audio.sound.mel import Scale


class MusicNetwork(nn.Module):
    """Noisy mel and time to the raw prediction, for any number of frames; carries the scale of its mels.

    Args:
        bands: M.
        channels: C.
        dilations: of the decoder's blocks, one each.
        scale: of the training mels; left open when weights are loaded afterwards.
    """

    def __init__(
        self, bands: int, channels: int, dilations: tuple[int, ...], scale: Scale | None = None
    ) -> None:
        """The scale is a pair of buffers, so that weights and scale travel together."""
        super().__init__()
        self.decoder = WaveNet(bands, channels, dilations)
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

    def copied(self, lands: bool) -> MusicNetwork:
        """A copy that may learn, and if it ``lands`` is also told where: at first it does the same everywhere."""
        copy = deepcopy(self).requires_grad_(True).train()
        if lands and copy.decoder.destination is None:
            copy.decoder.destination = copy.decoder.destinations()
        return copy

    def forward(self, x: Tensor, time: Tensor, cond: Cond, to: Tensor | None = None) -> Tensor:
        """(B, M, T), (B,), condition whose mask is (B, 1, T), (B,) destination -> (B, M, T)."""
        real = torch.ones_like(x[:, :1]) if cond.mask is None else cond.mask.to(x.dtype)
        return self.decoder(
            x, time, x.new_zeros(x.shape[0], self.decoder.inner.out_channels, x.shape[2]), real, to
        )
