"""Settings that several families share, beside those of sounds (:mod:`fewstep_audio.speech.sounding`)."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from fewstep.config import Settings, setting

COMOSPEECH = "Ye et al. 2023, arXiv:2305.06908"
"""Consistency distillation of speech and of singing."""


class NetworkConfig(Settings):
    """Size of the denoiser."""

    channels: int = setting(128, "width of encoder and decoder", unit="channels", ge=8, le=1024)
    dilations: tuple[int, ...] = setting(
        (1, 2, 4, 8, 1, 2), "one gated block each", unit="frames", min_length=1, max_length=40
    )


class NoiseConfig(Settings):
    """Levels of noise; clean mels have standard deviation 0.5 in every band."""

    lowest: float = setting(
        0.02, "cleanest level; the student is the identity there", gt=0, paper="Song et al. 2023 eq. 5"
    )
    highest: float = setting(20.0, "noisiest level; 40 times the data", gt=0)
    mean: float = setting(-0.8, "of ln sigma in teacher training", paper="Karras et al. 2022 table 1")
    std: float = setting(1.4, "of ln sigma in teacher training", gt=0, paper="Karras et al. 2022 table 1")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.lowest >= self.highest:
            raise ValueError(
                f"noise.lowest must be below noise.highest, got {self.lowest} and {self.highest}"
            )
        return self
