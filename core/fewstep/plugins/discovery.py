"""Which plugins are installed, in an order that does not depend on how they were installed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata

from packaging.utils import canonicalize_name

from fewstep.plugins.guard import guarded

GROUP = "fewstep.plugins"
"""Entry-point group: ``name = "module"``, the module being the plugin."""

OWN = "fewstep"
"""Our own distribution comes first; that is its only privilege."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """An entry point.

    Args:
        name: the plugin's name, the prefix of everything it offers.
        target: ``"module"`` or ``"module:attr"``.
        distribution: normalised name of the distribution that declares it.
        version: of that distribution.
        problem: why it cannot even be loaded; empty if it can.
    """

    name: str
    target: str
    distribution: str
    version: str
    problem: str = ""


def find(distributions: Iterable[metadata.Distribution] | None = None) -> tuple[Found, ...]:
    """All declared plugins: our own first, then by distribution, name and target.

    A distribution that is on the path twice counts once, as it does for imports: the first one holds.

    Args:
        distributions: where to look; None means everything that is installed.
    """
    seen: set[str] = set()
    found: list[Found] = []
    for distribution in metadata.distributions() if distributions is None else distributions:
        name = _name(distribution)
        if name and name not in seen:
            seen.add(name)
            found.extend(_of(distribution, name))
    return tuple(
        sorted(found, key=lambda one: (one.distribution != OWN, one.distribution, one.name, one.target))
    )


def _name(distribution: metadata.Distribution) -> str:
    """Its normalised name: from the name of its folder where it has one, for parsing all metadata takes 0.1 s."""
    told = getattr(distribution, "_normalized_name", None)  # as importlib.metadata.entry_points itself does
    return canonicalize_name(told or distribution.name or "")


def _of(distribution: metadata.Distribution, name: str) -> Iterator[Found]:
    """The plugins that one distribution declares."""
    text = distribution.read_text("entry_points.txt") or ""
    if GROUP not in text:
        return
    version = distribution.version or "?"
    read = guarded(lambda: [point for point in distribution.entry_points if point.group == GROUP])
    if read.value is None:
        problem = f"entry_points.txt cannot be read: {read.error}"
        yield Found(name=name, target="", distribution=name, version=version, problem=problem)
        return
    for point in read.value:
        yield Found(name=point.name, target=point.value, distribution=name, version=version)
