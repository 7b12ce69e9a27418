"""What recipes that speak text share: what may be asked, who is compared, what is written and shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from pydantic import field_validator
from torch import Tensor

from fewstep.config import Settings, setting
from fewstep.protocol import Batch, Key, Metric, Panel, Product, Roles, Sampler, State, Step
from fewstep_audio.metrics.choice import Kind
from fewstep_audio.metrics.listening import listening, truth_panel
from fewstep_audio.metrics.spectrogram import detail, distance, spread
from fewstep_audio.panels import speech_panel
from fewstep_audio.sound.files import write_wavs
from fewstep_audio.sound.vocoder import GriffinLim, Vocoder
from fewstep_audio.speech.corpus import Corpus
from fewstep_audio.speech.durations import Durations
from fewstep_audio.speech.layout import conditioned, held_out_batch, laid_out, speakers
from fewstep_audio.speech.phones import check_text, pronounce
from fewstep_audio.speech.portable import speaker
from fewstep_audio.speech.streaming import speech_stream


class SpeechOptions(Settings):
    """What ``fewstep sample`` may ask for."""

    text: str = setting("The student says this in one step.", "what to say, in English")
    pace: float = setting(1.0, "2 speaks twice as fast", ge=0.5, le=2.0)

    @field_validator("text")
    @classmethod
    def _sayable(cls, given: str) -> str:
        return check_text(given)


def speech_product(
    corpus: Callable[[], Corpus],
    contenders: Mapping[str, Sampler],
    samples: int,
    *,
    vocoder: Vocoder | None = None,
    options: type[SpeechOptions] = SpeechOptions,
    told: Sequence[str] = (),
    shown: Callable[[int], Mapping[str, Tensor]] | None = None,
    asked: Callable[[Any], Mapping[str, object]] | None = None,
    metrics: Sequence[Metric] = (),
    panels: Sequence[Panel] = (),
    listen: Sequence[Kind] = (),
) -> Product:
    """The product of a recipe whose shelf has "durations", and denoisers whose net carries the scale of its mels.

    Args:
        corpus: where held-out sentences come from; called late.
        contenders: samplers of states; each is told phones and durations and gives log-mel.
        samples: held-out sentences in the evaluation.
        vocoder: Griffin-Lim by default.
        options: what ``fewstep sample`` may ask for; with a ``voice`` where voices are told.
        told: voices that the networks are told apart.
        shown: (count) -> what the networks are told beside that of the first held-out sentences, padded.
        asked: (options) -> what samplers find in ``extra`` of a request, beside texts and pace.
        metrics: beside distance, detail and spread.
        panels: beside players and pictures.
        listen: what is also measured on the sounds, beside the truth's own numbers in the report.
    """
    sings = GriffinLim() if vocoder is None else vocoder
    heard = listening(listen, sings)

    def evaluation(count: int, key: Key) -> Batch:
        chosen = corpus().testing[:count]
        batch = by(held_out_batch(chosen, corpus().scale), [one.voice for one in chosen])
        more = {} if shown is None else shown(count)
        return replace(batch, cond=replace(batch.cond, data={**batch.cond.data, **more}))

    def by(batch: Batch, voices: Sequence[str]) -> Batch:
        cond = replace(batch.cond, data={**batch.cond.data, **speakers(voices, told)})
        return replace(batch, cond=cond)

    def request(options: SpeechOptions, count: int, key: Key) -> Batch:
        cond = conditioned(pronounce([options.text]) * count)
        extra = {"texts": (options.text,) * count, "pace": options.pace}
        extra |= {} if asked is None else asked(options)
        batch = Batch(torch.zeros(1).expand(count, sings.contract.bands, 1), cond=cond, extra=extra)
        return by(batch, [options.voice] * count) if told else batch

    speaking = {name: spoken(sampler) for name, sampler in contenders.items()}
    return Product(
        student="student",
        contenders=speaking,
        evaluation=evaluation,
        request=request,
        options=options,
        write=partial(write_wavs, vocoder=sings),
        metrics=(distance(), detail(), spread(), *heard, *metrics),
        panels=(speech_panel(sings), *((truth_panel(heard),) if heard else ()), *panels),
        samples=samples,
        portable=speaker(speaking["student"], request, options, sings.contract),
        stream=speech_stream(options, request, sings),
    )


def spoken(sampler: Sampler) -> Sampler:
    """The same sampler, from phones to log-mel: durations are predicted unless the batch has them."""
    role = sampler.roles[0]

    def draw(roles: Roles, batch: Batch, step: Step) -> Iterator[State]:
        there = _timed(batch, roles["durations"])
        scale = roles[role].net.scale
        frames = there.mask.flatten(1).sum(1)
        for state in sampler.fn(roles, there, step):
            yield State({"mel": scale.restored(state.x), "frames": frames}, state.t)

    again = sampler.with_steps
    return Sampler(
        draw, (*sampler.roles, "durations"), None if again is None else lambda count: spoken(again(count))
    )


def _timed(batch: Batch, durations: Durations) -> Batch:
    """The batch with its frames laid out."""
    if "at" in batch.cond.data:
        return batch
    cond = laid_out(batch.cond, durations.frames(batch.cond, float(batch.extra.get("pace", 1.0))))
    like = batch.like.new_zeros(1).expand(*batch.like.shape[:2], cond.mask.shape[-1])
    return replace(batch, like=like, cond=cond)
