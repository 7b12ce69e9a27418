"""CA backbones in a few network calls: a flow-matching teacher on real fragments, distilled by score identity.

Zhou et al. 2024 (score identity distillation) as applied to Proteina's backbones by Xie et al. 2025: no data in the
distillation, a multistep student whose every prefix is judged, log-uniform judging times. Our fake is told which step
made a sample: without that, a fake that cannot represent the mixture of all steps has wrong fixed points (the control
``fake=shared`` of ``protein/rouse`` shows them in closed form).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from fewstep.config import given_stage
from fewstep.config.objectives import Round, student_stages
from fewstep.engine import assemble
from fewstep.objectives import Denoising
from fewstep.objectives.weights import edm
from fewstep.processes import Gaussian, LogitNormal, flow
from fewstep.protocol import (
    Assembly,
    Average,
    Batch,
    Centered,
    Denoiser,
    Group,
    Guided,
    Key,
    Linear,
    Optim,
    Plan,
    Portable,
    Product,
    Ramp,
    Sampler,
    Shelf,
    Site,
    Source,
    Stage,
)
from fewstep.runs.tracing import traced
from fewstep.samplers import (
    FewStep,
    Sde,
    ddim,
    is_flow_map,
    one_call_sampler,
    solver_sampler,
    student_for,
)
from fewstep_protein.designs.campaign import backbone_campaign
from fewstep_protein.designs.request import options, request
from fewstep_protein.metrics.backbones import backbone_metrics
from fewstep_protein.networks.choice import beside, network
from fewstep_protein.panels.asides import asides
from fewstep_protein.panels.backbones import backbone_panels
from fewstep_protein.sampling.roll import roll_sampler, roll_times, undistilled
from fewstep_protein.sampling.sde import FlowSde, log_grid
from fewstep_protein.sid_backbone.conditioning import PartlyTold, Until, asked_for, unlabelled
from fewstep_protein.sid_backbone.config import BackboneConfig
from fewstep_protein.sid_backbone.parity import to_teacher
from fewstep_protein.sid_backbone.restarts import Renewed, WarmRestarts
from fewstep_protein.structures import files
from fewstep_protein.structures.geometry import chain_size
from fewstep_protein.structures.segments import split, vocabulary
from fewstep_protein.structures.sources import Lengths, Windows
from fewstep_protein.teachers.loading import given_early, given_teacher
from fewstep_protein.teachers.proteina import read_folds
from fewstep_protein.teachers.training import taught, turned

T_MIN = 0.005
"""Cleanest flow time: noise of 0.05 angstrom, half of what the last step of a student begins with."""


def build(config: BackboneConfig, site: Site) -> Plan:
    """Teacher, student, and what is measured and written."""
    given = given_teacher(
        config.teacher,
        config.teacher_output,
        config.teacher_unit,
        make_process(config),
        partial(make_teacher, config),
        partial(evaluation, config, 8, site.key.at("trial")),
        read_folds(config.teacher_labels, vocabulary(config.data.path).levels),
    )
    if given is None:
        left = {"teacher_ema": "teacher", "early": "early"}
        teach = Stage("teacher", partial(_teach, config), config.teacher_updates, left)
    else:
        make = partial(make_teacher, config)
        early = {"early": given_early(config.teacher, make)} if config.autoguidance else {}
        teach = given_stage(given, **early)
    distill = student_stages(
        config.objective,
        make_process(config),
        roll_times(config.steps, config.finest),
        partial(_distill, config),
        config.updates,
        {"student_ema": "student"},
    )
    return Plan((teach, *distill), product(config))


def make_process(config: BackboneConfig) -> Gaussian:
    """Rectified flow on centered chains; times are spaced evenly in about the logarithm of the noise."""
    sigma_data = chain_size(config.shortest, config.longest)
    return replace(flow(t_min=T_MIN, sigma_data=sigma_data, geometry=Centered()), rho=7.0)


def make_teacher(config: BackboneConfig) -> Denoiser:
    """A fresh teacher."""
    process = make_process(config)
    net = network(config.network, process.sigma_data, labels=label_counts(config), teaches=True)
    return Denoiser(net, process, "edm")


def label_counts(config: BackboneConfig) -> tuple[int, ...]:
    """Classes, architectures and topologies that the chains know."""
    return tuple(len(level) for level in vocabulary(config.data.path).levels)


def guided(config: BackboneConfig, teacher: Denoiser, shelf: Shelf) -> Denoiser:
    """The teacher as a student asks it: a guidance scale moves it away from an early or an unlabelled self."""
    return Guided(teacher, 1.0, unlabelled, weak=shelf.get("early"), share=config.autoguidance)


def make_student(config: BackboneConfig, now: Round, teacher: Denoiser) -> FewStep:
    """A student that takes its first weights from the teacher."""
    process = make_process(config)
    lands = is_flow_map(now.objective)
    net = beside(teacher.net, config.network, process.sigma_data, lands=lands, labels=label_counts(config))
    return student_for(now.objective, net, process, teacher.prediction, now.times, pick="random")


def make_fake(config: BackboneConfig, teacher: Denoiser) -> Denoiser:
    """The teacher's network, told the step unless the fake is shared by all steps."""
    process = make_process(config)
    told = config.fake == "per-step"
    net = beside(
        teacher.net, config.network, process.sigma_data, reads_index=told, labels=label_counts(config)
    )
    return Denoiser(net, process, teacher.prediction)


