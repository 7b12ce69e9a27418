"""``audio/prodiff``: text to speech in two network calls, with pitch, energy and pace in one's hands.

A teacher learns to predict clean spectrograms from noisy ones, told phones, durations, voice, pitch and energy; predictors
of durations and prosody learn beside it. Then, round by round, a student learns to do two DDIM steps of its teacher in one
(Huang et al. 2022 sec. 3.3; Salimans & Ho 2022 algorithm 2). The control is the teacher forced to as few calls.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, TypeAlias

from torch import Tensor

from fewstep.config.objectives import Round
from fewstep.engine import assemble
from fewstep.objectives.weights import truncated_snr
from fewstep.processes import Gaussian, Grid
from fewstep.protocol import (
    Assembly,
    Average,
    Cond,
    Denoiser,
    Group,
    Key,
    Linear,
    Mix,
    Objective,
    Optim,
    Plan,
    Product,
    Shelf,
    Site,
    State,
    Tree,
    rows,
    tensors,
)
from fewstep.samplers import (
    FewStep,
    is_flow_map,
    solver_sampler,
    student_for,
    student_sampler,
    student_times,
)
from fewstep_audio.metrics.choice import check_ears
from fewstep_audio.prodiff.config import ProDiffConfig
from fewstep_audio.prodiff.loss import CleanPrediction, Likeness
from fewstep_audio.prodiff.network import ProDiffNetwork
from fewstep_audio.prodiff.product import Heard, prodiff_product
from fewstep_audio.prodiff.prosody import Prosody, ProsodyFit, habits, louder, measured, told
from fewstep_audio.sound.choice import vocoder_from
from fewstep_audio.sound.mel import Scale
from fewstep_audio.speech.corpus import Corpus, CorpusSettings, load_corpus
from fewstep_audio.speech.durations import DurationFit, Durations
from fewstep_audio.speech.layout import speakers
from fewstep_audio.speech.source import SpeechSource
from fewstep_audio.teaching import given, stages, teacher_of

_Load: TypeAlias = Callable[[], Heard]


def build(config: ProDiffConfig, site: Site) -> Plan:
    """Teacher, durations and prosody together, then the rounds of students."""
    check_ears(config.listen)
    process = config.schedule.build(config.teacher_steps)
    corpus = cache(partial(_heard, config, site))
    teach, distill = (partial(make, config, process, corpus) for make in (_teach, _distill))
    return Plan(
        stages(config, process, teach, distill, beside=("durations", "prosody")), _product(config, corpus)
    )


def _heard(config: ProDiffConfig, site: Site) -> Heard:
    """The corpus and its measured prosody."""
    spoken = config.speech
    settings = CorpusSettings(
        spoken.voices, spoken.pitches, spoken.liveliness, spoken.sentences, spoken.takes, spoken.held_out
    )
    corpus = load_corpus(settings, site.cache)
    heard = measured([*corpus.training, *corpus.testing], settings.contract, site.cache)
    training, testing = heard[: len(corpus.training)], heard[len(corpus.training) :]
    said, training = louder(corpus.training, training, spoken.loudness, settings.contract)
    return Corpus(said, corpus.testing), training, testing, habits(said, training, spoken.told)


def _teach(config: ProDiffConfig, process: Gaussian, corpus: _Load, shelf: Shelf) -> Assembly:
    """The teacher predicts clean mels at the levels that it will be asked about (ProDiff sec. 3.2)."""
    usual = corpus()[3]
    wanted = config.loss
    terms: dict[str, tuple[float, Objective]] = {
        "durations": (1.0, DurationFit(phase="teacher")),
        "prosody": (1.0, ProsodyFit(phase="teacher")),
    }
    if not given(config):
        likeness = Likeness(wanted.l1, wanted.l2, wanted.ssim, process.sigma_data)
        levels = Grid(student_times(process, config.teacher_steps))
        terms["denoising"] = (1.0, CleanPrediction(levels, truncated_snr, "teacher", distance=likeness))
    learns = Optim((Group(lr=Linear(config.teacher_lr, 0.1 * config.teacher_lr)),), clip=1.0)
    return assemble(
        Mix(terms),
        {
            "teacher": partial(_denoiser, config, process, corpus),
            "durations": partial(Durations, voices=len(config.speech.told)),
            "prosody": partial(Prosody, usual, len(config.speech.told)),
        },
        _source(config, process, corpus),
        {"teacher": learns, "durations": learns, "prosody": learns},
        {"average": Average("teacher", decay=config.average)},
    )


def _distill(config: ProDiffConfig, process: Gaussian, corpus: _Load, now: Round, shelf: Shelf) -> Assembly:
    """A student keeps its teacher's encoder and learns a decoder that takes steps twice as long."""
    teacher: Any = _teacher(config, process, corpus, shelf) if now.before is None else shelf[now.before]
    decoder = Optim((Group(r"^net\.decoder\.", lr=Linear(config.lr, 0.1 * config.lr)),), clip=1.0)

    def student() -> FewStep:
        net = teacher.net.copied(is_flow_map(now.objective))
        return student_for(now.objective, net, process, teacher.prediction, now.times, "ddim")

    return assemble(
        now.objective,
        {
            "teacher": lambda: teacher,
            "student": student,
            "fake": partial(_denoiser, config, process, corpus),
        },
        _source(config, process, corpus),
        {"student": decoder, "fake": Optim((Group(lr=config.lr),), clip=1.0)},
        {
            "target": Average("student", decay=0.95, when="before"),
            "average": Average("student", decay=config.average),
        },
    )


