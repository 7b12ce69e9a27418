"""Frames of a known law: everything that ``protein/frames`` is made of, held against closed forms.

The teacher is exact, so nothing is trained before the student. Its few-step rolls lack fluctuation and miss the shares
of the shapes; a distilled student of as many steps reaches both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fewstep.config import Settings, given_stage, load_teacher
from fewstep.config.objectives import Round, student_stages
from fewstep.engine import assemble
from fewstep.protocol import (
    Assembly,
    Average,
    Batch,
    Denoiser,
    Group,
    Key,
    Linear,
    Metric,
    Optim,
    Plan,
    Product,
    Score,
    Shelf,
    Site,
)
from fewstep.runs import bootstrap_statistic
from fewstep.samplers import FewStep, ddim, renoise, solver_sampler, student_for, student_sampler
from fewstep_protein.frames.config import OracleConfig
from fewstep_protein.frames.data import blank_frames, projected
from fewstep_protein.frames.law import Nearest, ShapeLaw, angle_error, nearest, place_distance, share_distance
from fewstep_protein.frames.process import FrameFlow, frame_flow
from fewstep_protein.frames.report import frame_panels, write_backbones
from fewstep_protein.frames.shapes import PREDICTS, ShapeNet
from fewstep_protein.sampling.roll import as_grid

SIZE = 0.5
"""Standard deviation of the law's places per axis in nanometers, about."""
BELIEFS = 0.1
"""Share of the rate for what a student believes: few samples are undecided, and only those have a gradient."""
RESAMPLES = 50
"""Bootstrap resamples."""


class OracleRequest(Settings):
    """What ``fewstep sample`` may ask for: nothing but how many."""


def build(config: OracleConfig, site: Site) -> Plan:
    """The teacher is exact, or given; only the student is trained."""
    teacher = load_teacher(config.teacher, partial(make_teacher, config)) or make_teacher(config)
    distill = student_stages(
        config.objective,
        make_process(),
        start_times(config),
        partial(_distill, config),
        config.updates,
        {"student_ema": "student"},
    )
    return Plan((given_stage(teacher), *distill), product(config))


def make_process() -> FrameFlow:
    """That of ``protein/frames``."""
    return frame_flow(SIZE, rho=3.0)


def start_times(config: OracleConfig) -> tuple[float, ...]:
    """Geometric from ``start`` to ``finest``. At t = 1 no noisy frame says which shape it will be."""
    if config.steps == 1:
        return (config.start,)
    ratio = config.finest / config.start
    return tuple(config.start * ratio ** (k / (config.steps - 1)) for k in range(config.steps))


def make_teacher(config: OracleConfig) -> Denoiser:
    """The exact denoiser. Its tables have a row per step, all alike, so that student and fake may start from it."""
    return Denoiser(_net(config, config.steps), make_process(), PREDICTS)


def make_student(config: OracleConfig, now: Round) -> FewStep:
    """The same form with its own tables in every step."""
    net = _net(config, len(now.times))
    return student_for(now.objective, net, make_process(), PREDICTS, now.times, pick="random")


def _net(config: OracleConfig, steps: int) -> ShapeNet:
    return ShapeNet(make_process(), ShapeLaw(config.residues), steps)


def _distill(config: OracleConfig, now: Round, shelf: Shelf) -> Assembly:
    """The configured objective on exact frames."""
    student, fake = Linear(config.rate, 0.02 * config.rate), Linear(config.fake_rate, 0.1 * config.fake_rate)
    return assemble(
        now.objective,
        {
            "teacher": lambda: shelf[now.before or "teacher"],
            "student": partial(make_student, config, now),
            "fake": partial(make_teacher, config),
        },
        Shapes(config.residues, config.batch),
        {"student": _adam(0.9, student, BELIEFS), "fake": _adam(0.5, fake)},
        {
            "student_ema": Average("student", decay=0.97),
            "target": Average("student", decay=0.95, when="before"),
        },
    )


def _adam(momentum: float, rate: Linear, beliefs: float = 1.0) -> Optim:
    """Adam; tables of beliefs at a share of the rate."""
    slower = Linear(beliefs * rate.start, beliefs * rate.end)
    groups = (Group("variance", rate), Group("share|wobble|sharpness", slower))
    return Optim(groups, "torch.optim:Adam", {"betas": (momentum, 0.99)})


@dataclass(frozen=True)
class Shapes:
    """Exact frames of the law."""

    residues: int
    size: int

    def batch(self, index: int, key: Key) -> Batch:
        """Frames of equal length; the mask says that all are real."""
        count, here = key.share(self.size), key.at("shapes", index)
        found = blank_frames(torch.full((count,), self.residues))
        x = ShapeLaw(self.residues).draw(
            here.at("shape").uniform((count, 1 + self.residues)),
            here.at("modes").normal(torch.zeros(count, self.residues - 1, 3)),
        )
        return replace(found, x=projected(found.mask, x["place"], x["turn"]))


def product(config: OracleConfig) -> Product:
    """Student, the exact teacher, and the teacher at the student's number of calls in two ways as controls."""
    times = start_times(config)
    return Product(
        student="student",
        contenders={
            # Every step has its own tables and its own time, so neither of these has a choice of steps.
            "student": replace(student_sampler("student"), with_steps=None),
            "teacher": solver_sampler("teacher", ddim, config.teacher_steps - 1),
            "teacher_fewstep": replace(
                solver_sampler("teacher", renoise, config.steps, as_grid(times)), with_steps=None
            ),
            "teacher_ode": solver_sampler("teacher", ddim, max(1, config.steps - 1)),
        },
        evaluation=lambda number, key: Shapes(config.residues, number).batch(0, key),
        request=partial(request, config),
        options=OracleRequest,
        write=write_backbones,
        metrics=oracle_metrics(ShapeLaw(config.residues)),
        panels=frame_panels(),
        samples=config.samples,
    )


def request(config: OracleConfig, options: OracleRequest, number: int, key: Key) -> Batch:
    """Chains of the law's length."""
    return blank_frames(torch.full((number,), config.residues))


def oracle_metrics(law: ShapeLaw) -> tuple[Metric, ...]:
    """Distances to the law, leaf by leaf, and to the shares that couple both."""
    return (
        Metric(
            "place_w2",
            "lower",
            _of(law, partial(place_distance, law)),
            "",
            "normalized Wasserstein-2 of places around their shape to the Gaussian chain",
        ),
        Metric(
            "angle",
            "lower",
            _of(law, angle_error),
            "degrees",
            "mean angle to the nearest rotation of the law",
        ),
        Metric(
            "shares", "lower", _of(law, share_distance), "", "total variation to the law's shapes and wobbles"
        ),
    )


def _of(law: ShapeLaw, measure: Callable[[Nearest], Tensor]) -> Callable[[Any, Batch, Key], Score]:
    """Metric function: a number of all samples, which are resampled."""

    def fn(x: Any, batch: Batch, key: Key) -> Score:
        found = nearest(law, x)

        def statistic(rows: Tensor) -> Tensor:
            each = [
                measure(Nearest(*(part[row] for part in found))) for row in rows.reshape(-1, rows.shape[-1])
            ]
            return torch.stack(each).reshape(rows.shape[:-1])

        return bootstrap_statistic(statistic, len(found.shape), key, resamples=RESAMPLES)

    return fn
