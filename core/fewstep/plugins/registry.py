"""What was found: plugins with their state, and the way from a name to a recipe, a component or a command."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fewstep.errors import FewstepError, nearest
from fewstep.plugins.readiness import Readiness, readiness
from fewstep.plugins.specs import CommandSpec, ComponentSpec, RecipeSpec, Spec, resolve

Status = Literal["loaded", "disabled", "incompatible", "broken"]


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """One row of the listing, whatever its state.

    Args:
        name: prefix of everything it offers.
        distribution: normalised name of the distribution that declares it.
        version: of that distribution.
        status: only a ``"loaded"`` plugin offers anything.
        reason: why it is not loaded, in one line.
        protocol: what it speaks, when it got as far as saying so.
        hooks: names of the hooks that it implements.
        printed: what it wrote while it was loaded; nobody else saw it.
        call: hook name -> caller; missing arguments are left out as its signature wants.
    """

    name: str
    distribution: str
    version: str
    status: Status
    reason: str = ""
    protocol: tuple[int, int] | None = None
    hooks: tuple[str, ...] = ()
    printed: tuple[str, ...] = ()
    recipes: tuple[RecipeSpec, ...] = ()
    components: tuple[ComponentSpec, ...] = ()
    commands: tuple[CommandSpec, ...] = ()
    call: Mapping[str, Callable[..., Any]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def failed(self) -> bool:
        """It was meant to load and did not."""
        return self.status in ("broken", "incompatible")

    def readiness(self) -> Readiness:
        """Of all its extras together: ready when every recipe, component and command is; else the first that is not."""
        specs: tuple[Spec, ...] = (*self.recipes, *self.components, *self.commands)
        wanted = dict.fromkeys((None, *(spec.extra for spec in specs)))
        every = [readiness(self.distribution, extra) for extra in wanted]
        return next((one for one in every if not one.ready), Readiness())


@dataclass(frozen=True)
class Recipe:
    """A recipe with the plugin that brings it."""

    spec: RecipeSpec
    plugin: Plugin

    @property
    def name(self) -> str:
        """``"<plugin>/<recipe>"``."""
        return self.spec.name

    @property
    def readiness(self) -> Readiness:
        """Whether everything that it needs is installed."""
        return readiness(self.plugin.distribution, self.spec.extra)

    def require(self) -> Recipe:
        """The recipe itself when it is ready.

        Raises:
            FewstepError: something is not installed; the install line is in the message.
        """
        return _require(self, "recipe", self.name, self.readiness)

    def config_class(self) -> Any:
        """The pydantic model of its config. Imports the plugin's code."""
        return self.require()._resolve(self.spec.config)

    def builder(self) -> Callable[..., Any]:
        """``build(config, site) -> Plan``. Imports the plugin's code."""
        return self.require()._resolve(self.spec.build)

    def _resolve(self, target: str) -> Any:
        try:
            return resolve(target)
        except (ImportError, AttributeError) as error:
            raise FewstepError(
                f"recipe {self.name!r} names {target!r}, which cannot be imported: {error}",
                expected=f"that {self.plugin.distribution} {self.plugin.version} contains it",
                todo=f"report it to the authors of {self.plugin.distribution}",
            ) from error


@dataclass(frozen=True)
class Registry:
    """Everything that discovery found.

    Args:
        plugins: in the order of discovery, the broken ones among them.
        strict: whether errors of plugins are raised instead of kept (``FEWSTEP_STRICT``).
        notes: what the reader should know beside the rows, a name in ``FEWSTEP_PLUGINS`` that fits none, say.
    """

    plugins: tuple[Plugin, ...]
    strict: bool = False
    notes: tuple[str, ...] = ()

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """All recipes of loaded plugins, in order of discovery."""
        return tuple(Recipe(spec, plugin) for plugin in self.plugins for spec in plugin.recipes)

    def plugin(self, name: str) -> Plugin:
        """The plugin of that name; of several, the one that holds the name.

        Raises:
            FewstepError: no such plugin; the nearest name is offered.
        """
        for plugin in self.plugins:
            if plugin.name == name:
                return plugin
        raise self._unknown("plugin", name, (plugin.name for plugin in self.plugins))

    def recipe(self, name: str) -> Recipe:
        """The recipe of that full name.

        Raises:
            FewstepError: no such recipe; the nearest name is offered and plugins that did not load are named.
        """
        for recipe in self.recipes:
            if recipe.name == name:
                return recipe
        raise self._unknown("recipe", name, (recipe.name for recipe in self.recipes))

    def component(self, name: str, kind: str) -> Any:
        """The component of that full name and kind, imported.

        Raises:
            FewstepError: no such component, or something that it needs is not installed.
        """
        offered = {
            spec.name: (spec, plugin)
            for plugin in self.plugins
            for spec in plugin.components
            if spec.kind == kind
        }
        if name not in offered:
            raise self._unknown(kind, name, offered)
        spec, plugin = offered[name]
        return resolve(_require(spec, kind, name, readiness(plugin.distribution, spec.extra)).target)

    def _unknown(self, what: str, name: str, valid: Iterable[str]) -> FewstepError:
        names = sorted(set(valid))
        short = [full for full in names if full.partition("/")[2] == name]
        offer = f"; did you mean {short[0]!r}?" if short else nearest(name, names)
        absent = [
            f"\n  {plugin.name}: {plugin.status} ({plugin.reason})"
            for plugin in self.plugins
            if plugin.reason
        ]
        told = f"\nplugins not loaded:{''.join(absent)}" if absent else ""
        return FewstepError(
            f"no {what} {name!r}{offer}{told}",
            expected=", ".join(names) or f"an installed plugin that brings a {what}",
            todo="fewstep recipes" if what == "recipe" else "fewstep plugins",
        )


def _require(thing: Any, what: str, name: str, state: Readiness) -> Any:
    """``thing`` when its state is ready, else the error with the line to type."""
    if state.ready:
        return thing
    if state.problem:
        raise FewstepError(f"{what} {name!r} cannot be used: {state.problem}", todo="fewstep doctor")
    absent = " and ".join(map(str, state.missing))
    raise FewstepError(
        f"{what} {name!r} needs {absent}", expected="that they are installed", todo=state.install
    )
