"""``audio/pipeline``: a text-to-audio pipeline of diffusers, whose network learns to need few steps.

The teacher is the pipeline's own network under its own guidance. Clean latents come from a folder of recordings, or the
teacher makes them: then every latent is the end of its guided trajectory from a noise, and the pair is kept, so that no
sound is needed. The student has the network's weights to begin with, and goes back into a pipeline (``folder.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeAlias

from torch import nn

from fewstep.config.objectives import Round, student_stages
from fewstep.config.teacher import attribute, load_teacher
from fewstep.engine import MakePairs, PairSource, assemble
from fewstep.errors import FewstepError
from fewstep.objectives import ODE, Denoising
from fewstep.objectives.weights import customary
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
    Shelf,
    Site,
    Source,
    Stage,
)
from fewstep.samplers import FewStep, ddim, student_for
from fewstep_audio.pipelines.adapters import load_teacher_pipeline
from fewstep_audio.pipelines.config import PipelineConfig
from fewstep_audio.pipelines.network import PipelineNetwork
from fewstep_audio.pipelines.product import bare, pipeline_product
from fewstep_audio.pipelines.sounds import Latents, Prompts, encoded, prompts_of, recorded, tones
from fewstep_audio.pipelines.teachers import AudioTeacher
from fewstep_audio.pipelines.tiny import tiny_pipeline

_Load: TypeAlias = Callable[[], AudioTeacher]

UNHEARD = 0.1
"""Share of prompts that a tiny pipeline is not told while it learns, so that it can be guided."""


def build(config: PipelineConfig, site: Site) -> Plan:
    """Teach a tiny pipeline, or let a given one make its samples; then the student."""
    field = cache(partial(field_of, config, site))
    teacher = field()
    seconds = min(config.seconds, teacher.longest)
    told = prompts_of(config.prompts)
    distill = partial(_distill, config, site, field, told, seconds)
    distilled = {"average": "student"} if _taught(config) else {"average": "student", "teacher": "teacher"}
    return Plan(
        (
            *_before(config, site, field, told, seconds),
            *student_stages(
                config.objective,
                teacher.denoiser.process,
                teacher.times(config.steps),
                distill,
                config.updates,
                distilled,
                **_recorded(config),
            ),
        ),
        pipeline_product(config, field, told, seconds),
    )


def _taught(config: PipelineConfig) -> bool:
    return config.teacher.kind == "train"


def _made(config: PipelineConfig) -> bool:
    """Whether the teacher makes what is learned from."""
    return not _taught(config) and config.recordings is None


def _recorded(config: PipelineConfig) -> dict[str, None]:
    """Pairs that were made at one scale are not made again by an objective that learns from pairs at that scale."""
    reads = _made(config) and config.objective.kind == "ode-pairs" and config.scales[1] is None
    return {"online": None} if reads else {}


def field_of(config: PipelineConfig, site: Site) -> AudioTeacher:
    """The teacher with its encoders and decoders.

    Raises:
        FewstepError: what is given is none.
    """
    if config.teacher.kind == "import":
        found: Any = attribute(str(config.teacher.target), "teacher.target")()
        if isinstance(found, AudioTeacher):
            return found
        raise FewstepError(
            f"{config.teacher.target}() returned {type(found).__name__}",
            "an object with the members of fewstep_audio.pipelines.teachers.AudioTeacher",
            "give a bare denoiser of mels its vocoder with fewstep_audio.pipelines.mels.MelTeacher(denoiser, seconds)",
        )
    folder = (
        Path(str(config.teacher.path))
        if config.teacher.kind == "diffusers"
        else tiny_pipeline(config.pipeline, config.seed, site.cache / "pipelines")
    )
    return load_teacher_pipeline(folder)


def _before(
    config: PipelineConfig, site: Site, field: _Load, told: tuple[str, ...], seconds: float
) -> tuple[Stage, ...]:
    """What has to happen before a student can learn."""
    if _taught(config):
        teach = partial(_teach, config, site, field, seconds)
        return (Stage("teacher", teach, config.teacher_updates, {"average": "teacher"}),)
    if not _made(config):
        return ()

    def make(shelf: Shelf) -> MakePairs:
        teacher = field()
        source = Prompts(teacher.encode(told, seconds), len(told), teacher.shape(seconds), config.batch)
        return MakePairs(
            source,
            config.pairs,
            _ode(config),
            teacher.times(config.steps),
            site.cache / "pairs",
            teacher=_guided(config, field, shelf),
            device=site.device,
        )

    return (Stage("samples", make),)


def _ode(config: PipelineConfig) -> ODE:
    return ODE(ddim, config.teacher_steps, config.guidance)


def _teach(config: PipelineConfig, site: Site, field: _Load, seconds: float, shelf: Shelf) -> Assembly:
    """The tiny pipeline's network learns to denoise tones, told their prompts nine times out of ten."""
    teacher = field()
    process = teacher.denoiser.process
    times = _natural(process)
    lr = Linear(config.teacher_lr, 0.1 * config.teacher_lr)
    return assemble(
        Denoising(times, customary, role="teacher"),
        {"teacher": lambda: deepcopy(teacher.denoiser).requires_grad_(True)},
        _sounds(config, site, teacher, seconds, UNHEARD),
        {"teacher": Optim((Group(lr=lr),), clip=1.0)},
        {"average": Average("teacher", decay=config.average)},
    )


