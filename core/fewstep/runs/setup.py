"""From a recipe's name and settings to something that can be run: everything that can fail early, fails here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fewstep.config import RecipeConfig, Resolved, check_teacher, resolve
from fewstep.config.load import restore
from fewstep.engine import check
from fewstep.errors import FewstepError, nearest
from fewstep.plugins.loader import registry
from fewstep.plugins.registry import Recipe
from fewstep.plugins.specs import Gate
from fewstep.protocol import Assembly, Key, Plan, Site
from fewstep.runs.evaluation import check_gates
from fewstep.runs.folder import RunFolder
from fewstep.runs.group import local_rank

DEFAULT = "default"


@dataclass(frozen=True)
class Setup:
    """A recipe with its settings, on a device.

    Args:
        recipe: ready to use.
        profile: the preset that was asked for.
        resolved: the configuration and its origins.
        device: such as "cpu" or "cuda".
    """

    recipe: Recipe
    profile: str
    resolved: Resolved[Any]
    device: str

    @property
    def site(self) -> Site:
        """Where the plan is built."""
        key = Key(self.resolved.config.seed)
        return Site(key, _cache() / self.recipe.plugin.name, self.device, self.profile)

    @property
    def gates(self) -> tuple[Gate, ...]:
        """The gates that hold in this profile."""
        return self.recipe.spec.gates_of(self.profile)

    def plan(self) -> Plan:
        """Build the plan and find gates that nobody can answer.

        Raises:
            FewstepError: what the recipe says, or a gate without its metric or contender.
        """
        plan = self.recipe.builder()(self.resolved.config, self.site)
        check_gates(plan.product, self.gates)
        return plan


def prepare(
    recipe: str,
    *,
    profile: str = "",
    file: Path | None = None,
    sets: Sequence[str] = (),
    arguments: Mapping[str, Any] | None = None,
    device: str = "",
) -> Setup:
    """Find a recipe and settle its settings.

    Args:
        recipe: "<plugin>/<recipe>".
        profile: one of its presets; the defaults if empty.
        file: YAML settings.
        sets: ``a.b=value`` entries.
        arguments: settings given in Python.
        device: where it runs; an accelerator if there is one, when empty.

    Raises:
        FewstepError: unknown recipe or profile, missing packages, wrong settings, an absent or damaged teacher.
    """
    found = registry().recipe(recipe).require()
    preset = preset_of(found, profile)
    model: type[RecipeConfig] = found.config_class()
    resolved = resolve(
        model, preset=preset, profile=profile or DEFAULT, file=file, sets=sets, arguments=arguments
    )
    check_teacher(resolved.config.teacher)
    return Setup(found, profile or DEFAULT, resolved, _device(device))


def reopen(folder: RunFolder, device: str = "") -> Setup:
    """The setup that a run folder was made with.

    Raises:
        FewstepError: its recipe is not installed any more, or its settings do not fit the installed one.
    """
    facts = folder.facts
    found = registry().recipe(str(facts.get("recipe"))).require()
    resolved = restore(
        found.config_class(), folder.path / "config.yaml", folder.read_json("config.origin.json")
    )
    return Setup(found, str(facts.get("profile", DEFAULT)), resolved, _device(device))


def rehearse(plan: Plan, site: Site, done: Sequence[str] = ()) -> None:
    """Put every stage together with untrained modules, so that what does not fit is told before anything is trained.

    A task's result cannot be foreseen, so the rehearsal ends at the first task.

    Raises:
        AssemblyError: as training would, hours later.
    """
    if len([stage for stage in plan.stages if stage.name not in done]) < 2:
        return
    shelf: dict[str, Any] = {}
    for stage in plan.stages:
        key = site.key.at(stage.name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key.seed64())
            built = stage.build(shelf)
        if not isinstance(built, Assembly):
            return
        roles = dict(built.roles)
        for name, changes in built.surgery.items():
            for change in changes:
                roles[name] = change.apply(roles[name])
        check(stage, replace(built, roles=roles), key)
        shelf |= {name: roles[role].requires_grad_(False).eval() for role, name in stage.leaves.items()}


def roles_of(config: RecipeConfig) -> list[str]:
    """Who takes part in the objective that a configuration names, one line each; empty without such a setting.

    Which roles there are does not depend on the process, so any process serves to ask.
    """
    from fewstep.processes import edm

    objective = getattr(config, "objective", None)
    if objective is None:
        return []
    lines = []
    for name, role in objective.build(edm()).roles.items():
        words = ["learns" if role.trainable else "frozen"]
        words += [f"begins as a copy of {role.init}"] if role.init else []
        words += [f"returns to it every {role.reset_every} cycles"] if role.reset_every else []
        words += ["optional"] if role.optional else []
        lines.append(f"{name}: {', '.join(words)}")
    return lines


def preset_of(recipe: Recipe, profile: str) -> Mapping[str, Any]:
    """The overrides of a profile; none for the default one, unless the recipe has a preset of that name.

    Raises:
        FewstepError: no such profile; the nearest one is offered.
    """
    presets = recipe.spec.presets
    if profile and profile != DEFAULT and profile not in presets:
        raise FewstepError(
            f"recipe {recipe.name!r} has no profile {profile!r}{nearest(profile, presets)}",
            f"one of {', '.join([DEFAULT, *presets])}",
            f"fewstep show {recipe.name}",
        )
    return presets.get(profile or DEFAULT, {})


def _device(asked: str) -> str:
    if not asked:
        return f"cuda:{local_rank()}" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(asked).type
    except RuntimeError:
        kind = ""
    if kind not in ("cpu", "cuda"):
        raise FewstepError(f"no device {asked!r}", "cpu, cuda or cuda:1", "correct --device")
    if kind == "cuda" and not torch.cuda.is_available():
        raise FewstepError("--device cuda, but torch sees no accelerator", "", "leave --device out")
    return asked


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "fewstep"
