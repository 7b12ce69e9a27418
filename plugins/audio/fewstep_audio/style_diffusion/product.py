"""What the recipe is for: text and a prompt to speech. What may be asked, who is compared, what is written.

Shape legend: B batch, L tokens of a code, D numbers in a token, P phones, M mel bands, T frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import field_validator
from torch import Tensor

from fewstep.config import Settings, setting
from fewstep.errors import FewstepError, nearest
from fewstep.objectives.pairs import AtScale
from fewstep.protocol import Batch, Cond, Key, Product, Roles, Sampler, State, Step, Tree
from fewstep.protocol import Guided as Guidance
from fewstep_audio.sound.files import write_wavs
from fewstep_audio.sound.mel import MelContract, log_mel
from fewstep_audio.sound.recordings import read_recording
from fewstep_audio.sound.vocoder import Vocoder
from fewstep_audio.speech.corpus import spoken
from fewstep_audio.speech.espeak import Request
from fewstep_audio.speech.layout import conditioned
from fewstep_audio.speech.phones import check_text, pronounce
from fewstep_audio.style_diffusion.autoencoder import StyleAutoencoder
from fewstep_audio.style_diffusion.config import StyleDiffusionConfig
from fewstep_audio.style_diffusion.corpus import Takes, leveled
from fewstep_audio.style_diffusion.fit import Tables, prompted, told_text
from fewstep_audio.style_diffusion.measure import (
    pitch_correlation,
    prompt_distance,
    prosody_error,
    rate_spread,
)
from fewstep_audio.style_diffusion.network import unprompted
from fewstep_audio.style_diffusion.panel import style_panel
from fewstep_audio.style_diffusion.prosody import frames_of

PROMPT = "The sun sets behind those mountains. Paper burns faster than wood."
"""What a voice of espeak-ng says where a prompt is needed."""

QUIET = 40.0
"""Decibels below the loudest frame: what is quieter at the ends of a recording is no speech."""


class StyleOptions(Settings):
    """What ``fewstep sample`` may ask for."""

    text: str = setting("The student says this in one step.", "what to say, in English")
    voice: str = setting("en-us+f1", "espeak-ng voice of the prompt, where no reference is given")
    reference: str = setting("", "recording whose voice is wanted: a path, some seconds long")
    guidance: float = setting(1.0, "how much the prompt counts: 0 ignores it, 1 is plain", ge=0, le=2)

    @field_validator("text")
    @classmethod
    def _sayable(cls, given: str) -> str:
        return check_text(given)


@dataclass(frozen=True)
class Prompting:
    """What requests and evaluation need beside the shelf.

    Args:
        config: of the recipe.
        takes: of the corpus; called late.
        cache: folder of features.
        vocoder: gives the contract too.
    """

    config: StyleDiffusionConfig
    takes: Callable[[], Takes]
    cache: Path
    vocoder: Vocoder

    @property
    def contract(self) -> MelContract:
        """What spectrograms mean."""
        return self.vocoder.contract

    def evaluation(self, count: int, key: Key) -> Batch:
        """Groups of held-out sentences, each by one unheard voice, with what it really said in every row."""
        takes = self.takes()
        shown = takes.testing[:count]
        tables = Tables.of(shown)
        cast = list(dict.fromkeys((take.text, take.voice) for take in shown))
        group = torch.tensor([cast.index((take.text, take.voice)) for take in shown])
        voices = [voice for _, voice in cast]
        truth = {
            "prosody": tables.prosody,
            "frames": tables.frames,
            "mel": torch.nn.utils.rnn.pad_sequence([m.T for m in tables.mels], batch_first=True).mT,
        }
        extra = {
            "texts": tuple(take.text for take in shown),
            "voices": tuple(voices),
            "prompts": tuple(self.prompt_of(voice) for voice in voices),
            "group": group,
            "guidance": torch.full((len(shown),), self.config.guidance, dtype=torch.float64),
        }
        return Batch(self._like(len(shown)), truth, tables.cond, extra)

    def request(self, options: StyleOptions, count: int, key: Key) -> Batch:
        """One text, one prompt, ``count`` noises.

        Raises:
            FewstepError: the reference cannot be used, or there is no such voice.
        """
        prompt = self.prompt_from(options)
        extra = {
            "texts": (options.text,) * count,
            "voices": (options.reference or options.voice,),
            "prompts": (prompt,),
            "group": torch.zeros(count, dtype=torch.int64),
            "guidance": torch.full((count,), options.guidance, dtype=torch.float64),
        }
        cond = conditioned(pronounce([options.text]) * count)
        return Batch(self._like(count), cond=cond, extra=extra)

    def prompt_from(self, options: StyleOptions) -> Tensor:
        """(M, T) log-mel of the recording, or of a voice of the corpus."""
        if options.reference:
            wave = trimmed(read_recording(options.reference, self.contract), self.contract)
            return log_mel(leveled(wave), self.contract)
        told = self.config.speech
        known = (*told.voices, *told.unheard)
        if options.voice not in known:
            raise FewstepError(
                f"no voice {options.voice!r}{nearest(options.voice, known)}",
                f"one of {', '.join(known)}",
                "correct it, or give a recording with --reference",
            )
        return self.prompt_of(options.voice)

    def prompt_of(self, voice: str) -> Tensor:
        """(M, T) log-mel of the prompt as an espeak-ng voice says it."""
        said = spoken([Request(PROMPT, voice)], self.contract, self.cache)[0]
        return log_mel(leveled(said.sound), self.contract)

    def _like(self, count: int) -> Tensor:
        told = self.config.codes
        return torch.zeros(1).expand(count, told.tokens + 1, told.size)


def trimmed(wave: Tensor, contract: MelContract) -> Tensor:
    """(N,) samples without the silence at both ends; at least two windows are left where there were as many."""
    edge = contract.hop
    loud = wave[: len(wave) // edge * edge].reshape(-1, edge).square().mean(1)
    heard = torch.nonzero(loud >= loud.max() * 10 ** (-QUIET / 10))[:, 0]
    if not len(heard):
        return wave
    begin, end = int(heard[0]) * edge, (int(heard[-1]) + 1) * edge
    return wave[begin : max(end, min(len(wave), begin + 2 * contract.window))]


def style_product(prompting: Prompting, contenders: dict[str, Sampler]) -> Product:
    """The product of a shelf with "autoencoder", "teacher" and "student"."""
    told = prompting.config.speech
    return Product(
        student="student",
        contenders=contenders,
        evaluation=prompting.evaluation,
        request=prompting.request,
        options=StyleOptions,
        write=partial(write, vocoder=prompting.vocoder),
        metrics=(prosody_error(), pitch_correlation(), rate_spread(), prompt_distance()),
        panels=(style_panel(prompting.vocoder),),
        samples=told.held_out * told.draws,
    )


def write(x: Tree, batch: Batch, folder: Path, vocoder: Vocoder) -> Sequence[Path]:
    """One wav per sample."""
    return write_wavs({"mel": x["mel"], "frames": x["frames"].sum(1)}, batch, folder, vocoder)


def speaking(sampler: Sampler, scale: float | None = None) -> Sampler:
    """A sampler of codes, from text and prompt to speech.

    Args:
        sampler: of states; its first role carries the scale of its codes.
        scale: guidance for all rows; None = what the batch asks for.
    """
    role = sampler.roles[0]

    def draw(roles: Roles, batch: Batch, step: Step) -> Iterator[State]:
        auto, net = roles["autoencoder"], roles[role].net
        there = heard(batch, auto, scale)
        model = {**roles, role: guided(roles[role], there.extra["guidance"])}
        *_, last = sampler.fn(model, there, step)
        yield State(said(auto, net.restored(last.x), there.cond), last.t)

    again = sampler.with_steps
    steps = None if again is None else lambda count: speaking(again(count), scale)
    return Sampler(draw, (role, "autoencoder"), steps)


def heard(batch: Batch, auto: StyleAutoencoder, scale: float | None) -> Batch:
    """The batch with the voices of its prompts in its condition."""
    voices = torch.cat([auto.voice(mel[None]) for mel in batch.extra["prompts"]])
    guidance = batch.extra["guidance"]
    extra = {**batch.extra, "guidance": guidance if scale is None else torch.full_like(guidance, scale)}
    cond = prompted(told_text(batch.cond, auto), voices[batch.extra["group"]])
    return replace(batch, cond=cond, extra=extra)


def guided(model: Any, scale: Tensor) -> Any:
    """A teacher at the guidance (B,) that is asked for; a student is told it by its batch."""
    if hasattr(model, "sample"):
        return model
    return AtScale(Guidance(model, 1.0, unprompted), scale)


def said(auto: StyleAutoencoder, code: Tensor, cond: Cond) -> dict[str, Tensor]:
    """(B, L, D) codes to prosody (B, P, 3), frames (B, P) and log-mel (B, M, T); the code is kept for pictures."""
    prosody = auto.restored(auto.decoded(code, cond)[1])
    frames = frames_of(prosody, cond.data["phones"] > 0)
    return {
        "prosody": prosody,
        "frames": frames,
        "mel": auto.spoken(code, prosody, cond, frames),
        "code": code,
    }
