"""The denoiser of music: a WaveNet over spectrograms that is told nothing but the noise level, and filters along its bands.

Shape legend: B batch, M mel bands, T frames, C channels, F filters.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from fewstep.protocol import Cond
from fewstep_audio.networks import WAVES, WaveNet, sinusoids
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
        self.lines = Lines(bands)
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
            copy.lines.toward = copy.lines.destinations()
        return copy

    def forward(self, x: Tensor, time: Tensor, cond: Cond, to: Tensor | None = None) -> Tensor:
        """(B, M, T), (B,), condition whose mask is (B, 1, T), (B,) destination -> (B, M, T)."""
        real = torch.ones_like(x[:, :1]) if cond.mask is None else cond.mask.to(x.dtype)
        unseen = x.new_zeros(x.shape[0], self.decoder.inner.out_channels, x.shape[2])
        return self.decoder(x, time, unseen, real, to) + self.lines(x * real, time, to)


class Lines(nn.Module):
    """Gated filters along time within each band.

    The partials of a note are lines along time, each in a band or two. A trunk with fewer channels than bands cannot hold
    them apart; these filters can, and their gates, which see state and time, say which of them count.

    Args:
        bands: M.
        filters: F of each band.
        width: frames that they see, odd.
    """

    def __init__(self, bands: int, filters: int = 4, width: int = 15) -> None:
        """The output begins at zero."""
        super().__init__()
        self.wide = nn.Conv1d(bands, 2 * filters * bands, width, padding=width // 2, groups=bands)
        self.moment = nn.Linear(WAVES, 2 * filters * bands)
        self.out = nn.Conv1d(filters * bands, bands, 1, groups=bands, bias=False)
        nn.init.zeros_(self.out.weight)
        self.toward: nn.Module | None = None

    def destinations(self) -> nn.Module:
        """What the gates learn of where a flow map lands; begins at zero."""
        made = nn.Linear(WAVES, self.moment.out_features)
        nn.init.zeros_(made.weight)
        nn.init.zeros_(made.bias)
        return made

    def forward(self, x: Tensor, time: Tensor, to: Tensor | None = None) -> Tensor:
        """(B, M, T), (B,), (B,) destination -> (B, M, T)."""
        moment = self.moment(sinusoids(time))
        if to is not None and self.toward is not None:
            moment = moment + self.toward(sinusoids(to))
        both = self.wide(x) + moment[:, :, None]
        filtered, gate = both.unflatten(1, (x.shape[1], 2, -1)).unbind(2)
        return self.out((filtered * gate.sigmoid()).flatten(1, 2))