def _natural(process: Any) -> Any:
    from fewstep.config.times import TimesConfig

    return TimesConfig().build(process)


def _distill(
    config: PipelineConfig,
    site: Site,
    field: _Load,
    told: tuple[str, ...],
    seconds: float,
    now: Round,
    shelf: Shelf,
) -> Assembly:
    """The student is the teacher's network, perhaps with guidance as an input."""
    audio = field()
    teacher = _guided(config, field, shelf) if now.before is None else shelf[now.before]
    base = bare(teacher)
    hears = config.scales[1] is not None

    def student() -> FewStep:
        net = _copied(base.net, hears)
        made = student_for(now.objective, net, base.process, base.prediction, now.times)
        made.guidance = config.guidance if "guidance" in made.accepts else None
        return made

    def fake() -> Denoiser:
        return Denoiser(_copied(base.net, False), base.process, base.prediction)

    return assemble(
        now.objective,
        {"teacher": lambda: teacher, "student": student, "fake": fake},
        _source(config, site, audio, told, seconds, shelf),
        {
            "student": Optim((Group(lr=Linear(config.lr, 0.1 * config.lr)),), clip=1.0),
            "fake": Optim((Group(lr=config.lr),), clip=1.0),
        },
        {
            "target": Average("student", decay=config.target_decay, when="before"),
            "average": Average("student", decay=config.average),
        },
    )


def _copied(net: nn.Module, hears: bool) -> nn.Module:
    """A network that may learn; one of a pipeline can be given a guidance scale to hear."""
    if isinstance(net, PipelineNetwork):
        return net.copied(told=hears)
    return deepcopy(net).requires_grad_(True)


def _guided(config: PipelineConfig, field: _Load, shelf: Shelf) -> Denoiser:
    """The trained network or the pipeline's own, under guidance; frozen."""
    audio = field()
    found = shelf.get("teacher")
    if found is None and config.teacher.kind == "checkpoint":
        found = load_teacher(config.teacher, lambda: audio.denoiser)
    base = audio.denoiser if found is None else bare(found)
    return audio.guided(base, config.guidance).requires_grad_(False).eval()


def _source(
    config: PipelineConfig,
    site: Site,
    teacher: AudioTeacher,
    told: tuple[str, ...],
    seconds: float,
    shelf: Shelf,
) -> Source:
    """Recordings, tones, or what the teacher made."""
    if not _made(config):
        return _sounds(config, site, teacher, seconds)
    times = teacher.times(config.steps)
    return Made(PairSource(shelf["pairs"], times, teacher.denoiser.process, config.guidance))


def _sounds(
    config: PipelineConfig, site: Site, teacher: AudioTeacher, seconds: float, unheard: float = 0.0
) -> Latents:
    sounds = (
        tones(config.tones, teacher.rate, seconds, Key(config.seed).at("tones"))
        if config.recordings is None
        else recorded(Path(config.recordings), teacher.rate, seconds, prompts_of(config.prompts))
    )
    x = encoded(sounds, teacher, site.cache / "latents")
    return Latents(x, teacher.encode(sounds.prompts, seconds), sounds.which, config.batch, unheard)


@dataclass(frozen=True)
class Made:
    """Pairs of a teacher, whose ends are also its clean latents."""

    pairs: PairSource

    def batch(self, index: int, key: Key) -> Batch:
        """One batch of the store."""
        found = self.pairs.batch(index, key)
        return replace(found, x=found.extra["target"])
