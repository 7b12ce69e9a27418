"""Any denoiser of mel spectrograms as a teacher: what another library trained, with our mels and our vocoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fewstep.protocol import Denoiser, Guided, Tree
from fewstep.samplers import student_times
from fewstep_audio.pipelines.teachers import untold
from fewstep_audio.sound.mel import MelContract, log_mel
from fewstep_audio.sound.vocoder import GriffinLim, Vocoder


class MelTeacher:
    """An unconditional denoiser of log-mel (M, T); subclass ``encode`` for one that hears prompts.

    Args:
        denoiser: its network, process and what its output means.
        longest: seconds.
        vocoder: sings what it makes; says what its mels mean.
        mean: of its log-mels, which it sees as (mel - mean) / spread.
        spread: of its log-mels.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        longest: float,
        vocoder: Vocoder | None = None,
        mean: float = 0.0,
        spread: float = 1.0,
    ) -> None:
        """Bind."""
        self.denoiser = denoiser
        self.longest = longest
        self.vocoder = GriffinLim() if vocoder is None else vocoder
        self.mean, self.spread = mean, spread

    @property
    def contract(self) -> MelContract:
        """Of the vocoder."""
        return self.vocoder.contract

    @property
    def rate(self) -> int:
        """Of the mels."""
        return self.contract.rate

    def shape(self, seconds: float) -> tuple[int, ...]:
        """(M, T)."""
        return (self.contract.bands, 1 + int(seconds * self.rate) // self.contract.hop)

    def encode(self, prompts: Sequence[str], seconds: float) -> Tree:
        """It hears none."""
        return None

    def latents(self, wave: Tensor) -> Tensor:
        """Mels, scaled."""
        return (torch.stack([log_mel(one, self.contract) for one in wave]) - self.mean) / self.spread

    def decode(self, latents: Tensor, seconds: float) -> Tensor:
        """Through the vocoder."""
        mels = latents * self.spread + self.mean
        return torch.stack([self.vocoder(mel) for mel in mels])[:, None, : int(seconds * self.rate)]

    def guided(self, denoiser: Denoiser, scale: float) -> Denoiser:
        """A scale between what it says with a prompt and without: the same, where it hears none."""
        return Guided(denoiser, scale, lambda cond: cond if cond.data is None else untold(cond))

    def times(self, steps: int) -> tuple[float, ...]:
        """The natural ones of its process."""
        return student_times(self.denoiser.process, steps)
