"""English text in few steps: a masked-diffusion teacher, then a student by DiDi-Instruct.

The teacher learns to fill any holes in windows of real text. The student writes a block of tokens after a real context
in K calls, where the teacher needs many; a discriminator between its continuations and real ones is the reward.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from torch import Tensor

from fewstep.config import given_stage, load_teacher
from fewstep.engine import assemble
from fewstep.objectives import Denoising, HeadStart
from fewstep.objectives.weights import inverse_hidden
from fewstep.processes import Masked, Uniform
from fewstep.protocol import (
    Assembly,
    Average,
    Batch,
    Denoiser,
    Group,
    Key,
    Linear,
    Optim,
    Plan,
    Product,
    Shelf,
    Site,
    Stage,
)
from fewstep_text import data
from fewstep_text.didi.config import DataConfig, DidiConfig, DidiRequest
from fewstep_text.didi.network import TextCritic, TextNet
from fewstep_text.didi.writer import Writer, writing_sampler
from fewstep_text.files import write_texts
from fewstep_text.judge import NGrams
from fewstep_text.metrics import text_metrics
from fewstep_text.panels import timeline_panel
from fewstep_text.request import between, prefix_batch
from fewstep_text.tokenizer import Tokenizer, byte_pairs, characters


@dataclass(frozen=True)
class Corpus:
    """A tokenizer and three disjoint token streams: to train on, to train the judge on, to take prompts from."""

    tokenizer: Tokenizer
    training: Tensor
    judging: Tensor
    prompting: Tensor


def build(config: DidiConfig, site: Site) -> Plan:
    """Teacher, then student."""
    corpus = load(config.data)
    vocabulary = corpus.tokenizer.size
    given = load_teacher(config.teacher, partial(make_teacher, config, vocabulary))
    teach = (
        Stage("teacher", partial(_teach, config, corpus), config.teacher_updates, {"teacher_ema": "teacher"})
        if given is None
        else given_stage(given)
    )
    distill = Stage("student", partial(_distill, config, corpus), config.updates, {"student_ema": "student"})
    return Plan((teach, distill), product(config, corpus))


def load(config: DataConfig) -> Corpus:
    """The text as it is now, cut into tokens."""
    return cut(data.read(config.corpus, config.path), config.alphabet, config.vocabulary)


@lru_cache(maxsize=2)
def cut(text: str, alphabet: str, vocabulary: int) -> Corpus:
    """Clean, split, tokenize; kept, because plans of one text are built one after another and this takes a second."""
    training, judging, prompting = data.split(data.clean(text, alphabet))
    tokenizer = byte_pairs(training, vocabulary, alphabet) if vocabulary else characters(alphabet)
    streams = [data.stream(part, tokenizer) for part in (training, judging, prompting)]
    return Corpus(tokenizer, *streams)


def make_teacher(config: DidiConfig, vocabulary: int) -> Denoiser:
    """A denoiser with fresh weights."""
    return Denoiser(_net(config, vocabulary), Masked(vocabulary), "logits")


def make_student(config: DidiConfig, vocabulary: int) -> Writer:
    """A student of K calls per block; it starts as a copy of the teacher."""
    return Writer(_net(config, vocabulary), Masked(vocabulary), config.steps, config.block, config.context)


def make_critic(config: DidiConfig, vocabulary: int, teacher: Any) -> TextCritic:
    """A discriminator whose body starts as the teacher's, where the teacher has such a body."""
    critic = TextCritic(vocabulary, config.width, config.dilations)
    net = getattr(teacher, "net", None)
    return critic.start_from(net) if isinstance(net, TextNet) else critic


def _net(config: DidiConfig, vocabulary: int) -> TextNet:
    return TextNet(vocabulary, config.width, config.dilations)


def _teach(config: DidiConfig, corpus: Corpus, shelf: Shelf) -> Assembly:
    """The bound of masked diffusion (Sahoo et al. 2024 eq. 10): cross-entropy of hidden tokens, weighted by 1 / t."""
    rate = Linear(config.teacher_rate, 0.05 * config.teacher_rate)
    return assemble(
        Denoising(Uniform(0.02, 1.0), inverse_hidden, role="teacher"),
        {"teacher": partial(make_teacher, config, corpus.tokenizer.size)},
        data.Windows(corpus.training, config.teacher_length, config.teacher_batch),
        {"teacher": _adam(rate)},
        {"teacher_ema": Average("teacher", decay=config.average)},
    )


def _distill(config: DidiConfig, corpus: Corpus, shelf: Shelf) -> Assembly:
    """The configured objective on continuations of real text; roles that it does not ask for are left out."""
    vocabulary = corpus.tokenizer.size
    teacher = shelf["teacher"]
    return assemble(
        HeadStart(config.objective.build(Masked(vocabulary)), config.head_start),
        {
            "teacher": lambda: teacher,
            "student": partial(make_student, config, vocabulary),
            "disc": partial(make_critic, config, vocabulary, teacher),
            "fake": partial(make_teacher, config, vocabulary),
        },
        _continuations(config, corpus.training, vocabulary, config.batch),
        {
            "student": _adam(Linear(config.rate, 0.1 * config.rate)),
            "disc": _adam(config.critic_rate),
            "fake": _adam(config.critic_rate),
        },
        {"student_ema": Average("student", decay=config.average)},
    )


def _adam(rate: Linear | float) -> Optim:
    return Optim((Group(lr=rate),), options={"betas": (0.9, 0.99), "weight_decay": 0.0}, clip=1.0)


def _continuations(config: DidiConfig, tokens: Tensor, vocabulary: int, size: int) -> data.Continuations:
    windows = data.Windows(tokens, config.context + config.block, size)
    return data.Continuations(windows, config.block, vocabulary)


def product(config: DidiConfig, corpus: Corpus) -> Product:
    """The student, its teacher with many calls, and as controls the teacher with the student's, plain and greedy."""
    tokenizer = corpus.tokenizer
    write = partial(writing_sampler, block=config.block, context=config.context)
    judge = NGrams(corpus.judging.numpy(), tokenizer.size, config.judge_order)
    return Product(
        student="student",
        contenders={
            "student": write("student", config.steps),
            "teacher": write("teacher", config.teacher_steps),
            "teacher_fewstep": write("teacher", config.steps),
            **{
                f"teacher_{steps}step": write("teacher", steps)
                for steps in between(config.steps, config.teacher_steps)
            },
            "teacher_greedy": write("teacher", config.steps, sharpness=8.0),
        },
        evaluation=partial(_prompts, config, corpus),
        request=partial(_request, tokenizer),
        options=DidiRequest,
        write=partial(write_texts, tokenizer=tokenizer),
        metrics=text_metrics(judge, config.block),
        panels=(timeline_panel(tokenizer),),
        samples=config.samples,
    )


def _prompts(config: DidiConfig, corpus: Corpus, number: int, key: Key) -> Batch:
    """Contexts from text that neither the networks nor the judge have seen, with their real continuation."""
    source = _continuations(config, corpus.prompting, corpus.tokenizer.size, number)
    return source.ask(source.windows.draw(number, key.at("prompts")))


def _request(tokenizer: Tokenizer, options: DidiRequest, number: int, key: Key) -> Batch:
    return prefix_batch(tokenizer, options.text, options.length, number)
