"""What every speech recipe may be told about sounds: who makes them, and what is listened for."""

from __future__ import annotations

from typing import Any

from pydantic import field_validator

from fewstep.config import Settings, setting
from fewstep_audio.metrics.choice import Kind
from fewstep_audio.sound.choice import VocoderConfig


class Sounding(Settings):
    """Settings beside a recipe's own."""

    vocoder: VocoderConfig = setting(VocoderConfig(), "what makes sound of spectrograms")
    listen: tuple[Kind, ...] = setting(
        (),
        "what is also measured on the sounds, against the resynthesized truth, as in words,speaker: words, speaker, "
        "quality (slow), melody, cepstrum, frechet",
    )

    @field_validator("listen", mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        return (
            tuple(name.strip() for name in given.split(",") if name.strip())
            if isinstance(given, str)
            else given
        )
