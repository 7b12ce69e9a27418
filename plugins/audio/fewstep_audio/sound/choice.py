"""Which vocoder sings a run's spectrograms: settings, and the vocoder that they choose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import model_validator

from fewstep.config import Settings, setting
from fewstep_audio.sound.mel import MelContract
from fewstep_audio.sound.vocoder import GriffinLim, Vocoder


class VocoderConfig(Settings):
    """From spectrogram to sound. ``-s vocoder=griffin-lim`` is short for ``-s vocoder.kind=griffin-lim``."""

    kind: Literal["griffin-lim", "hifigan", "vocos", "bigvgan"] = setting(
        "griffin-lim", "griffin-lim needs no weights; the others are networks whose weights you bring"
    )
    path: str = setting(
        "",
        "folder with config.json (vocos: config.yaml) and the generator's weights, as published; not for griffin-lim",
    )

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, given: Any) -> Any:
        return {"kind": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.kind == "griffin-lim") == bool(self.path):
            raise ValueError(
                "vocoder.path means nothing to griffin-lim; name the kind of the network as vocoder.kind"
                if self.path
                else f"vocoder {self.kind!r} needs vocoder.path, the folder with its weights"
            )
        return self


def vocoder_from(told: VocoderConfig, contract: MelContract | None = None) -> Vocoder:
    """The vocoder that the settings choose, for spectrograms of that contract.

    Raises:
        FewstepError: its weights are not there or do not fit, or were trained for other spectrograms.
    """
    meant = MelContract() if contract is None else contract
    if told.kind == "griffin-lim":
        return GriffinLim(meant)
    from fewstep_audio.sound import vocoders

    load: Callable[[Path, MelContract], Vocoder] = vocoders.LOADERS[told.kind]
    return load(Path(told.path), meant)


def vocoder_of(config: Any) -> Vocoder:
    """The vocoder of a recipe's settings; Griffin-Lim where they do not choose."""
    return vocoder_from(getattr(config, "vocoder", VocoderConfig()))
