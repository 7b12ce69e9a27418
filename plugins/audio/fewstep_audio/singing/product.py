"""What recipes that sing share: what may be asked, who is compared, what is written and shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from fewstep.protocol import Batch, Key, Product, Roles, Sampler, State, Step
from fewstep_audio.metrics.choice import Kind
from fewstep_audio.metrics.listening import listening, truth_panel
from fewstep_audio.metrics.spectrogram import detail, distance, spread
from fewstep_audio.metrics.tuning import cents, in_tune
from fewstep_audio.singing.layout import held_out_songs, mistuned, scored, timed
from fewstep_audio.singing.line import written
from fewstep_audio.singing.melody import compose
from fewstep_audio.singing.options import SingingOptions, singing_options, wished
from fewstep_audio.singing.panel import singing_panel
from fewstep_audio.singing.songs import Songs
from fewstep_audio.singing.syllables import syllables
from fewstep_audio.sound.files import write_wavs
from fewstep_audio.sound.vocoder import GriffinLim, Vocoder
from fewstep_audio.speech.durations import Durations
from fewstep_audio.speech.layout import speakers
from fewstep_audio.speech.phones import pronounce
from fewstep_audio.speech.product import spoken


def singing_product(
    songs: Callable[[], Songs],
    contenders: Mapping[str, Sampler],
    samples: int,
    told: Sequence[str] = (),
    vocoder: Vocoder | None = None,
    listen: Sequence[Kind] = (),
) -> Product:
    """The product of a recipe whose shelf has "durations", and denoisers whose net carries the scale of its mels.

    Args:
        songs: where held-out songs come from; called late.
        contenders: samplers made by :func:`sung`.
        samples: held-out songs in the evaluation.
        told: voices that the networks are told apart.
        vocoder: Griffin-Lim by default.
        listen: what is also measured on the sounds, beside the truth's own numbers in the report.
    """
    sings = GriffinLim() if vocoder is None else vocoder
    heard = listening(listen, sings)

    def by(batch: Batch, voices: Sequence[str]) -> Batch:
        cond = replace(batch.cond, data={**batch.cond.data, **speakers(voices, told)})
        return replace(batch, cond=cond)

    def evaluation(count: int, key: Key) -> Batch:
        chosen = songs().testing[:count]
        return by(held_out_songs(chosen, songs().scale), [song.voice for song in chosen])

    def request(options: SingingOptions, count: int, key: Key) -> Batch:
        text, score = wished(options)
        (said,) = pronounce([text])
        tunes = [compose(len(syllables(said)), key.at("tune", i)) for i in range(count)]
        lines = [written(said, score or tune, sings.contract) for tune in tunes]
        like = torch.zeros(1).expand(count, sings.contract.bands, 1)
        batch = Batch(like, cond=scored(lines), extra={"texts": (text,) * count})
        return by(batch, [options.voice or ""] * count) if told else batch

    return Product(
        student="student",
        contenders=contenders,
        evaluation=evaluation,
        request=request,
        options=singing_options(told),
        write=partial(write_wavs, vocoder=sings),
        metrics=(distance(), detail(), spread(), cents(sings), in_tune(sings), *heard),
        panels=(singing_panel(sings), *((truth_panel(heard),) if heard else ())),
        samples=samples,
    )


def sung(sampler: Sampler) -> Sampler:
    """The same sampler, from phones and notes to log-mel: lengths of consonants are predicted unless the batch has them."""
    inner = spoken(sampler)

    def draw(roles: Roles, batch: Batch, step: Step) -> Iterator[State]:
        return inner.fn(roles, _on_the_beat(batch, roles["durations"]), step)

    again = sampler.with_steps
    return Sampler(draw, inner.roles, None if again is None else lambda count: sung(again(count)))


def with_wrong_notes(sampler: Sampler) -> Sampler:
    """A control: the same sampler, told every note a tritone off."""

    def draw(roles: Roles, batch: Batch, step: Step) -> Iterator[State]:
        return sampler.fn(roles, replace(batch, cond=mistuned(batch.cond)), step)

    again = sampler.with_steps
    return Sampler(
        draw, sampler.roles, None if again is None else lambda count: with_wrong_notes(again(count))
    )


def _on_the_beat(batch: Batch, durations: Durations) -> Batch:
    """The batch with its frames laid out under the notes."""
    if "at" in batch.cond.data:
        return batch
    cond = timed(batch.cond, durations.frames(batch.cond))
    like = batch.like.new_zeros(1).expand(*batch.like.shape[:2], cond.mask.shape[-1])
    return replace(batch, like=like, cond=cond)
