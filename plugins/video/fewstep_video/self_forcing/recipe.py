"""``video/self-forcing``: from a bidirectional teacher to a causal student that streams in constant memory.

Huang et al. 2025 (Self Forcing, arXiv 2506.08009) over Yin et al. 2025 (CausVid): a teacher learns whole clips; the
student starts from its weights and is warmed with the clean past shown; then it rolls out on its own frames, and a
fake that learns what those rollouts look like says, against the teacher, where they should move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch

from fewstep.config import load_teacher
from fewstep.config.objectives import Round, student_stages
from fewstep.engine import assemble
from fewstep.objectives import Denoising
from fewstep.objectives.weights import edm
from fewstep.processes import Gaussian, Grid, LogitNormal, flow
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
    Stage,
    State,
    Step,
)
from fewstep.samplers import euler, is_flow_map, solver_sampler, student_sampler
from fewstep_video.data import CLASSES, ClipShape, MovingDigits
from fewstep_video.files import write_clips
from fewstep_video.metrics import clip_distance, dynamics, flicker, legibility
from fewstep_video.panels import clips_panel
from fewstep_video.self_forcing.config import SelfForcingConfig, StageConfig, StreamOptions
from fewstep_video.self_forcing.network import NetworkShape, VideoTransformer
from fewstep_video.self_forcing.student import CausalStudent, Roll, warped

SIGMA_DATA = 0.5
"""Standard deviation of the states, about."""

LONG = 6
"""The drift check looks at the last clip of a stream that is so many clips long."""


def build(config: SelfForcingConfig, site: Site) -> Plan:
    """Teacher, warm student, self forcing."""
    process = flow(sigma_data=SIGMA_DATA)
    stages = [
        Stage("warm", partial(_warm, config, process), config.warming.steps, {"student": "before"}),
        *student_stages(
            config.objective,
            process,
            _roll(config).times,
            partial(_distill, config, process),
            config.distilling.steps,
            _left(config),
        ),
    ]
    if config.teacher.kind == "train":
        stages.insert(
            0,
            Stage(
                "teacher", partial(_teach, config, process), config.teaching.steps, {"teacher_ema": "teacher"}
            ),
        )
    return Plan(tuple(stages), _product(config))


# --- stages -------------------------------------------------------------------------------------------------------
def _teach(config: SelfForcingConfig, process: Gaussian, shelf: Shelf) -> Assembly:
    """Whole clips, all frames at one time, noisy times preferred: a clip says everything eight times."""
    return assemble(
        Denoising(LogitNormal(0.5, 1.0, process.t_min, process.t_max), edm, role="teacher"),
        {"teacher": partial(_teacher, config, process)},
        _source(config, config.teaching),
        {"teacher": _optim(config.teaching)},
        {"teacher_ema": Average("teacher", 0.99)},
    )


def _warm(config: SelfForcingConfig, process: Gaussian, shelf: Shelf) -> Assembly:
    """The student, from the teacher's weights, learns each block from its clean past, at its own step times."""
    teacher = _given_teacher(config, process, shelf)
    return assemble(
        Denoising(Grid(_roll(config).times)),
        {"student": lambda: _student_like(config, teacher, _roll(config).times)},
        _source(config, config.warming, teacher_forcing=True),
        {"student": _optim(config.warming)},
    )


def _distill(config: SelfForcingConfig, process: Gaussian, now: Round, shelf: Shelf) -> Assembly:
    """The student is judged on its own rollouts; it never looks at the clean past that travels with the batch.

    Objectives that ask it for an estimate, such as consistency, do.
    """
    start = shelf[now.before or "before"]
    assembly = assemble(
        now.objective,
        {
            "teacher": lambda: start if now.before else _given_teacher(config, process, shelf),
            "student": lambda: _student_like(config, start, now.times, is_flow_map(now.objective)),
        },
        _source(config, config.distilling, teacher_forcing=True),
        {
            "student": _optim(config.distilling, betas=(0.0, 0.999)),
            "fake": _optim(config.distilling, lr=config.fake_lr, betas=(0.0, 0.999)),
        },
        {"student_ema": Average("student", 0.95), "target": Average("student", 0.95, when="before")},
    )
    # Objectives start their student from the teacher; here it goes on from where the warm stage left it.
    for name in assembly.roles.keys() & {"student", "student_ema", "target"}:
        assembly.roles[name].load_state_dict(start.state_dict(), strict=False)
    return assembly


def _left(config: SelfForcingConfig) -> dict[str, str]:
    given = {} if config.teacher.kind == "train" else {"teacher": "teacher"}
    return {"student_ema": "student", **given}


