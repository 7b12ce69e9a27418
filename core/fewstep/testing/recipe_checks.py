"""Laws of a recipe: it can be set, built, trained for one step per stage, measured, written and shown."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fewstep.engine import execute
from fewstep.plugins.loader import registry
from fewstep.protocol import (
    Assembly,
    Batch,
    Denoiser,
    Drawn,
    Key,
    Plan,
    Shelf,
    Stage,
    Student,
    rows,
    tensors,
    tree_map,
)
from fewstep.runs.evaluation import evaluate
from fewstep.runs.setup import prepare
from fewstep.testing.checks import Check, finite, named
from fewstep.testing.components import (
    check_denoiser,
    check_metric,
    check_process,
    check_source,
    check_student,
)
from fewstep.testing.objectives import check_objective

KEY = Key(20_240_229)
EXTERNAL = re.compile(
    r"""(?:src|href)\s*=\s*["']?(?:https?:)?//|url\(\s*["']?(?:https?:)?//|\bfetch\(|XMLHttpRequest"""
)
"""What would leave the page."""


@dataclass
class Rehearsal:
    """A recipe carried through with one training step per stage, at its smoke settings."""

    plan: Plan
    assemblies: dict[str, Assembly] = field(default_factory=dict)
    shelf: Shelf = field(default_factory=dict)


def check_recipe(name: str) -> Iterator[Check]:
    """All laws of one recipe. Building it is the first; the rest need it and share one rehearsal."""
    done: list[Rehearsal] = []

    def rehearsed() -> Rehearsal:
        assert done, "the recipe could not be carried through; see the first failing law"
        return done[0]

    yield Check("settings_are_documented", lambda: _documented(name))
    yield Check("a_gate_with_a_control_exists", lambda: _gated(name))
    yield Check("every_profile_is_valid", lambda: _profiles(name))
    yield Check("one_step_of_every_stage_runs", lambda: done.append(rehearse_recipe(name)))
    yield Check("sources_obey_their_laws", lambda: _each(_source_checks(rehearsed())))
    yield Check("processes_and_denoisers_obey_their_laws", lambda: _each(_network_checks(rehearsed())))
    yield Check("students_obey_their_laws", lambda: _each(_student_checks(rehearsed())))
    yield Check("objectives_obey_their_laws", lambda: _each(_objective_checks(rehearsed())))
    yield Check("metrics_prefer_the_truth", lambda: _each(_metric_checks(rehearsed())))
    yield Check("contenders_are_measured_written_and_shown", lambda: _shown(rehearsed()))
    yield Check("requests_have_defaults", lambda: _requested(rehearsed()))


def rehearse_recipe(name: str) -> Rehearsal:
    """Build the recipe's smoke profile (or its defaults) and run one step of every stage."""
    setup = prepare(name, profile=_profile(name), device="cpu")
    plan = setup.plan()
    found = Rehearsal(plan)
    short = replace(plan, stages=tuple(_short(stage, found) for stage in plan.stages))
    found.shelf = execute(short, setup.site)
    return found


def _short(stage: Stage, found: Rehearsal) -> Stage:
    def build(shelf: Shelf) -> Any:
        made = stage.build(shelf)
        if isinstance(made, Assembly):
            found.assemblies[stage.name] = made
        return made

    return replace(stage, build=build, steps=min(stage.steps, 1))


def _profile(name: str) -> str:
    return "smoke" if "smoke" in registry().recipe(name).spec.presets else ""


def _documented(name: str) -> None:
    model = registry().recipe(name).config_class()
    bare = [field for field, info in model.model_fields.items() if not info.description]
    assert not bare, f"settings without a description: {', '.join(bare)}"


def _gated(name: str) -> None:
    gates = registry().recipe(name).spec.gates
    assert gates, "a recipe without a gate that can fail is not done: give RecipeSpec.gates"


def _profiles(name: str) -> None:
    for profile in ("", *registry().recipe(name).spec.presets):
        prepare(name, profile=profile, device="cpu")


def _each(checks: Iterator[Check]) -> None:
    """Run inner laws and name all that are broken."""
    broken = []
    for check in checks:
        try:
            check.run()
        except Exception as error:  # noqa: BLE001 - foreign code may raise anything; it is a finding
            broken.append(f"{check.name}: {error or type(error).__name__}")
    assert not broken, "\n".join(broken)