def _teacher(config: ProDiffConfig, process: Gaussian, corpus: _Load, shelf: Shelf) -> Denoiser:
    """Trained before or given; its network speaks and is told prosody."""
    make = partial(_denoiser, config, process, corpus)
    does = "takes phones and prosody and carries the scale of its mels"
    return teacher_of(config, make, shelf, ProDiffNetwork, does)


def _source(config: ProDiffConfig, process: Gaussian, corpus: _Load) -> SpeechSource:
    speech, heard, _, usual = corpus()
    voices = speakers([one.voice for one in speech.training], config.speech.told)
    shown = {**voices, **told(heard, usual)}
    return SpeechSource(speech.training, _scale(process, corpus), config.batch, config.crop, shown)


def _scale(process: Gaussian, corpus: _Load) -> Scale:
    scale = corpus()[0].scale
    return Scale(scale.mean, scale.std, process.sigma_data)


def _denoiser(config: ProDiffConfig, process: Gaussian, corpus: _Load) -> Denoiser:
    asked = config.network
    net = ProDiffNetwork(asked.channels, asked.dilations, len(config.speech.told), _scale(process, corpus))
    return Denoiser(net, process, "x0")


def walk(model: Any, x: Tree, times: Tensor, cond: Cond, *, key: Key | None = None) -> Iterator[State]:
    """DDIM in as many calls as steps: the last one ends with the clean estimate, as a student's does.

    So the last student's two calls and the first teacher's sixteen answer the same noise by the same rule.
    """
    process = model.process.on(cond.mask)
    for t, s in itertools.pairwise(times.tolist()):
        now, then = (times.new_full((rows(x),), u).to(tensors(x)[0].device) for u in (t, s))
        est = model(x, now, cond)
        x = est.x0 if s == times[-1] else process.jump(x, est, now, then)
        yield State(x, then, est)


def _product(config: ProDiffConfig, corpus: _Load) -> Product:
    few = config.steps
    return prodiff_product(
        corpus,
        {
            "teacher": solver_sampler("teacher", walk, config.teacher_steps),
            "student": student_sampler(),
            "teacher_few": solver_sampler("teacher", walk, few),
        },
        config.speech.held_out,
        config.speech.told,
        vocoder_from(config.vocoder),
        config.listen,
    )
