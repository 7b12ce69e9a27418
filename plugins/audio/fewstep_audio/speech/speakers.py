"""What ``fewstep sample`` may ask about the speaker: one of those that the networks were told apart, or none."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import field_validator

from fewstep.config import setting
from fewstep.errors import nearest
from fewstep_audio.speech.product import SpeechOptions


class HiddenVoice(SpeechOptions):
    """Options of a run whose networks never knew who speaks."""

    voice: str | None = setting(None, "cannot be chosen: this run hides its voices from the networks")

    @field_validator("voice")
    @classmethod
    def _hidden(cls, given: str | None) -> str | None:
        if given is not None:
            raise ValueError(
                f"{given!r} cannot be chosen: this run was trained with speech.speakers=hidden, so its networks know "
                "no voice by name and every --seed speaks in another; train with -s speech.speakers=told"
            )
        return given


def speech_options(told: Sequence[str]) -> type[SpeechOptions]:
    """The options of a run whose networks were told these voices apart; the first speaks by default."""
    if not told:
        return HiddenVoice

    class ToldVoice(SpeechOptions):
        """Options of a run whose networks know their speakers."""

        voice: str = setting(told[0], f"who speaks: {', '.join(told)}")

        @field_validator("voice")
        @classmethod
        def _known(cls, given: str) -> str:
            if given not in told:
                raise ValueError(
                    f"this run knows {', '.join(told)}, but no voice {given!r}{nearest(given, told)}"
                )
            return given

    return ToldVoice