def _source_checks(found: Rehearsal) -> Iterator[Check]:
    for stage, assembly in found.assemblies.items():
        yield from named(stage, check_source(assembly.source))


def _network_checks(found: Rehearsal) -> Iterator[Check]:
    for stage, assembly in found.assemblies.items():
        batch = assembly.source.batch(0, KEY)
        if batch.x is None:
            continue
        for role, module in assembly.roles.items():
            if isinstance(module, Denoiser):
                yield from named(f"{stage}/{role}", check_process(module.process, batch))
                yield from named(f"{stage}/{role}", check_denoiser(module, batch))


def _student_checks(found: Rehearsal) -> Iterator[Check]:
    for stage, assembly in found.assemblies.items():
        for role, module in assembly.roles.items():
            if isinstance(module, Student) and role in assembly.optimizers:
                module.requires_grad_(True)
                yield from named(f"{stage}/{role}", check_student(module, assembly.source.batch(0, KEY)))


def _objective_checks(found: Rehearsal) -> Iterator[Check]:
    for stage, assembly in found.assemblies.items():
        roles: dict[str, nn.Module] = dict(assembly.roles)
        yield from named(stage, check_objective(assembly.objective, roles, assembly.source.batch(0, KEY)))


def _metric_checks(found: Rehearsal) -> Iterator[Check]:
    product = found.plan.product
    batch = product.evaluation(min(product.samples, 16), KEY.at("evaluation"))
    if batch.x is None:
        return
    for metric in product.metrics:
        yield from named(metric.name, check_metric(metric, batch, *_worse(batch)))


def _worse(batch: Batch) -> tuple[Any, ...]:
    """Truth with as much noise as signal (ids shuffled), truth of which all rows are one, truth that left all bounds."""
    return tuple(_spoilt(batch, how) for how in (_noisy, _alike, _huge))


def _noisy(leaf: torch.Tensor) -> torch.Tensor:
    if not leaf.is_floating_point():
        return leaf[..., KEY.permutation(leaf.shape[-1])]
    return leaf + KEY.normal(leaf) * leaf.std()


def _alike(leaf: torch.Tensor) -> torch.Tensor:
    return (leaf[:1] if leaf.is_floating_point() else leaf.flatten()[:1]).expand_as(leaf)


def _huge(leaf: torch.Tensor) -> torch.Tensor:
    return 1e4 * leaf if leaf.is_floating_point() else leaf.roll(1, -1)


def _spoilt(batch: Batch, how: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    def spoil(leaf: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        worse = how(leaf)
        if mask is None or leaf.ndim != mask.ndim or not leaf.is_floating_point():
            return worse
        return worse * mask

    if isinstance(batch.mask, Mapping):
        return {name: spoil(leaf, batch.mask.get(name)) for name, leaf in batch.x.items()}
    return tree_map(lambda leaf: spoil(leaf, batch.mask), batch.x)


def _shown(found: Rehearsal) -> None:
    product = replace(found.plan.product, samples=min(found.plan.product.samples, 8))
    evaluation = evaluate(product, found.shelf, KEY.at("evaluate"))
    for name, drawn in evaluation.drawn.items():
        assert finite(drawn.x), f"contender {name!r} drew something that is not finite"
        assert rows(drawn.x) > 0, f"contender {name!r} drew nothing"
    with tempfile.TemporaryDirectory() as folder:
        one: Drawn = next(iter(evaluation.drawn.values()))
        files = product.write(one.x, one.batch, Path(folder) / "files")
        assert files, "no native file was written"
        assert all(Path(file).stat().st_size > 0 for file in files), "a native file is empty"
    for panel in product.panels:
        leaving = EXTERNAL.search(panel.render(evaluation.drawn))
        assert leaving is None, f"panel {panel.title!r} reaches outside of the page: {leaving and leaving[0]}"


def _requested(found: Rehearsal) -> None:
    product = found.plan.product
    for count in (1, 2):
        batch = product.request(product.options(), count, KEY.at("request"))
        assert rows(batch.like) == count, f"asked for {count} samples, the batch has {rows(batch.like)} rows"
        assert tensors(batch.like), "a request needs a state to imitate"
