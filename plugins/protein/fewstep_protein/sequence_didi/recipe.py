"""Amino-acid sequences in few steps: a masked-diffusion teacher, then a student by DiDi-Instruct.

On a chain the teacher is exact, so that only the student is trained and every distance is to a known law. On real
sequences a small teacher learns to fill any holes first. The student unmasks short sequences in K calls, where the
teacher needs many; a discriminator between its sequences and real ones is the reward. It then writes any length.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

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
    Linear,
    Optim,
    Plan,
    Product,
    Roles,
    Sampler,
    Shelf,
    Site,
    Source,
    Stage,
    State,
    Step,
)
from fewstep.samplers import Sharpened, ancestral, student_sampler
from fewstep_protein.sequence_didi import proteins
from fewstep_protein.sequence_didi.alphabet import HIDDEN
from fewstep_protein.sequence_didi.chains import (
    ChainSource,
    ExactNet,
    dirichlet_chain,
    sharpened_chain,
)
from fewstep_protein.sequence_didi.config import SequenceConfig
from fewstep_protein.sequence_didi.metrics import Reference, sequence_metrics
from fewstep_protein.sequence_didi.network import Corrected, Critic, SequenceNet
from fewstep_protein.sequence_didi.panels import sequence_panels
from fewstep_protein.sequence_didi.request import SequenceRequest, request
from fewstep_protein.sequence_didi.student import NoisyTokens
from fewstep_protein.sequence_didi.writing import sequence_campaign, write_sequences

GREEDY = 8.0
"""Factor on the logits of the greedy control: the likeliest letters nearly always, the way to a collapsed sequence."""


def build(config: SequenceConfig, site: Site) -> Plan:
    """Teacher, then student."""
    law = load(config)
    teacher = load_teacher(config.teacher, partial(make_teacher, config, law))
    if teacher is None and law.chain is not None:
        teacher = make_teacher(config, law)
    teach = (
        given_stage(teacher)
        if teacher is not None
        else Stage(
            "teacher", partial(_teach, config, law), config.teacher_updates, {"teacher_ema": "teacher"}
        )
    )
    distill = Stage("student", partial(_distill, config, law), config.updates, {"student_ema": "student"})
    return Plan((teach, distill), product(config, law))


def load(config: SequenceConfig) -> Reference:
    """The law that sequences are drawn from, or the proteins that stand for it."""
    if config.data == "dirichlet":
        chain = dirichlet_chain(config.chain)
        return Reference(chain.pairs, chain)
    training = proteins.sequences(False, config.path)
    pairs = proteins.counted_pairs(training)
    if config.data == "sharpened":
        chain = sharpened_chain(pairs, config.power)
        return Reference(chain.pairs, chain)
    return Reference((pairs + 0.5) / (pairs + 0.5).sum(), None, training)


def make_teacher(config: SequenceConfig, law: Reference) -> Denoiser:
    """The exact denoiser of a chain, or a network with fresh weights."""
    net = SequenceNet(config.width, config.dilations) if law.chain is None else ExactNet(law.chain)
    return Denoiser(net, Masked(HIDDEN), "logits")


def make_student(config: SequenceConfig, teacher: Denoiser) -> NoisyTokens:
    """A student of K calls; it starts as exactly its teacher, whatever that is."""
    net = Corrected(teacher.net, config.width, config.dilations, config.noise)
    return NoisyTokens(net, Masked(HIDDEN), config.steps, config.noise)


def make_fake(config: SequenceConfig, teacher: Denoiser) -> Denoiser:
    """A denoiser of the student's sequences, for objectives that learn one; it starts as the teacher."""
    return Denoiser(Corrected(teacher.net, config.width, config.dilations, 0), Masked(HIDDEN), "logits")


def make_critic(config: SequenceConfig, teacher: Denoiser) -> Critic:
    """A discriminator whose reader starts as the teacher's, where the teacher has such a one."""
    return Critic(config.width, config.dilations).start_from(teacher.net)


def _teach(config: SequenceConfig, law: Reference, shelf: Shelf) -> Assembly:
    """The bound of masked diffusion (Sahoo et al. 2024 eq. 10): cross-entropy of hidden letters, weighted by 1 / t."""
    return assemble(
        Denoising(Uniform(0.02, 1.0), inverse_hidden, role="teacher"),
        {"teacher": partial(make_teacher, config, law)},
        proteins.SequenceWindows(law.training, config.teacher_window, config.teacher_batch),
        {"teacher": _adam(Linear(config.teacher_rate, 0.05 * config.teacher_rate))},
        {"teacher_ema": Average("teacher", decay=config.average)},
    )


def _distill(config: SequenceConfig, law: Reference, shelf: Shelf) -> Assembly:
    """The configured objective on short sequences; roles that it does not ask for are left out."""
    teacher = shelf["teacher"]
    return assemble(
        HeadStart(config.objective.build(Masked(HIDDEN)), config.head_start),
        {
            "teacher": lambda: teacher,
            "student": partial(make_student, config, teacher),
            "disc": partial(make_critic, config, teacher),
            "fake": partial(make_fake, config, teacher),
        },
        source(law, config.window, config.batch),
        {
            "student": _adam(Linear(config.rate, 0.1 * config.rate)),
            "disc": _adam(config.critic_rate),
            "fake": _adam(config.critic_rate),
        },
        {"student_ema": Average("student", decay=config.average)},
    )


def _adam(rate: Linear | float) -> Optim:
    return Optim((Group(lr=rate),), options={"betas": (0.9, 0.99), "weight_decay": 0.0}, clip=1.0)


def source(law: Reference, length: int, size: int) -> Source:
    """Exact sequences of a chain, or windows of real ones."""
    if law.chain is not None:
        return ChainSource(law.chain, length, size)
    return proteins.SequenceWindows(law.training, length, size)


def product(config: SequenceConfig, law: Reference) -> Product:
    """The student, its teacher with many calls, and as controls the teacher with few: the student's, one, and greedy."""
    teacher = f"{config.data}/{config.teacher.kind}" if law.chain is None else f"{config.data} chain"
    return Product(
        student="student",
        contenders={
            "student": student_sampler("student"),
            "teacher": unmasking("teacher", config.teacher_steps),
            "teacher_fewstep": unmasking("teacher", config.steps),
            "teacher_1step": unmasking("teacher", 1),
            "teacher_greedy": unmasking("teacher", config.steps, GREEDY),
        },
        evaluation=lambda number, key: source(law, config.length, number).batch(0, key.at("truth")),
        request=request,
        options=SequenceRequest,
        write=partial(write_sequences, teacher=teacher, training=law.training),
        metrics=sequence_metrics(law),
        panels=sequence_panels(law.pairs),
        samples=config.samples,
        campaign=sequence_campaign(teacher, law.training),
    )


def unmasking(role: str, steps: int, sharpness: float = 1.0) -> Sampler:
    """A denoiser that shows hidden letters in ``steps`` calls, each letter for itself given what is visible."""

    def draw(shelf: Roles, batch: Batch, step: Step) -> Iterator[State]:
        model = shelf[role]
        begin = batch.extra.get("prefix", torch.full_like(batch.like, HIDDEN))
        yield State(begin, torch.ones(len(begin), dtype=torch.float64))
        times = model.process.grid(steps)
        yield from ancestral(Sharpened(model, sharpness), begin, times, batch.cond, key=step.key.at("solver"))

    return Sampler(draw, (role,), lambda count: unmasking(role, count, sharpness))
