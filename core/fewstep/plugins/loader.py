"""Loading plugins over pluggy, each inside its own guard, so that a bad one is a row of the listing and no more.

pluggy's own loader stops at the first entry point that raises. Here every plugin is imported, checked and registered
in a manager of its own: a registration that fails half-way leaves nothing behind.

Three switches: ``FEWSTEP_PLUGINS=a,b`` loads only these (set but empty: none), ``FEWSTEP_DISABLE=a,b`` all but these,
by plugin or distribution name, and ``FEWSTEP_STRICT=1`` raises what is otherwise kept.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib import import_module, metadata
from typing import Any, TypeVar

import pluggy

from fewstep.plugins import hookspecs
from fewstep.plugins.discovery import Found, find
from fewstep.plugins.guard import guarded
from fewstep.plugins.readiness import readiness
from fewstep.plugins.registry import Plugin, Recipe, Registry
from fewstep.plugins.specs import PROTOCOL, CommandSpec, ComponentSpec, RecipeSpec, resolve

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_LOCAL = re.compile(r"[a-z0-9][a-z0-9_.-]*")

S = TypeVar("S", RecipeSpec, ComponentSpec, CommandSpec)


class PluginError(Exception):
    """A plugin broke a rule of the house."""


class Incompatible(PluginError):  # noqa: N818 - it is the status that the listing shows
    """A plugin speaks a protocol that this core does not."""


@functools.cache
def registry() -> Registry:
    """Everything that is installed, discovered once per process."""
    return discover()


def recipes() -> tuple[Recipe, ...]:
    """All recipes that are installed, ready or not.

    >>> import fewstep
    >>> ready = [recipe.name for recipe in fewstep.recipes() if recipe.readiness.ready]
    """
    return registry().recipes


def discover(
    distributions: Iterable[metadata.Distribution] | None = None, environ: Mapping[str, str] | None = None
) -> Registry:
    """Find and load plugins.

    Args:
        distributions: where to look; None means everything that is installed.
        environ: the three switches; None means the process's environment.

    Raises:
        PluginError: only when ``FEWSTEP_STRICT`` is set, from the plugin's own error.
    """
    environ = os.environ if environ is None else environ
    strict = environ.get("FEWSTEP_STRICT", "") not in ("", "0")
    found = find(distributions)
    holders: dict[str, Found] = {}
    plugins = []
    for one in found:
        reason = _switched_off(one, environ)
        if reason:
            plugins.append(_row(one, status="disabled", reason=reason))
        elif one.name in holders:
            plugins.append(_refused(one, holders[one.name], strict))
        else:
            holders[one.name] = one
            plugins.append(load(one, strict=strict))
    return Registry(tuple(plugins), strict=strict, notes=_unmatched(found, environ))


def load(found: Found, *, strict: bool = False) -> Plugin:
    """Import, check and ask one plugin.

    Args:
        found: its entry point.
        strict: raise instead of returning a row that tells why it failed.
    """
    outcome = guarded(lambda: _load(found))
    if outcome.value is not None:
        return replace(outcome.value, printed=tuple(outcome.printed))
    error = outcome.error
    if strict:
        raise PluginError(
            f"plugin {found.name!r} of {found.distribution} {found.version}: {_told(error)}"
        ) from error
    status = "incompatible" if isinstance(error, Incompatible) else "broken"
    told = guarded(lambda: _told(error)).value or type(error).__name__  # an error's own text may raise, too
    reason = told + _hint(found, error)
    return replace(_row(found, status=status, reason=reason), printed=tuple(outcome.printed))


def _load(found: Found) -> Plugin:
    """The loaded plugin; raises whatever goes wrong."""
    if found.problem:
        raise PluginError(found.problem)
    if not _NAME.fullmatch(found.name):
        raise PluginError(f"a plugin's name is lower case letters, digits, - and _, got {found.name!r}")
    module = resolve(found.target) if ":" in found.target else import_module(found.target)
    protocol = check_protocol(module)
    manager = _register(module, found.name)
    hooks = tuple(caller.name for caller in manager.get_hookcallers(module) or ())
    return Plugin(
        name=found.name,
        distribution=found.distribution,
        version=found.version,
        status="loaded",
        protocol=protocol,
        hooks=tuple(sorted(hooks)),
        recipes=_collect(manager, "fewstep_recipes", RecipeSpec, found.name),
        components=_collect(manager, "fewstep_components", ComponentSpec, found.name),
        commands=_collect(manager, "fewstep_commands", CommandSpec, found.name),
        call={name: getattr(manager.hook, name) for name in hooks},
    )


def check_protocol(module: Any) -> tuple[int, int]:
    """The protocol that a plugin states.

    Raises:
        Incompatible: none is stated, or the core does not speak it.
    """
    stated = getattr(module, "PROTOCOL", None)
    if not (isinstance(stated, tuple) and len(stated) == 2 and all(type(part) is int for part in stated)):
        raise Incompatible(f"states no protocol (PROTOCOL = {PROTOCOL} in its module, got {stated!r})")
    major, minor = stated
    if major != PROTOCOL[0] or minor > PROTOCOL[1]:
        raise Incompatible(f"speaks protocol {major}.{minor}, this core speaks {PROTOCOL[0]}.{PROTOCOL[1]}")
    return major, minor


def _register(module: Any, name: str) -> pluggy.PluginManager:
    """A manager that holds this plugin only, its hooks checked against the specifications."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(module, name)
    manager.check_pending()
    for attribute in dir(module):
        wanted = attribute.startswith(f"{hookspecs.PROJECT}_") and callable(getattr(module, attribute))
        if (
            wanted
            and hasattr(hookspecs, attribute)
            and manager.parse_hookimpl_opts(module, attribute) is None
        ):
            raise PluginError(f"{attribute} is not marked; put @hookimpl above it")
    return manager


