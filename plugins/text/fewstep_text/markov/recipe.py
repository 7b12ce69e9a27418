"""The Markov chain: distillation of a masked-diffusion teacher where the student's law is computed exactly.

A small teacher learns the chain's posterior, then a student of K steps moves by policy gradient on a learned density
ratio. Nothing in the table has sampling error: the law of every contender follows from its beliefs about all states.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from fewstep.config import given_stage, load_teacher
from fewstep.engine import assemble
from fewstep.objectives import Denoising, HeadStart
from fewstep.processes import Masked, Uniform
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
    Shelf,
    Site,
    Stage,
)
from fewstep.samplers import FewStepTokens
from fewstep_text.files import write_texts
from fewstep_text.markov.chain import Chain, ChainSource, with_beliefs
from fewstep_text.markov.config import MarkovConfig, MarkovRequest
from fewstep_text.markov.metrics import chain_metrics
from fewstep_text.markov.network import SequenceNet
from fewstep_text.panels import timeline_panel
from fewstep_text.request import between, prefix_batch
from fewstep_text.tokenizer import Tokenizer, characters

LETTERS = "abcdefgh"


def build(config: MarkovConfig, site: Site) -> Plan:
    """Teacher, then student."""
    chain = Chain(config.vocabulary, config.length, config.concentration, config.chain)
    given = load_teacher(config.teacher, partial(make_teacher, config))
    teach = (
        Stage("teacher", partial(_teach, config, chain), config.teacher_updates, {"teacher": "teacher"})
        if given is None
        else given_stage(given)
    )
    distill = Stage("student", partial(_distill, config, chain), config.updates, {"student_ema": "student"})
    return Plan((teach, distill), product(config, chain))


def make_teacher(config: MarkovConfig) -> Denoiser:
    """A denoiser with fresh weights."""
    return Denoiser(_net(config, config.vocabulary), Masked(config.vocabulary), "logits")


def make_student(config: MarkovConfig) -> FewStepTokens:
    """A K-step student; it starts as a copy of the teacher."""
    return FewStepTokens(_net(config, config.vocabulary), Masked(config.vocabulary), "logits", config.steps)


def _net(config: MarkovConfig, out: int) -> SequenceNet:
    return SequenceNet(config.vocabulary, config.length, config.width, out)


def _teach(config: MarkovConfig, chain: Chain, shelf: Shelf) -> Assembly:
    """Cross-entropy on exact samples at uniform times."""
    return assemble(
        Denoising(Uniform(chain.process.t_min, 1.0), role="teacher"),
        {"teacher": partial(make_teacher, config)},
        ChainSource(chain, config.batch),
        {"teacher": Optim((Group(lr=Linear(config.teacher_rate, 0.02 * config.teacher_rate)),))},
    )


def _distill(config: MarkovConfig, chain: Chain, shelf: Shelf) -> Assembly:
    """The configured objective; roles that it does not ask for are left out."""
    momentum: dict[str, Any] = {"betas": (0.9, 0.99), "weight_decay": 0.0}
    rate = Linear(config.rate, 0.05 * config.rate)
    return assemble(
        HeadStart(config.objective.build(chain.process), config.head_start),
        {
            "teacher": lambda: shelf["teacher"],
            "student": partial(make_student, config),
            "disc": partial(_net, config, 1),
            "fake": partial(make_teacher, config),
        },
        ChainSource(chain, config.batch),
        {
            "student": Optim((Group(lr=rate),), options=momentum, clip=1.0),
            "disc": Optim((Group(lr=config.critic_rate),), options=momentum),
            "fake": Optim((Group(lr=config.critic_rate),), options=momentum),
        },
        {"student_ema": Average("student", decay=config.average)},
    )


def product(config: MarkovConfig, chain: Chain) -> Product:
    """The student, its teacher with many steps, and as controls the teacher with the student's, plain and greedy."""
    tokenizer = characters(LETTERS[: config.vocabulary])
    return Product(
        student="student",
        contenders={
            "student": with_beliefs("student", config.steps, config.length),
            "teacher": with_beliefs("teacher", config.teacher_steps, config.length),
            "teacher_fewstep": with_beliefs("teacher", config.steps, config.length),
            **{
                f"teacher_{steps}step": with_beliefs("teacher", steps, config.length)
                for steps in between(config.steps, config.teacher_steps)
            },
            "teacher_greedy": with_beliefs("teacher", config.steps, config.length, sharpness=8.0),
        },
        evaluation=lambda number, key: _truth(chain, number, key),
        request=partial(_request, config, tokenizer),
        options=MarkovRequest,
        write=partial(write_texts, tokenizer=tokenizer),
        metrics=chain_metrics(chain),
        panels=(timeline_panel(tokenizer),),
        samples=1024,
    )


def _truth(chain: Chain, number: int, key: Key) -> Batch:
    x = chain.draw(number, key.at("truth"))
    return Batch(like=torch.zeros_like(x), x=x, cond=Cond())


def _request(
    config: MarkovConfig, tokenizer: Tokenizer, options: MarkovRequest, number: int, key: Key
) -> Batch:
    return prefix_batch(tokenizer, options.text, config.length, number)
