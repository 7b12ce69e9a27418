"""What may be asked of a ProDiff student, and how requests and held-out sentences get their prosody."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from fewstep.config import setting
from fewstep.protocol import Batch, Product, Roles, Sampler, State, Step
from fewstep_audio.metrics.choice import Kind
from fewstep_audio.prodiff.panels import pitch_gap, prosody_panel
from fewstep_audio.prodiff.prosody import Habits, Measured, told
from fewstep_audio.sound.vocoder import GriffinLim, Vocoder
from fewstep_audio.speech.corpus import Corpus
from fewstep_audio.speech.product import SpeechOptions, speech_product
from fewstep_audio.speech.speakers import speech_options

Heard: TypeAlias = tuple[Corpus, list[Measured], list[Measured], Habits]
"""The corpus, prosody of its training and of its held-out sentences, and what is usual."""


def prosody_options(voices: Sequence[str]) -> type[SpeechOptions]:
    """Text, pace and voice, and how high and how loud."""
    base: Any = speech_options(voices)

    class ProsodyOptions(base):
        """What ``fewstep sample`` may ask for."""

        pitch: float = setting(
            0.0, "semitones above (below) what the voice would do by itself", unit="semitones", ge=-12, le=12
        )
        energy: float = setting(1.0, "factor on the loudness of every sound", ge=0.25, le=4.0)

    return ProsodyOptions


def prodiff_product(
    corpus: Callable[[], Heard],
    contenders: Mapping[str, Sampler],
    samples: int,
    voices: Sequence[str],
    vocoder: Vocoder | None = None,
    listen: Sequence[Kind] = (),
) -> Product:
    """The product of a recipe whose shelf has "durations" and "prosody".

    Args:
        corpus: where held-out sentences come from; called late.
        contenders: samplers of states, told phones, durations and prosody.
        samples: held-out sentences in the evaluation, which is told their true durations and prosody.
        voices: that the networks are told apart.
        vocoder: Griffin-Lim by default.
        listen: what is also measured on the sounds.
    """
    sings = GriffinLim() if vocoder is None else vocoder
    return speech_product(
        lambda: corpus()[0],
        {name: in_prosody(sampler) for name, sampler in contenders.items()},
        samples,
        vocoder=sings,
        options=prosody_options(voices),
        told=voices,
        shown=lambda count: told(corpus()[2][:count], corpus()[3]),
        asked=lambda options: {"pitch": options.pitch, "energy": options.energy},
        metrics=(pitch_gap(sings),),
        panels=(prosody_panel(sings),),
        listen=listen,
    )


def in_prosody(sampler: Sampler) -> Sampler:
    """The same sampler; pitch, voicing and energy are predicted, and moved as asked, unless the batch has them."""

    def draw(roles: Roles, batch: Batch, step: Step) -> Iterator[State]:
        if "pitch" not in batch.cond.data:
            asked = batch.extra
            cond = roles["prosody"].filled(batch.cond, asked.get("pitch", 0.0), asked.get("energy", 1.0))
            batch = replace(batch, cond=cond)
        yield from sampler.fn(roles, batch, step)

    again = sampler.with_steps
    return Sampler(
        draw, (*sampler.roles, "prosody"), None if again is None else lambda count: in_prosody(again(count))
    )
