"""What a plugin offers, as frozen data: every piece of code is named as ``"module:attr"`` and imported when used.

This module imports nothing but the standard library, so that an entry module stays light.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import Any, Literal

PROTOCOL = (0, 1)
"""(major, minor) that this core speaks. A plugin runs when its major is equal and its minor is not newer."""

ComponentKind = Literal[
    "process", "objective", "student", "source", "sampler", "metric", "codec", "exporter", "panel"
]
"""What a component may be."""

COMPONENT_KINDS: tuple[str, ...] = ComponentKind.__args__  # type: ignore[attr-defined]


def resolve(target: str) -> Any:
    """The object that ``"module:attr"`` names; imports the module.

    Raises:
        ValueError: ``target`` is not of that form.
        ImportError, AttributeError: from the module itself.

    >>> resolve("math:pi") > 3
    True
    """
    check_target(target)
    module, _, attribute = target.partition(":")
    found: Any = import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def check_target(target: str) -> None:
    """Refuse a code reference that is not ``"module:attr"``."""
    module, colon, attribute = target.partition(":")
    names = (*module.split("."), *attribute.split("."))
    if not colon or not all(name.isidentifier() for name in names):
        raise ValueError(f"code is named as 'module:attr', got {target!r}")


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A bound on a metric that the recipe must meet and its control must miss.

    Args:
        metric: name of a metric of the recipe's product.
        of: the contender that must meet the bound.
        control: the contender that must miss it (say, the undistilled teacher at the student's step count).
        at_most: upper bound, in the metric's unit. Exactly one of the two bounds is given.
        at_least: lower bound, in the metric's unit.
        profiles: presets in which the gate holds; empty means in all.
        why: one sentence: where the number comes from.
    """

    metric: str
    control: str
    of: str = "student"
    at_most: float | None = None
    at_least: float | None = None
    profiles: tuple[str, ...] = ()
    why: str = ""

    def __post_init__(self) -> None:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError(f"gate on {self.metric!r}: give either at_most or at_least")
        if self.of == self.control:
            raise ValueError(f"gate on {self.metric!r}: {self.of!r} cannot be its own control")

    def holds(self, value: float) -> bool:
        """Whether ``value`` meets the bound; NaN never does.

        >>> Gate(metric="distance", control="teacher_1step", at_most=0.5).holds(0.4)
        True
        """
        if self.at_most is not None:
            return value <= self.at_most
        return self.at_least is not None and value >= self.at_least

    def applies(self, profile: str) -> bool:
        """Whether the gate is part of ``profile``."""
        return not self.profiles or profile in self.profiles


@dataclass(frozen=True, kw_only=True)
class RecipeSpec:
    """One way from a teacher to a student.

    Args:
        name: ``"<plugin>/<recipe>"``; the prefix is enforced.
        summary: one line, imperative.
        config: ``"module:Class"`` of the pydantic model.
        build: ``"module:function"``, ``(config, site) -> Plan``.
        extra: extra of the plugin's own distribution that the recipe needs.
        paper: whose method this is: authors, title, year, identifier.
        presets: profile -> overrides by dotted path; ``"smoke"`` ends in under a minute on two cores.
        gates: the recipe's own proof. Without one that can fail, a recipe is not done.
    """

    name: str
    summary: str
    config: str
    build: str
    extra: str | None = None
    paper: str = ""
    presets: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    gates: tuple[Gate, ...] = ()

    def __post_init__(self) -> None:
        check_target(self.config)
        check_target(self.build)
        frozen = {name: MappingProxyType(dict(values)) for name, values in self.presets.items()}
        object.__setattr__(self, "presets", MappingProxyType(frozen))

    def gates_of(self, profile: str) -> tuple[Gate, ...]:
        """The gates that hold in ``profile``."""
        return tuple(gate for gate in self.gates if gate.applies(profile))


@dataclass(frozen=True, kw_only=True)
class ComponentSpec:
    """A part that recipes of any plugin may name.

    Args:
        name: ``"<plugin>/<component>"``; the prefix is enforced.
        kind: what it is.
        target: ``"module:attr"``.
        summary: one line.
        extra: extra of the plugin's own distribution that it needs.
    """

    name: str
    kind: ComponentKind
    target: str
    summary: str = ""
    extra: str | None = None

    def __post_init__(self) -> None:
        check_target(self.target)
        if self.kind not in COMPONENT_KINDS:
            raise ValueError(
                f"component {self.name!r}: kind {self.kind!r} is none of {', '.join(COMPONENT_KINDS)}"
            )


@dataclass(frozen=True, kw_only=True)
class CommandSpec:
    """A command of the ``fewstep`` program, under the plugin's name: ``fewstep <plugin> <command>``.

    Args:
        name: ``"<plugin>/<command>"``; the prefix is enforced.
        summary: one line, shown in the help.
        target: ``"module:function"`` with annotated arguments, as typer reads them.
        extra: extra of the plugin's own distribution that it needs.
    """

    name: str
    summary: str
    target: str
    extra: str | None = None

    def __post_init__(self) -> None:
        check_target(self.target)


Spec = RecipeSpec | ComponentSpec | CommandSpec
