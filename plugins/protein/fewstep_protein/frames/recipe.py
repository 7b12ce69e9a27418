"""Backbones as frames in a few network calls: a teacher on real frames, distilled by score identity.

Places run along a rectified flow and rotations along geodesics, on one clock (Yim et al. 2023, FrameFlow). The score
identity needs only that a denoiser is the mean of what leads to the data, seen from the noisy state, which holds on
rotations as in flat space; when fake and teacher agree at all times, both velocities agree, and so do the laws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from fewstep.config import given_stage, load_teacher
from fewstep.config.objectives import Round, student_stages
from fewstep.engine import assemble
from fewstep.processes import LogitNormal
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
    Ramp,
    Shelf,
    Site,
    Stage,
)
from fewstep.samplers import FewStep, ddim, renoise, solver_sampler, student_for, student_sampler
from fewstep_protein.frames.config import FramesConfig, FramesRequest
from fewstep_protein.frames.data import FrameLengths, FrameWindows, blank_frames, with_backbones
from fewstep_protein.frames.network import PREDICTS, FrameNet
from fewstep_protein.frames.objective import FrameDenoising
from fewstep_protein.frames.process import T_MIN, FrameFlow, frame_flow
from fewstep_protein.frames.report import frame_metrics, frame_panels, write_backbones
from fewstep_protein.sampling.roll import as_grid, roll_times
from fewstep_protein.structures.geometry import chain_size
from fewstep_protein.structures.sources import in_turn


def build(config: FramesConfig, site: Site) -> Plan:
    """Teacher, student, and what is measured and written."""
    given = load_teacher(config.teacher, partial(make_teacher, config))
    if given is None:
        teach = Stage("teacher", partial(_teach, config), config.teacher_updates, {"teacher_ema": "teacher"})
    else:
        teach = given_stage(given)
    distill = student_stages(
        config.objective,
        make_process(config),
        roll_times(config.steps, config.finest),
        partial(_distill, config),
        config.updates,
        {"student_ema": "student"},
    )
    return Plan((teach, *distill), product(config))


def make_process(config: FramesConfig) -> FrameFlow:
    """Places as large as real chains of these lengths."""
    return frame_flow(chain_size(config.shortest, config.longest))


def make_teacher(config: FramesConfig) -> Denoiser:
    """A fresh teacher."""
    return Denoiser(_net(config), make_process(config), PREDICTS)


def make_student(config: FramesConfig, now: Round) -> FewStep:
    """A student that takes its first weights from the teacher."""
    return student_for(now.objective, _net(config), make_process(config), PREDICTS, now.times, pick="random")


def make_fake(config: FramesConfig) -> Denoiser:
    """The teacher's network, told the step unless the fake is shared by all steps."""
    return Denoiser(_net(config, config.fake == "per-step"), make_process(config), PREDICTS)


def _net(config: FramesConfig, reads_index: bool = False) -> FrameNet:
    size = chain_size(config.shortest, config.longest)
    return FrameNet(size, **config.network.model_dump(), reads_index=reads_index)


def _teach(config: FramesConfig, shelf: Shelf) -> Assembly:
    """Denoising of real frames."""
    objective = FrameDenoising(LogitNormal(-1.2, 1.5, T_MIN, 1.0), config.atoms)
    source = FrameWindows(
        with_backbones(held_out=False), config.teacher_batch, config.shortest, config.longest
    )
    falling = Linear(config.teacher_rate, 0.05 * config.teacher_rate)
    return assemble(
        objective,
        {"teacher": partial(make_teacher, config)},
        source,
        {"teacher": Optim((Group(lr=falling),), clip=1.0)},
        {"teacher_ema": Average("teacher", decay=0.99)},
    )


def _distill(config: FramesConfig, now: Round, shelf: Shelf) -> Assembly:
    """The configured objective on chains of random length; no data unless the objective reads it."""
    make: dict[str, Callable[[], nn.Module]] = {
        "teacher": lambda: shelf[now.before or "teacher"],
        "student": partial(make_student, config, now),
        "fake": partial(make_fake, config),
    }
    falling = Linear(config.rate, 0.1 * config.rate)
    return assemble(
        now.objective,
        make,
        _requests(config, now.objective.reads),
        {"student": _adam(falling, 0.9), "fake": _adam(config.fake_rate, 0.0)},
        {
            "student_ema": Average("student", decay=0.97),
            "target": Average("student", decay=0.95, when="before"),
        },
    )


def _adam(rate: Ramp | float, momentum: float) -> Optim:
    """Adam; no momentum for the fake, which chases a moving law."""
    return Optim((Group(lr=rate),), "torch.optim:Adam", {"betas": (momentum, 0.999)}, clip=1.0)


def _requests(config: FramesConfig, reads: frozenset[str]) -> Any:
    """Data only for an objective that asks for it."""
    if "x" in reads:
        return FrameWindows(with_backbones(held_out=False), config.batch, config.shortest, config.longest)
    return FrameLengths(config.batch, config.shortest, config.longest)


def product(config: FramesConfig) -> Product:
    """Student against teacher, and the teacher at the student's number of calls in two ways as controls."""
    times = roll_times(config.steps, config.finest)
    return Product(
        student="student",
        contenders={
            "student": student_sampler("student"),
            "teacher": solver_sampler("teacher", ddim, config.teacher_steps - 1),
            # These times are the student's own, so there is no choice of steps.
            "teacher_fewstep": replace(
                solver_sampler("teacher", renoise, config.steps, as_grid(times)), with_steps=None
            ),
            "teacher_ode": solver_sampler("teacher", ddim, max(1, config.steps - 1)),
        },
        evaluation=partial(evaluation, config),
        request=request,
        options=FramesRequest,
        write=write_backbones,
        metrics=frame_metrics(),
        panels=frame_panels(),
        samples=config.samples,
    )


def evaluation(config: FramesConfig, number: int, key: Key) -> Batch:
    """Held-out real windows of all lengths: their lengths are asked for, their frames are the truth."""
    return FrameWindows(
        with_backbones(held_out=True),
        number,
        config.shortest,
        config.longest,
        config.longest - config.shortest,
    ).batch(0, key)


def request(options: FramesRequest, number: int, key: Key) -> Batch:
    """Chains of the asked length."""
    return blank_frames(in_turn((options.length,), number))
