"""Laws of a plugin: light to import, honest about its names and needs; then the laws of each of its recipes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from fewstep.plugins.loader import registry
from fewstep.plugins.registry import Plugin
from fewstep.plugins.specs import resolve
from fewstep.testing.checks import Check, named
from fewstep.testing.recipe_checks import check_recipe

HEAVY = ("torch", "numpy", "scipy", "sklearn")
"""Libraries that an entry module has no business with."""


def check_plugin(name: str) -> Iterator[Check]:
    """All laws of an installed plugin and of its ready recipes."""
    plugin = registry().plugin(name)
    yield Check("the_plugin_loads", partial(_loads, plugin))
    yield Check("the_entry_module_is_light", partial(_light, plugin))
    yield Check("something_is_offered", partial(_offers, plugin))
    yield Check("every_name_of_code_resolves", partial(_resolves, plugin))
    for recipe in registry().recipes:
        if recipe.plugin.name == name and recipe.readiness.ready:
            yield from named(recipe.name, check_recipe(recipe.name))


def _loads(plugin: Plugin) -> None:
    assert plugin.status == "loaded", f"{plugin.status}: {plugin.reason}"
    assert not plugin.printed, f"it prints while it is loaded: {plugin.printed[0]!r}"


def _light(plugin: Plugin) -> None:
    code = (
        "import sys; from fewstep.plugins.loader import registry; "
        f"registry().plugin({plugin.name!r}); print(*[m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert not done.stdout.strip(), (
        f"listing the plugin imports {done.stdout.strip()}; name code as 'module:attr' instead"
    )


def _offers(plugin: Plugin) -> None:
    assert plugin.recipes or plugin.components or plugin.commands, (
        "no recipe, component or command is offered"
    )


def _resolves(plugin: Plugin) -> None:
    if not plugin.readiness().ready:
        return
    targets = [t for spec in plugin.recipes for t in (spec.config, spec.build)]
    targets += [part.target for part in plugin.components] + [part.target for part in plugin.commands]
    broken = [f"{target}: {_trouble(target)}" for target in targets if _trouble(target)]
    assert not broken, "\n".join(broken)


def _trouble(target: str) -> str:
    try:
        resolve(target)
    except (ImportError, AttributeError, ValueError) as error:
        return str(error)
    return ""
