"""``3d/sds``: a scene from a prior that knows what the object looks like from every side.

The prior is trained (or exact), then a radiance grid is moved so that all its renders please the prior. The scene is
the student; it needs no network call to be looked at. The control is the same distillation with the prior told a wrong
camera: it sees everything that the student sees, except where it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.config import Settings, load_teacher, setting
from fewstep.engine import assemble
from fewstep.objectives import Denoising
from fewstep.processes import Gaussian, Uniform, vp
from fewstep.protocol import (
    Assembly,
    Average,
    Batch,
    Denoiser,
    Group,
    Key,
    Linear,
    Objective,
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
from fewstep.samplers import ddim, solver_sampler
from fewstep_3d.cameras import Orbit, held_out_angles, random_angles, ring, training_angles
from fewstep_3d.data import CameraSource, ViewSource
from fewstep_3d.field import RadianceGrid, camera_cond, with_scene
from fewstep_3d.files import write_scene
from fewstep_3d.mesh import BUNNY, true_views
from fewstep_3d.metrics import fidelity, overlap
from fewstep_3d.panels import scene_panel
from fewstep_3d.priors import ExactPrior, MisledPrior, PriorNetwork
from fewstep_3d.sds.config import SDSConfig


class SceneOptions(Settings):
    """What ``fewstep sample`` may ask of a scene."""

    elevation: float = setting(15.0, "height of the cameras", unit="degrees", ge=-89, le=89)
    azimuth: float = setting(0.0, "where the first camera stands", unit="degrees", ge=-360, le=360)


def build(config: SDSConfig, site: Site) -> Plan:
    """Prior, scene, misled control."""
    process, orbit = vp(), Orbit()
    views = partial(
        true_views,
        Path(config.mesh) if config.mesh else BUNNY,
        size=config.size,
        orbit=orbit,
        folder=site.cache,
    )
    prior = partial(_prior, config, process, views)
    stages = [
        Stage("scene", lambda shelf: _distill(config, process, orbit, prior, shelf), config.steps, _LEFT),
        Stage(
            "control",
            lambda shelf: _distill(config, process, orbit, lambda _: MisledPrior(shelf["teacher"]), shelf),
            config.steps,
            {"student": "misled"},
        ),
    ]
    if config.prior == "learned" and config.teacher.kind == "train":
        stages.insert(
            0,
            Stage(
                "prior",
                lambda _: _teach(config, process, views, site),
                config.teacher_steps,
                {"average": "teacher"},
            ),
        )
    return Plan(tuple(stages), _product(config, orbit, views))


_LEFT = {"student": "student", "teacher": "teacher"}


def _teach(
    config: SDSConfig, process: Gaussian, views: partial[Tensor], site: Site, shelf: Shelf
) -> Assembly:
    """The prior learns to denoise random views, told their cameras."""
    angles = random_angles(config.teacher_views, site.key.at("prior views"))
    return assemble(
        Denoising(Uniform(process.t_min, process.t_max), role="teacher"),
        {"teacher": partial(_network, config, process)},
        ViewSource(views(angles), angles, config.teacher_batch),
        {"teacher": Optim((Group(lr=Linear(config.teacher_lr, 0.0)),), clip=1.0)},
        {"average": Average("teacher", decay=0.98)},
    )


def _distill(
    config: SDSConfig, process: Gaussian, orbit: Orbit, prior: Callable[[Shelf], nn.Module], shelf: Shelf
) -> Assembly:
    """The scene learns from the prior; a fake, if the objective wants one, is another small network."""
    table = training_angles() if config.prior == "exact" else None
    return assemble(
        _objective(config, process),
        {
            "teacher": lambda: prior(shelf),
            "student": lambda: RadianceGrid(config.side, config.size, orbit),
            "fake": partial(_network, config, process),
        },
        CameraSource(config.cameras, config.size, table),
        {
            "student": Optim((Group(lr=config.lr),), "torch.optim:Adam"),
            "fake": Optim((Group(lr=config.teacher_lr),)),
        },
    )


def _objective(config: SDSConfig, process: Gaussian) -> Objective:
    """The configured objective; a kind that knows no penalties is left for the engine to refuse with its reason."""
    objective: Any = config.objective.build(process)
    if not hasattr(objective, "penalties"):
        return objective
    return replace(objective, penalties={"total_variation": config.smoothness})


def _prior(config: SDSConfig, process: Gaussian, views: partial[Tensor], shelf: Shelf) -> nn.Module:
    """The trained prior from the shelf, a given one, or the exact one over training and held-out cameras."""
    if "teacher" in shelf:
        return shelf["teacher"]
    if config.prior == "exact":
        known = views(torch.cat([training_angles(), held_out_angles()]))
        return Denoiser(ExactPrior(process, known), process, "x0")
    given = load_teacher(config.teacher, partial(_network, config, process))
    if given is None:
        raise ValueError("the learned prior was neither trained nor given; this is a defect of the recipe")
    return given


def _network(config: SDSConfig, process: Gaussian) -> Denoiser:
    return Denoiser(PriorNetwork(config.teacher_width), process, "v")


def _product(config: SDSConfig, orbit: Orbit, views: partial[Tensor]) -> Product:
    held_out = held_out_angles()
    numbers = torch.arange(len(held_out)) + len(training_angles())

    def evaluation(count: int, key: Key) -> Batch:
        chosen = slice(0, min(count, len(held_out)))
        truth = views(held_out)[chosen]
        return Batch(truth, {"image": truth}, camera_cond(held_out[chosen], numbers[chosen]))

    def request(options: SceneOptions, count: int, key: Key) -> Batch:
        angles = ring(count, options.elevation, options.azimuth)
        return Batch(torch.zeros(1).expand(count, 3, config.size, config.size), cond=camera_cond(angles))

    return Product(
        student="student",
        contenders={
            "teacher": _images_of(solver_sampler("teacher", ddim, 20)),
            "student": _scene_sampler("student"),
            "misled": _scene_sampler("misled"),
        },
        evaluation=evaluation,
        request=request,
        options=SceneOptions,
        write=partial(write_scene, orbit=orbit),
        metrics=(fidelity(), overlap()),
        panels=(scene_panel(orbit),),
        samples=len(held_out),
    )


def _scene_sampler(role: str) -> Sampler:
    """A scene looked at from the batch's cameras."""

    def draw(roles: Roles, batch: Batch, step: Step) -> Iterator[State]:
        scene = roles[role]
        images = scene.sample(batch, step).x
        yield State(with_scene(images, scene), torch.zeros(len(images), dtype=torch.float64))

    return Sampler(draw, (role,))


def _images_of(sampler: Sampler) -> Sampler:
    """The same sampler with its states in the form of this product: a mapping with an image."""

    def draw(roles: Roles, batch: Batch, step: Step) -> Iterator[State]:
        for state in sampler.fn(roles, batch, step):
            yield State({"image": state.x}, state.t)

    return Sampler(draw, sampler.roles)
