"""``audio/style-diffusion``: zero-shot speech whose style is sampled in one network call.

Only a short code of fixed length is random: how a text is said, and by whom. It is sampled by diffusion, told text and
prompt; everything after it is decoded by networks that were trained before and are frozen. The student repeats what the
teacher's guided ODE makes of a noise, seen through those decoders, and takes the guidance as an input
(Li et al. 2024 StyleTTS-ZS). The control is the teacher forced to one call: near its mean over all ways to
say a text, so that noises speak too much alike.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from fewstep.config import load_teacher
from fewstep.config.objectives import Round, student_stages
from fewstep.engine import MakePairs, PairSource, assemble
from fewstep.errors import FewstepError
from fewstep.objectives import Denoising
from fewstep.objectives.weights import edm as v_weight
from fewstep.processes import Gaussian, Uniform, cosine
from fewstep.protocol import (
    Assembly,
    Average,
    Denoiser,
    Group,
    Guided,
    Linear,
    Optim,
    Plan,
    Product,
    Sampler,
    Shelf,
    Site,
    Source,
    Stage,
)
from fewstep.samplers import (
    FewStep,
    ddim,
    is_flow_map,
    one_call_sampler,
    rule_for,
    solver_sampler,
    student_sampler,
    student_times,
)
from fewstep_audio.sound.mel import MelContract
from fewstep_audio.sound.vocoder import GriffinLim
from fewstep_audio.style_diffusion.autoencoder import Perception, Sizes, StyleAutoencoder
from fewstep_audio.style_diffusion.config import StyleDiffusionConfig
from fewstep_audio.style_diffusion.corpus import Cast, Takes, load_takes
from fewstep_audio.style_diffusion.fit import AutoencoderFit, CodeSource, Tables, TakeSource
from fewstep_audio.style_diffusion.network import StyleNetwork, unprompted
from fewstep_audio.style_diffusion.product import Prompting, speaking, style_product

CROP = 64
"""Frames of the crops that decoder and speaker encoder learn from; three quarters of a second."""

SCALES = (0.0, 2.0)
"""Guidance scales of the contenders that show what the knob does."""


def build(config: StyleDiffusionConfig, site: Site) -> Plan:
    """Decoders, teacher, pairs where they are recorded, student."""
    process = cosine()
    takes: Callable[[], Takes] = cache(partial(load_takes, _cast(config), MelContract(), site.cache))
    tables: Callable[[], Tables] = cache(lambda: Tables.of(takes().training))
    times = student_times(process, config.steps)
    decoders = Stage(
        "decoders",
        partial(_decoders, config, takes, tables),
        config.decoder_updates,
        {"autoencoder": "autoencoder"},
    )
    taught = Stage(
        "teacher", partial(_teach, config, process, tables), config.teacher_updates, {"average": "teacher"}
    )
    given = config.teacher.kind != "train"
    leaves = {"average": "student", **({"teacher": "teacher"} if given else {})}
    recorded = config.objective.kind == "ode-pairs"
    pairs = Stage("pairs", partial(_pairs, config, process, tables, times, site))
    fixed = {"online": None} if recorded else {}
    students = student_stages(
        config.objective,
        process,
        times,
        partial(_distill, config, process, tables),
        config.updates,
        leaves,
        **fixed,
    )
    stages = (decoders, *(() if given else (taught,)), *((pairs,) if recorded else ()), *students)
    return Plan(stages, _product(config, takes, site.cache))


def _cast(config: StyleDiffusionConfig) -> Cast:
    told = config.speech
    return Cast(
        told.voices,
        told.unheard,
        told.pitch,
        told.liveliness,
        told.rate,
        told.sentences,
        told.takes,
        told.held_out,
        told.draws,
    )


def _decoders(
    config: StyleDiffusionConfig, takes: Callable[[], Takes], tables: Callable[[], Tables], shelf: Shelf
) -> Assembly:
    """Prosody autoencoder, speaker encoder and acoustic decoder, together."""
    network, codes = config.network, config.codes
    sizes = Sizes(
        MelContract().bands,
        codes.tokens,
        codes.size,
        network.channels,
        network.heads,
        network.acoustic,
        codes.quantise,
    )
    lr = Linear(config.decoder_lr, 0.05 * config.decoder_lr)
    return assemble(
        AutoencoderFit(codes.blur),
        {"autoencoder": lambda: StyleAutoencoder(sizes, takes().scale, takes().prosody)},
        TakeSource(tables(), config.decoder_batch, CROP),
        {"autoencoder": Optim((Group(lr=lr),), clip=1.0)},
    )


def _teach(
    config: StyleDiffusionConfig, process: Gaussian, tables: Callable[[], Tables], shelf: Shelf
) -> Assembly:
    """v-prediction of normalized codes; the prompt is hidden now and then, for guidance.

    1 / sigma^2 in x0 units is the squared error of v, and is the "edm" weight where sigma_data = 1.
    """
    source = CodeSource(tables(), shelf["autoencoder"], config.teacher_batch)
    times = Uniform(process.t_min, process.t_max)
    lr = Linear(config.teacher_lr, 0.05 * config.teacher_lr)
    return assemble(
        Denoising(times, v_weight, role="teacher", null=unprompted, drop=config.drop),
        {"teacher": partial(_denoiser, config, process, source)},
        source,
        {"teacher": Optim((Group(lr=lr),), clip=1.0)},
        {"average": Average("teacher", decay=config.average)},
    )


def _pairs(
    config: StyleDiffusionConfig,
    process: Gaussian,
    tables: Callable[[], Tables],
    times: tuple[float, ...],
    site: Site,
    shelf: Shelf,
) -> MakePairs:
    """Noises, guidance scales and conditions with the ends that the guided teacher gives them."""
    source = CodeSource(tables(), shelf["autoencoder"], config.batch)
    teacher = _guided(config, _teacher(config, process, source, shelf))
    folder = site.cache / "pairs"
    return MakePairs(
        source,
        config.pairs // config.batch,
        config.objective.ode(),
        times,
        folder,
        teacher,
        device=site.device,
    )


def _distill(
    config: StyleDiffusionConfig, process: Gaussian, tables: Callable[[], Tables], now: Round, shelf: Shelf
) -> Assembly:
    """The student begins as its teacher and is told the guidance."""
    codes = CodeSource(tables(), shelf["autoencoder"], config.batch)
    teacher = _teacher(config, process, codes, shelf) if now.before is None else shelf[now.before]
    source: Source = codes
    if "pairs" in shelf:
        source = PairSource(shelf["pairs"], now.times, process, config.objective.scale())
    lr = Linear(config.lr, 0.05 * config.lr)

    def student() -> FewStep:
        net = teacher.net.copied(is_flow_map(now.objective))
        return FewStep(
            net, process, teacher.prediction, now.times, rule_for(now.objective), guidance=config.guidance
        )

    return assemble(
        now.objective,
        {
            "teacher": lambda: _guided(config, teacher) if now.before is None else teacher,
            "student": student,
            "fake": partial(_denoiser, config, process, codes),
            "decoder": lambda: Perception(shelf["autoencoder"], teacher.net.mean, teacher.net.std),
        },
        source,
        {role: Optim((Group(lr=lr),), clip=1.0) for role in ("student", "fake")},
        {
            "target": Average("student", decay=0.95, when="before"),
            "average": Average("student", decay=config.average),
        },
    )


def _guided(config: StyleDiffusionConfig, teacher: Denoiser) -> Guided:
    return Guided(teacher, config.guidance, unprompted)


def _teacher(config: StyleDiffusionConfig, process: Gaussian, source: CodeSource, shelf: Shelf) -> Denoiser:
    """From the shelf if it was trained, else the given one.

    Raises:
        FewstepError: its network is not one of styles.
    """
    found = shelf.get("teacher") or load_teacher(config.teacher, partial(_denoiser, config, process, source))
    if not isinstance(found, Denoiser) or not isinstance(found.net, StyleNetwork):
        raise FewstepError(
            f"the teacher is {type(getattr(found, 'net', found)).__name__}",
            "a denoiser whose net is a fewstep_audio.style_diffusion.network.StyleNetwork",
            "wrap your network so that it takes phones and a prompt and carries the scale of its codes",
        )
    return found


def _denoiser(config: StyleDiffusionConfig, process: Gaussian, source: CodeSource) -> Denoiser:
    told = config.network
    net = StyleNetwork(
        config.codes.tokens + 1,
        config.codes.size,
        told.channels,
        told.blocks,
        told.heads,
        source.mean,
        source.std,
    )
    return Denoiser(net, process, "v")


def _product(config: StyleDiffusionConfig, takes: Callable[[], Takes], cache: Path) -> Product:
    knob = {f"guidance_{scale:g}": speaking(student_sampler(), scale) for scale in SCALES}
    contenders: dict[str, Sampler] = {
        "teacher": speaking(solver_sampler("teacher", ddim, config.teacher_steps)),
        "student": speaking(student_sampler()),
        "teacher_1step": speaking(one_call_sampler("teacher")),
        **knob,
    }
    return style_product(Prompting(config, takes, cache, GriffinLim()), contenders)
