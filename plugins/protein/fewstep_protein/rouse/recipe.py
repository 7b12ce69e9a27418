"""The Rouse chain: SiD in several steps where teacher, best student and distance are known in closed form.

The teacher is exact, so nothing is trained before the student. With a fake that knows the step, every prefix of the
roll reaches the chain's law; with one Gaussian for the mixture of all steps (``fake=shared``) there is a continuum of
wrong fixed points, which this recipe exists to show.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch

from fewstep.config import given_stage, load_teacher
from fewstep.config.objectives import Round, student_stages
from fewstep.engine import assemble
from fewstep.errors import FewstepError
from fewstep.processes import Gaussian, flow
from fewstep.protocol import (
    Assembly,
    Average,
    Batch,
    Centered,
    Cond,
    Denoiser,
    Group,
    Key,
    Linear,
    Optim,
    Plan,
    Product,
    Ramp,
    Shelf,
    Site,
)
from fewstep.samplers import FewStep, ddim, renoise, solver_sampler, student_for, student_sampler
from fewstep_protein.rouse.chain import draw_chains
from fewstep_protein.rouse.config import RouseConfig, RouseRequest
from fewstep_protein.rouse.network import ModeNet
from fewstep_protein.rouse.report import rouse_metrics, rouse_panels
from fewstep_protein.sampling.roll import as_grid, roll_times
from fewstep_protein.structures import files
from fewstep_protein.structures.sources import blank, in_turn, length_mask


def build(config: RouseConfig, site: Site) -> Plan:
    """The teacher is exact, or given; only the student is trained."""
    teacher = load_teacher(config.teacher, partial(make_teacher, config)) or make_teacher(config)
    teach = given_stage(teacher)
    distill = student_stages(
        config.objective,
        make_process(),
        roll_times(config.steps, config.finest),
        partial(_distill, config),
        config.updates,
        {"student_ema": "student"},
    )
    return Plan((teach, *distill), product(config))


def make_process() -> Gaussian:
    """Rectified flow on centered chains of about 0.4 nm per axis."""
    return flow(t_min=1e-3, sigma_data=0.4, geometry=Centered())


def make_teacher(config: RouseConfig) -> Denoiser:
    """The exact denoiser. Its table has a row per step, all alike, so that student and fake may start from it."""
    return Denoiser(_net(config, config.steps), make_process(), "x0")


def make_student(config: RouseConfig, now: Round) -> FewStep:
    """A linear student with its own gains in every step."""
    net = _net(config, len(now.times))
    return student_for(now.objective, net, make_process(), "x0", now.times, pick="random")


def make_fake(config: RouseConfig) -> Denoiser:
    """A Gaussian per step, or one for all."""
    return Denoiser(_net(config, config.steps, config.fake == "shared"), make_process(), "x0")


def _net(config: RouseConfig, steps: int, pooled: bool = False) -> ModeNet:
    return ModeNet(make_process(), config.lengths, steps, pooled)


def _distill(config: RouseConfig, now: Round, shelf: Shelf) -> Assembly:
    """The configured objective on chains of the listed lengths."""
    student, fake = Linear(config.rate, 0.02 * config.rate), Linear(config.fake_rate, 0.1 * config.fake_rate)
    return assemble(
        now.objective,
        {
            "teacher": lambda: shelf[now.before or "teacher"],
            "student": partial(make_student, config, now),
            "fake": partial(make_fake, config),
        },
        Chains(config.lengths, config.batch),
        {"student": _adam(student, 0.9), "fake": _adam(fake, 0.5)},
        {
            "student_ema": Average("student", decay=0.98),
            "target": Average("student", decay=0.95, when="before"),
        },
    )


def _adam(rate: Ramp, momentum: float) -> Optim:
    return Optim((Group(lr=rate),), "torch.optim:Adam", {"betas": (momentum, 0.99)})


@dataclass(frozen=True)
class Chains:
    """Exact chains, lengths in turn by global row, so that every length has its share on any number of ranks."""

    lengths: tuple[int, ...]
    size: int

    def batch(self, index: int, key: Key) -> Batch:
        """Chains x (B, N, 3) with their mask."""
        count = key.share(self.size)
        offset = key.shard[0] * count
        lengths = [self.lengths[(offset + i) % len(self.lengths)] for i in range(count)]
        return exact_batch(lengths, max(self.lengths), key.at("chains", index))


def exact_batch(lengths: list[int], width: int, key: Key) -> Batch:
    """Exact chains of these lengths, padded to ``width``."""
    x = draw_chains(lengths, width, key.at("chain").normal(torch.zeros(len(lengths), width, 3)))
    mask = length_mask(torch.tensor(lengths), width)
    return Batch(like=x, x=Centered(mask=mask).project(x), cond=Cond(mask=mask))


def product(config: RouseConfig) -> Product:
    """Student, the exact teacher, and the teacher at the student's number of calls in two ways as controls."""
    times = roll_times(config.steps, config.finest)
    return Product(
        student="student",
        contenders={
            # Every step has its own gains and its own time, so neither of these has a choice of steps.
            "student": replace(student_sampler("student"), with_steps=None),
            "teacher": solver_sampler("teacher", ddim, config.teacher_steps - 1),
            "teacher_fewstep": replace(
                solver_sampler("teacher", renoise, config.steps, as_grid(times)), with_steps=None
            ),
            "teacher_ode": solver_sampler("teacher", ddim, max(1, config.steps - 1)),
        },
        evaluation=lambda number, key: Chains(config.lengths, number).batch(0, key),
        request=partial(request, config),
        options=RouseRequest,
        write=files.write_chains,
        metrics=rouse_metrics(),
        panels=rouse_panels(),
        samples=config.samples,
    )


def request(config: RouseConfig, options: RouseRequest, number: int, key: Key) -> Batch:
    """Chains of the asked length, or of every length in turn.

    Raises:
        FewstepError: a length that the run does not know.
    """
    if options.length is not None and options.length not in config.lengths:
        known = ", ".join(map(str, config.lengths))
        raise FewstepError(
            f"this run knows no chain of {options.length} beads",
            f"one of {known}",
            f"--length {config.lengths[0]}, or train with -s lengths=[{known}, {options.length}]",
        )
    lengths = (options.length,) if options.length else config.lengths
    return blank(in_turn(lengths, number))