def _teach(config: BackboneConfig, shelf: Shelf) -> Assembly:
    """Denoising of real fragments."""
    objective = taught(Denoising(LogitNormal(-1.4, 1.3, T_MIN, 1.0), edm, role="teacher"), config.network)
    falling = Linear(config.teacher_rate, 0.05 * config.teacher_rate)
    return assemble(
        objective,
        {"teacher": partial(make_teacher, config)},
        turned(_windows(config, config.teacher_batch), config.network),
        {"teacher": Optim((Group(lr=falling),), clip=1.0)},
        {
            "teacher_ema": Average("teacher", decay=0.995),
            "early": Average("teacher", decay=Until(config.early)),
        },
    )


def _distill(config: BackboneConfig, now: Round, shelf: Shelf) -> Assembly:
    """The configured objective on chains of random length; no data unless the objective reads it."""
    teacher: Any = shelf[now.before or "teacher"]
    make: dict[str, Callable[[], nn.Module]] = {
        # A student that teaches the next round has taken its guidance in already.
        "teacher": lambda: teacher if now.before else guided(config, teacher, shelf),
        "student": partial(make_student, config, now, teacher),
        "fake": partial(make_fake, config, teacher),
    }
    objective = (
        now.objective if config.fake_reset is None else Renewed(now.objective, "fake", config.fake_reset)
    )
    return assemble(
        objective,
        make,
        _requests(config, now.objective.reads),
        {"student": _adam(_student_rate(config), 0.9), "fake": _adam(_fake_rate(config), 0.0)},
        {
            "student_ema": Average("student", decay=0.97),
            "target": Average("student", decay=0.95, when="before"),
        },
    )


def _adam(rate: Ramp | float, momentum: float) -> Optim:
    """Adam as in the distilled Proteina: no momentum for the fake, which chases a moving law."""
    return Optim((Group(lr=rate),), "torch.optim:Adam", {"betas": (momentum, 0.999)}, clip=1.0)


def _student_rate(config: BackboneConfig) -> Ramp:
    if config.restarts is None:
        return Linear(config.rate, 0.1 * config.rate)
    return WarmRestarts(config.rate, 0.01 * config.rate, config.restarts, config.fake_reset)


def _fake_rate(config: BackboneConfig) -> Ramp | float:
    if config.restarts is None:
        return config.fake_rate
    return WarmRestarts(config.fake_rate, 0.01 * config.fake_rate, config.restarts)


def _windows(config: BackboneConfig, size: int) -> Source:
    """Real chains, partly told what they are."""
    shown = Windows(
        split(held_out=False, path=config.data.path), size, config.shortest, config.longest, labels=True
    )
    return PartlyTold(shown)


def _requests(config: BackboneConfig, reads: frozenset[str]) -> Source:
    """Lengths and labels; data only for an objective that asks for it."""
    if "x" in reads:
        return _windows(config, config.batch)
    chains = split(held_out=False, path=config.data.path)
    return PartlyTold(Lengths(config.batch, config.shortest, config.longest, labelled=chains))


def product(config: BackboneConfig) -> Product:
    """Student against teacher, and the teacher at the student's number of calls in two ways as controls."""
    student = roll_sampler("student", config.finest)
    teacher = many_steps(config)
    ode = solver_sampler("teacher", ddim, max(1, config.steps - 1))
    measured = backbone_metrics([s.coordinates for s in split(held_out=False, path=config.data.path)])
    metrics = (*measured, *to_teacher(measured))
    return Product(
        student="student",
        contenders={
            "student": student,
            "teacher": teacher,
            "teacher_fewstep": undistilled("teacher", config.steps, config.finest),
            "teacher_ode": ode,
            "teacher_one_call": one_call_sampler("teacher"),
            "asked_alpha": asked_for(student, vocabulary(config.data.path).indices("1")),
            "asked_beta": asked_for(student, vocabulary(config.data.path).indices("2")),
        },
        evaluation=partial(evaluation, config),
        request=request,
        options=options(config.shortest, config.longest, config.data.path),
        write=files.write_chains,
        metrics=metrics,
        panels=backbone_panels(metrics),
        asides=asides(student, ode, config.steps, config.teacher_steps) if config.curves else {},
        samples=config.samples,
        portable=partial(portable, config),
        campaign=backbone_campaign(config.teacher.path or config.teacher.target or "trained in this run"),
    )


def portable(config: BackboneConfig, shelf: Shelf, key: Key) -> Portable:
    """The student as a graph for any number of chains of any length: it is traced with chains of two widths."""

    def shown(number: int, key: Key) -> Batch:
        return evaluation(config.model_copy(update={"longest": config.shortest + number}), number, key)

    return traced(replace(product(config), evaluation=shown), shelf, key)


def many_steps(config: BackboneConfig) -> Sampler:
    """The teacher as it is meant to be used."""
    steps = config.teacher_steps - 1
    if config.teacher_solver == "proteina":
        return solver_sampler("teacher", FlowSde(config.teacher_gamma), steps, log_grid)
    return solver_sampler("teacher", ddim if config.teacher_solver == "ode" else Sde(), steps)


def evaluation(config: BackboneConfig, number: int, key: Key) -> Batch:
    """Held-out real windows: their lengths are asked for, their coordinates are the truth.

    Lengths end where held-out chains do: those that are shipped have at most 146 residues.
    """
    known = split(held_out=True, path=config.data.path)
    longest = min(config.longest, max(len(s.coordinates) for s in known))
    source = Windows(known, number, config.shortest, longest, longest - config.shortest)
    return source.batch(0, key)
