"""``audio/comospeech``: text to speech in one network call.

A teacher learns to denoise mel spectrograms told phones and their durations, but not the pitch, nor who speaks unless
`speech.speakers=told`. A student learns to jump from any noise level to where the teacher's trajectory ends (Ye et al.
2023; Song et al. 2023 algorithm 2). The control is the teacher forced to one call: it answers with the mean over all
that is hidden, which is blurred.
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
from fewstep_audio.comospeech.config import CoMoSpeechConfig
from fewstep_audio.comospeech.prior import Around, PriorFit, around
from fewstep_audio.metrics.choice import check_ears
from fewstep_audio.networks import FrameEncoder, MelNetwork
from fewstep_audio.sound.choice import vocoder_from
from fewstep_audio.sound.mel import MelContract
from fewstep_audio.speech.corpus import Corpus, CorpusSettings, load_corpus
from fewstep_audio.speech.durations import DurationFit, Durations
from fewstep_audio.speech.folder import load_folder
from fewstep_audio.speech.layout import speakers
from fewstep_audio.speech.product import speech_product
from fewstep_audio.speech.source import SpeechSource
from fewstep_audio.speech.speakers import speech_options
from fewstep_audio.teaching import given, stages, teacher_of

_Load: TypeAlias = Callable[[], Corpus]


def build(config: CoMoSpeechConfig, site: Site) -> Plan:
    """Teacher and durations together, then the student."""
    process = edm(sigma_min=config.noise.lowest, sigma_max=config.noise.highest)
    corpus = cache(partial(_corpus, config, site.cache))
    teach, distill = (partial(make, config, process, corpus) for make in (_teach, _distill))
    return Plan(stages(config, process, teach, distill, beside=("durations",)), _product(config, corpus))


def _corpus(config: CoMoSpeechConfig, kept: Path) -> Corpus:
    check_ears(config.listen)
    told = config.speech
    if told.folder:
        return load_folder(Path(told.folder), told.held_out, MelContract(), kept, config.crop)
    return load_corpus(
        CorpusSettings(told.voices, told.pitches, told.liveliness, told.sentences, told.takes, told.held_out),
        kept,
    )


def _teach(config: CoMoSpeechConfig, process: Gaussian, corpus: _Load, shelf: Shelf) -> Assembly:
    """The teacher denoises mels of unknown voices; durations are learned beside it."""
    speech = corpus()
    times = LogNormal(config.noise.mean, config.noise.std, process.t_min, process.t_max)
    denoising = Denoising(times, edm_weight, role="teacher")
    objective: Objective = DurationFit()
    if not given(config):
        terms: dict[str, tuple[float, Objective]] = {
            "denoising": (1.0, denoising),
            "durations": (1.0, DurationFit(phase="teacher")),
        }
        if config.noise.prior == "mu":
            terms["prior"] = (1.0, PriorFit())
        objective = Mix(terms)
    lr = _falling(config, config.teacher_lr)
    return assemble(
        objective,
        {
            "teacher": partial(_denoiser, config, process, speech),
            "durations": partial(Durations, voices=len(config.speech.told)),
        },
        _source(config, speech),
        {"teacher": _adamw(lr), "durations": _adamw(lr)},
        {"average": Average("teacher", decay=config.average)},
    )


def _distill(
    config: CoMoSpeechConfig, process: Gaussian, corpus: _Load, now: Round, shelf: Shelf
) -> Assembly:
    """The student keeps the teacher's encoder and learns a decoder that needs one call."""
    speech = corpus()
    teacher = _teacher(config, process, speech, shelf) if now.before is None else shelf[now.before]
    lr = _falling(config, config.lr)

    def student() -> FewStep:
        net = teacher.net.copied(is_flow_map(now.objective))
        return student_for(now.objective, net, around(process, net), teacher.prediction, now.times)

    def fake() -> Denoiser:
        return Denoiser(_network(config, speech), teacher.process, "boundary")

    return assemble(
        now.objective,
        {"teacher": lambda: teacher, "student": student, "fake": fake},
        _source(config, speech),
        {"student": _adamw(lr, r"^net\.decoder\."), "fake": _adamw(lr)},
        {
            "target": Average("student", decay=config.target_decay, when="before"),
            "average": Average("student", decay=config.average),
        },
    )


def _falling(config: CoMoSpeechConfig, lr: float) -> Linear:
    return Linear(lr, config.lr_left * lr)


def _adamw(lr: Linear, match: str = "") -> Optim:
    """Fused: small networks otherwise spend a tenth of their time in the optimizer's loop over parameters."""
    return Optim((Group(match, lr=lr),), options={"fused": True}, clip=1.0)


def _teacher(config: CoMoSpeechConfig, process: Gaussian, speech: Corpus, shelf: Shelf) -> Denoiser:
    """Trained before or given; its network speaks."""
    make = partial(_denoiser, config, process, speech)
    found = teacher_of(config, make, shelf, MelNetwork, "takes phones and carries the scale of its mels")
    # A given network may have taken the place of the one whose mu this is.
    if isinstance(found.process, Around):
        found.process = around(process, found.net)
    return found


def _source(config: CoMoSpeechConfig, speech: Corpus) -> SpeechSource:
    voices = speakers([one.voice for one in speech.training], config.speech.told)
    return SpeechSource(speech.training, speech.scale, config.batch, config.crop, voices)


def _denoiser(config: CoMoSpeechConfig, process: Gaussian, speech: Corpus) -> Denoiser:
    net = _network(config, speech)
    return Denoiser(net, around(process, net), "boundary")


def _network(config: CoMoSpeechConfig, speech: Corpus) -> MelNetwork:
    told = config.network
    return MelNetwork(
        MelContract().bands,
        told.channels,
        told.dilations,
        speech.scale,
        encoder=FrameEncoder(told.channels, len(config.speech.told)),
        predicts=config.noise.prior == "mu",
    )


def _product(config: CoMoSpeechConfig, corpus: _Load) -> Product:
    return speech_product(
        corpus,
        {
            "teacher": solver_sampler("teacher", heun, config.teacher_steps),
            "student": student_sampler(),
            "student_2step": student_sampler(steps=2),
            "student_4step": student_sampler(steps=4),
            "teacher_1step": one_call_sampler("teacher"),
        },
        config.speech.held_out,
        options=speech_options(config.speech.told),
        told=config.speech.told,
        vocoder=vocoder_from(config.vocoder),
        listen=config.listen,
    )