# --- parts --------------------------------------------------------------------------------------------------------
def _shape(config: SelfForcingConfig) -> ClipShape:
    return ClipShape(config.clip.frames, config.clip.height, config.clip.width)


def _source(config: SelfForcingConfig, stage: StageConfig, teacher_forcing: bool = False) -> MovingDigits:
    return MovingDigits(_shape(config), stage.rows, config.clip.stride, teacher_forcing=teacher_forcing)


def _teacher(config: SelfForcingConfig, process: Gaussian, lands: bool = False) -> Denoiser:
    sizes = config.network
    shape = NetworkShape(
        (config.clip.height, config.clip.width),
        patch=sizes.patch,
        width=sizes.width,
        depth=sizes.depth,
        heads=sizes.heads,
    )
    return Denoiser(VideoTransformer(shape, lands), process, "edm")


def _given_teacher(config: SelfForcingConfig, process: Gaussian, shelf: Shelf) -> Denoiser:
    """From the first stage, or from where the configuration says."""
    return (
        shelf["teacher"]
        if "teacher" in shelf
        else load_teacher(config.teacher, partial(_teacher, config, process))
    )


def _roll(config: SelfForcingConfig) -> Roll:
    roll = config.roll
    return Roll(warped(roll.steps, roll.shift), roll.block, roll.window, roll.sink)


def _student_like(
    config: SelfForcingConfig, origin: Denoiser, times: tuple[float, ...], lands: bool = False
) -> CausalStudent:
    """A causal student with a copy of these weights; one that ``lands`` is a flow map."""
    fresh = _teacher(config, origin.process, lands)
    roll = replace(_roll(config), times=times)
    student = CausalStudent(fresh.net, origin.process, origin.prediction, roll)
    student.load_state_dict(origin.state_dict(), strict=not lands)
    return student.requires_grad_(True)


def _optim(stage: StageConfig, lr: float | None = None, betas: tuple[float, float] = (0.9, 0.99)) -> Optim:
    rate = stage.lr if lr is None else lr
    return Optim(
        (Group(lr=Linear(rate, rate / 10)),), options={"betas": betas, "weight_decay": 0.0}, clip=1.0
    )


# --- product ------------------------------------------------------------------------------------------------------
def _product(config: SelfForcingConfig) -> Product:
    return Product(
        student="student",
        contenders={
            "teacher": solver_sampler("teacher", euler, config.teacher_steps),
            "student": student_sampler("student"),
            "student_long": _long("student"),
            "before": student_sampler("before"),
            "before_long": _long("before"),
            "teacher_causal": _causal(config),
        },
        evaluation=partial(_evaluation, config),
        request=partial(_request, config),
        options=StreamOptions,
        write=write_clips,
        metrics=(legibility(), flicker(), clip_distance(), dynamics()),
        panels=(clips_panel(),),
        samples=config.samples,
    )


def _evaluation(config: SelfForcingConfig, count: int, key: Key) -> Batch:
    """Held-out digits."""
    return MovingDigits(_shape(config), count, config.clip.stride, split="test").batch(0, key)


def _request(config: SelfForcingConfig, options: StreamOptions, count: int, key: Key) -> Batch:
    """A stream per clip, as long as asked for."""
    like = ClipShape(options.frames, config.clip.height, config.clip.width).like(count)
    labels = torch.arange(count) % CLASSES if options.digit is None else torch.full((count,), options.digit)
    return Batch(like=like, cond=Cond(data={"label": labels}))


def _long(role: str) -> Sampler:
    """The last clip of a stream ``LONG`` times as long as training clips: does it drift?"""

    def draw(roles: Roles, batch: Batch, step: Step) -> Iterator[State]:
        frames = batch.like.shape[1]
        like = batch.like[:, :1].expand(-1, LONG * frames, -1, -1, -1)
        sample = roles[role].sample(Batch(like=like, cond=batch.cond), step)
        yield State(sample.x[:, -frames:], torch.zeros(len(like), dtype=torch.float64))

    return Sampler(draw, (role,))


def _causal(config: SelfForcingConfig) -> Sampler:
    """The undistilled teacher, used as a causal student with the student's steps."""

    def draw(roles: Roles, batch: Batch, step: Step) -> Iterator[State]:
        teacher = roles["teacher"]
        student: Callable[..., CausalStudent] = CausalStudent
        stream = student(teacher.net, teacher.process, teacher.prediction, _roll(config))
        yield from student_sampler("it").fn({"it": stream}, batch, step)

    return Sampler(draw, ("teacher",))