def _collect(manager: pluggy.PluginManager, hook: str, kind: type[S], plugin: str) -> tuple[S, ...]:
    """What a registration hook gave, checked: the right type, the right prefix, no name twice."""
    specs: list[S] = []
    for given in getattr(manager.hook, hook)():
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise PluginError(f"{hook} gave {type(given).__name__}, expected an iterable of {kind.__name__}")
        specs.extend(given)
    names: set[str] = set()
    for spec in specs:
        if not isinstance(spec, kind):
            raise PluginError(f"{hook} gave {type(spec).__name__}, expected {kind.__name__}")
        _check_name(spec.name, plugin, names)
    return tuple(specs)


def _check_name(name: str, plugin: str, taken: set[str]) -> None:
    """A plugin names only what is its own, and each thing once."""
    prefix, slash, local = name.partition("/")
    if prefix != plugin or not slash:
        raise PluginError(f"offers {name!r}, but everything of this plugin is named '{plugin}/...'")
    if not _LOCAL.fullmatch(local):
        raise PluginError(
            f"offers {name!r}: after '{plugin}/' come lower case letters, digits, '.', '-' and '_'"
        )
    if name in taken:
        raise PluginError(f"offers {name!r} twice")
    taken.add(name)


def _row(found: Found, **known: Any) -> Plugin:
    """A row for a plugin that offers nothing."""
    return Plugin(name=found.name, distribution=found.distribution, version=found.version, **known)


def _refused(one: Found, holder: Found, strict: bool) -> Plugin:
    """The row of a plugin whose name is taken. The first in order holds it, whatever its state."""
    reason = (
        f"the name {one.name!r} of {one.distribution} is held by {holder.distribution}"
        f" (FEWSTEP_DISABLE={holder.distribution} frees it)"
    )
    if strict:
        raise PluginError(reason)
    return _row(one, status="broken", reason=reason)


def _switched_off(one: Found, environ: Mapping[str, str]) -> str:
    """Why the switches leave this plugin out; empty if they do not."""
    names = {one.name, one.distribution}
    if "FEWSTEP_PLUGINS" in environ and not names & _listed(environ, "FEWSTEP_PLUGINS"):
        return "not named in FEWSTEP_PLUGINS"
    if names & _listed(environ, "FEWSTEP_DISABLE"):
        return "named in FEWSTEP_DISABLE"
    return ""


def _listed(environ: Mapping[str, str], switch: str) -> set[str]:
    return {name.strip() for name in environ.get(switch, "").split(",") if name.strip()}


def _unmatched(found: Iterable[Found], environ: Mapping[str, str]) -> tuple[str, ...]:
    """A note for each name in the switches that fits no plugin: probably a slip of the pen."""
    known = {name for one in found for name in (one.name, one.distribution)}
    switches = ("FEWSTEP_PLUGINS", "FEWSTEP_DISABLE")
    return tuple(
        f"{switch} names {name!r}, which is no installed plugin"
        for switch in switches
        for name in sorted(_listed(environ, switch) - known)
    )


def _told(error: BaseException | None) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, PluginError) else f"{type(error).__name__}: {text}".removesuffix(": ")


def _hint(found: Found, error: BaseException | None) -> str:
    """For a failed import: the requirement of its own that is not met, and the line that meets it."""
    if not isinstance(error, ImportError):
        return ""
    state = readiness(found.distribution)
    return f"; {state}" if state.missing else ""
