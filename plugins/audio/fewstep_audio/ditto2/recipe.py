"""``audio/ditto2``: music that does what is asked, found in its noise.

A teacher learns to denoise spectrograms of music and is told nothing else. A student learns to send every point of the
teacher's trajectories to its clean end (Song et al. 2023), so that one call makes a sample. Then noise is optimised through
that call until the sample is continued, loud or melodious as was asked, and decoded by the same call, or by the teacher's
many (Novack et al. 2024, DITTO-2).

Controls that must fail: fresh noise between the steps of the decoder throws away what was found; the undistilled
teacher forced to one call is a blur that says little about its samples, so what is found through it does not hold in them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fewstep.config import Settings, setting
from fewstep.config.objectives import Round
from fewstep.engine import assemble
from fewstep.errors import FewstepError
from fewstep.objectives import Denoising
from fewstep.objectives.weights import edm as edm_weight
from fewstep.processes import Gaussian, LogNormal, edm
from fewstep.protocol import (
    Assembly,
    Average,
    Batch,
    Cond,
    Denoiser,
    Group,
    Key,
    Linear,
    Optim,
    Plan,
    Product,
    Roles,
    Sampler,
    Shelf,
    Site,
    State,
    Step,
)
from fewstep.samplers import (
    FewStep,
    heun,
    is_flow_map,
    one_call_sampler,
    solver_sampler,
    student_for,
    student_sampler,
)
from fewstep_audio.ditto2.asked import examples
from fewstep_audio.ditto2.config import Ditto2Config
from fewstep_audio.ditto2.controls import PerRow
from fewstep_audio.ditto2.measures import control_error, frechet
from fewstep_audio.ditto2.network import MusicNetwork
from fewstep_audio.ditto2.optimise import (
    Search,
    controlled_sampler,
    decoded,
    renoised,
    through_student,
    through_teacher,
)
from fewstep_audio.metrics.spectrogram import detail, distance, spread
from fewstep_audio.music.corpus import MUSIC, Corpus, MusicSettings, MusicSource, load_corpus
from fewstep_audio.music.panel import music_panel
from fewstep_audio.sound.files import write_wavs
from fewstep_audio.sound.vocoder import GriffinLim
from fewstep_audio.teaching import stages, teacher_of

_Load: TypeAlias = Callable[[], Corpus]
SEVERAL = 4
"""Calls of the decoders that refine a sample, steadily or with fresh noise."""


def build(config: Ditto2Config, site: Site) -> Plan:
    """The teacher, then the student."""
    process = edm(sigma_min=config.noise.lowest, sigma_max=config.noise.highest)
    corpus = cache(partial(load_corpus, MusicSettings(**config.music.model_dump()), site.cache))
    teach, distill = (partial(make, config, process, corpus) for make in (_teach, _distill))
    return Plan(stages(config, process, teach, distill), _product(config, corpus))


def _teach(config: Ditto2Config, process: Gaussian, corpus: _Load, shelf: Shelf) -> Assembly:
    """The teacher denoises crops of music."""
    music = corpus()
    times = LogNormal(config.noise.mean, config.noise.std, process.t_min, process.t_max)
    lr = Linear(config.teacher_lr, 0.1 * config.teacher_lr)
    return assemble(
        Denoising(times, edm_weight, role="teacher"),
        {"teacher": partial(_denoiser, config, process, music)},
        _source(config, music),
        {"teacher": Optim((Group(lr=lr),), clip=1.0)},
        {"average": Average("teacher", decay=config.average)},
    )


def _distill(config: Ditto2Config, process: Gaussian, corpus: _Load, now: Round, shelf: Shelf) -> Assembly:
    """The student begins as its teacher, told where to land if its objective asks for that."""
    music = corpus()
    teacher = _teacher(config, process, music, shelf) if now.before is None else shelf[now.before]
    lr = Optim((Group(lr=config.lr),), clip=1.0)

    def student() -> FewStep:
        net = teacher.net.copied(is_flow_map(now.objective))
        return student_for(now.objective, net, process, teacher.prediction, now.times, rule="ddim")

    return assemble(
        now.objective,
        {
            "teacher": lambda: teacher,
            "student": student,
            "fake": partial(_denoiser, config, process, music),
        },
        _source(config, music),
        {"student": lr, "fake": lr},
        {
            "target": Average("student", decay=config.target_decay, when="before"),
            "average": Average("student", decay=config.average),
        },
    )


def _teacher(config: Ditto2Config, process: Gaussian, music: Corpus, shelf: Shelf) -> Denoiser:
    make = partial(_denoiser, config, process, music)
    return teacher_of(config, make, shelf, MusicNetwork, "carries the scale of its mels")


def _source(config: Ditto2Config, music: Corpus) -> MusicSource:
    return MusicSource(music.training, music.scale, config.batch, config.crop)


def _denoiser(config: Ditto2Config, process: Gaussian, music: Corpus) -> Denoiser:
    told = config.network
    return Denoiser(
        MusicNetwork(MUSIC.bands, told.channels, told.dilations, music.scale), process, "boundary"
    )


class MusicOptions(Settings):
    """What ``fewstep sample`` may ask for; ``fewstep audio ditto`` asks for more."""

    seconds: float = setting(6.0, "how long the music is", unit="seconds", ge=0.5, le=600)


def _product(config: Ditto2Config, corpus: _Load) -> Product:
    vocoder = GriffinLim(MUSIC)

    def request(options: MusicOptions, count: int, key: Key) -> Batch:
        return free_batch(count, MUSIC.frames(round(options.seconds * MUSIC.rate)))

    return Product(
        student="student",
        contenders={name: audible(sampler) for name, sampler in _contenders(config).items()},
        evaluation=lambda count, _key: examples(corpus(), count, config.shown),
        request=request,
        options=MusicOptions,
        write=partial(write_wavs, vocoder=vocoder),
        metrics=(
            distance(),
            detail(),
            spread(),
            frechet(lambda: [piece.mel for piece in corpus().testing]),
            control_error("inpaint", "Frames around a gap, squared difference in standard deviations"),
            control_error("intensity", "A ramp of loudness, squared difference in dB"),
            control_error("melody", "The pitch class that should be strongest, cross-entropy"),
        ),
        panels=(music_panel(vocoder),),
        samples=config.samples,
    )


def _contenders(config: Ditto2Config) -> Mapping[str, Sampler]:
    """The teacher, the student in one and four calls, and noise that is optimised and decoded in four ways."""
    told = config.search
    search = Search(told.iterations, told.lr, told.patience, told.prior)

    def asked(batch: Batch, model: Denoiser) -> Callable[[Tensor], Tensor]:
        if "controls" not in batch.extra:
            raise FewstepError(
                "nothing is asked of this music", "a control", 'fewstep audio ditto RUN --melody "C4:1 E4:1"'
            )
        ask, scale = PerRow(batch.extra["controls"]), model.net.scale
        return lambda state: ask.sought(scale.restored(state))

    teacher = heun_from("teacher", config.teacher_steps)
    found = partial(controlled_sampler, asked, search)
    by_student = {
        "surrogate": lambda roles, batch: through_student(roles["student"], batch),
        "roles": ("student",),
    }
    return {
        "teacher": solver_sampler("teacher", heun, config.teacher_steps),
        "student": student_sampler(),
        "student_4step": student_sampler(steps=SEVERAL),
        "teacher_1step": one_call_sampler("teacher"),
        "controlled": found(told.decode_steps, **by_student, decode=_steady),
        "controlled_teacher": found(
            config.teacher_steps, **by_student | {"roles": ("student", "teacher")}, decode=teacher
        ),
        "controlled_renoised": found(SEVERAL, **by_student, decode=_renoised),
        "controlled_teacher_1step": found(
            config.teacher_steps,
            surrogate=lambda roles, batch: through_teacher(roles["teacher"], batch, 1),
            decode=teacher,
            roles=("teacher",),
        ),
    }


def _steady(roles: Roles, batch: Batch, noise: Tensor, steps: int, step: Step) -> Tensor:
    return decoded(roles["student"], batch, noise, steps)


def _renoised(roles: Roles, batch: Batch, noise: Tensor, steps: int, step: Step) -> Tensor:
    return renoised(roles["student"], batch, noise, steps, step)


def heun_from(role: str, intervals: int) -> Callable[..., Tensor]:
    """A decoder that integrates a denoiser from the given noise, whatever number of steps is asked for."""

    def decode(roles: Roles, batch: Batch, noise: Tensor, steps: int, step: Step) -> Tensor:
        model = roles[role]
        process: Any = model.process.on(batch.mask)
        times = process.grid(intervals)
        start = process.corrupt(None, noise, times[0].expand(len(noise)))
        *_, last = heun(model, start, times, batch.cond)
        return last.x

    return decode


def free_batch(count: int, frames: int) -> Batch:
    """A request for so much music, without any control."""
    like = torch.zeros(1).expand(count, MUSIC.bands, frames)
    mask = torch.ones(count, 1, frames, dtype=torch.bool)
    return Batch(like, cond=Cond(mask=mask), extra={"texts": ("music",) * count})


def audible(sampler: Sampler) -> Sampler:
    """The same sampler, from states to log-mel."""
    role = sampler.roles[0]

    def draw(roles: Roles, batch: Batch, step: Step) -> Any:
        scale = roles[role].net.scale
        frames = batch.mask.flatten(1).sum(1)
        for state in sampler.fn(roles, batch, step):
            yield State({"mel": scale.restored(state.x), "frames": frames}, state.t)

    again = sampler.with_steps
    return Sampler(draw, sampler.roles, None if again is None else lambda count: audible(again(count)))
