"""``audio/comosvc``: a score sung in one network call.

A teacher learns to denoise mel spectrograms of singing, told phones, notes, their lengths and slurs, but not who sings
and how (vibrato, tuning, glides). A student learns to jump from any noise level to where the teacher's trajectory ends
(Ye et al. 2023 sec. 4.3, the singing variant of CoMoSpeech). Two controls: the teacher forced to one call, which answers
with the blurred mean over all singers, and the student told wrong notes, which shows that it sings what it is told.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TypeAlias

from fewstep.config.objectives import Round
from fewstep.engine import assemble
from fewstep.objectives import Denoising
from fewstep.objectives.weights import edm as edm_weight
from fewstep.processes import Gaussian, LogNormal, edm
from fewstep.protocol import (
    Assembly,
    Average,
    Denoiser,
    Group,
    Linear,
    Mix,
    Objective,
    Optim,
    Plan,
    Product,
    Shelf,
    Site,
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
from fewstep_audio.comosvc.config import CoMoSVCConfig
from fewstep_audio.comosvc.network import ScoreEncoder
from fewstep_audio.metrics.choice import check_ears
from fewstep_audio.networks import MelNetwork
from fewstep_audio.singing.layout import SongSource
from fewstep_audio.singing.product import singing_product, sung, with_wrong_notes
from fewstep_audio.singing.songs import Songs, SongSettings, load_songs
from fewstep_audio.sound.choice import vocoder_from
from fewstep_audio.sound.mel import MelContract
from fewstep_audio.speech.durations import DurationFit, Durations
from fewstep_audio.teaching import given, stages, teacher_of

_Load: TypeAlias = Callable[[], Songs]


def build(config: CoMoSVCConfig, site: Site) -> Plan:
    """Teacher and lengths of consonants together, then the student."""
    process = edm(sigma_min=config.noise.lowest, sigma_max=config.noise.highest)
    songs = cache(partial(_songs, config, site.cache))
    teach, distill = (partial(make, config, process, songs) for make in (_teach, _distill))
    return Plan(stages(config, process, teach, distill, beside=("durations",)), _product(config, songs))


def _songs(config: CoMoSVCConfig, kept: Path) -> Songs:
    check_ears(config.listen)
    told = config.songs
    return load_songs(SongSettings(told.voices, told.sentences, told.takes, told.held_out), kept)


def _teach(config: CoMoSVCConfig, process: Gaussian, songs: _Load, shelf: Shelf) -> Assembly:
    """The teacher denoises mels of unknown singers; the lengths of spoken phones are learned beside it."""
    sung = songs()
    times = LogNormal(config.noise.mean, config.noise.std, process.t_min, process.t_max)
    denoising = Denoising(times, edm_weight, role="teacher")
    objective: Objective = DurationFit()
    if not given(config):
        objective = Mix({"denoising": (1.0, denoising), "durations": (1.0, DurationFit(phase="teacher"))})
    lr = _falling(config, config.teacher_lr)
    return assemble(
        objective,
        {
            "teacher": partial(_denoiser, config, process, sung),
            "durations": partial(Durations, voices=len(config.songs.told)),
        },
        _source(config, sung),
        {"teacher": _adamw(lr), "durations": _adamw(lr)},
        {"average": Average("teacher", decay=config.average)},
    )


def _distill(config: CoMoSVCConfig, process: Gaussian, songs: _Load, now: Round, shelf: Shelf) -> Assembly:
    """The student keeps the teacher's encoder and learns a decoder that needs one call."""
    sung = songs()
    teacher = _teacher(config, process, sung, shelf) if now.before is None else shelf[now.before]
    lr = _falling(config, config.lr)

    def student() -> FewStep:
        net = teacher.net.copied(is_flow_map(now.objective))
        return student_for(now.objective, net, process, teacher.prediction, now.times)

    return assemble(
        now.objective,
        {
            "teacher": lambda: teacher,
            "student": student,
            "fake": partial(_denoiser, config, process, sung),
        },
        _source(config, sung),
        {"student": _adamw(lr, r"^net\.decoder\."), "fake": _adamw(lr)},
        {
            "target": Average("student", decay=config.target_decay, when="before"),
            "average": Average("student", decay=config.average),
        },
    )


def _falling(config: CoMoSVCConfig, lr: float) -> Linear:
    return Linear(lr, config.lr_left * lr)


def _adamw(lr: Linear, match: str = "") -> Optim:
    """Fused: small networks otherwise spend a tenth of their time in the optimizer's loop over parameters."""
    return Optim((Group(match, lr=lr),), options={"fused": True}, clip=1.0)


def _teacher(config: CoMoSVCConfig, process: Gaussian, songs: Songs, shelf: Shelf) -> Denoiser:
    make = partial(_denoiser, config, process, songs)
    does = "takes phones and notes and carries the scale of its mels"
    return teacher_of(config, make, shelf, MelNetwork, does)


def _source(config: CoMoSVCConfig, songs: Songs) -> SongSource:
    return SongSource(songs.training, songs.scale, config.batch, config.crop, config.songs.told)


def _denoiser(config: CoMoSVCConfig, process: Gaussian, songs: Songs) -> Denoiser:
    told, contract = config.network, MelContract()
    encoder = ScoreEncoder(contract, told.channels, len(config.songs.told))
    net = MelNetwork(contract.bands, told.channels, told.dilations, songs.scale, encoder=encoder)
    return Denoiser(net, process, "boundary")


def _product(config: CoMoSVCConfig, songs: _Load) -> Product:
    return singing_product(
        songs,
        {
            "teacher": sung(solver_sampler("teacher", heun, config.teacher_steps)),
            "student": sung(student_sampler()),
            "student_2step": sung(student_sampler(steps=2)),
            "teacher_1step": sung(one_call_sampler("teacher")),
            "wrong_notes": with_wrong_notes(sung(student_sampler())),
        },
        config.songs.held_out,
        config.songs.told,
        vocoder=vocoder_from(config.vocoder),
        listen=config.listen,
    )
