"""Whether what an extra needs is installed, told from the distribution's own metadata: nothing is imported.

Metadata names distributions, so ``biopython`` is found although its module is called ``Bio``, and a plugin that is
not ours is treated as ours are.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A requirement that is not met.

    Args:
        requirement: name with its version bounds, ``"biopython>=1.84"``.
        found: the installed version; None when it is absent.
    """

    requirement: str
    found: str | None = None

    def __str__(self) -> str:
        return f"{self.requirement} ({f'have {self.found}' if self.found else 'absent'})"


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """What stands between a recipe and its use.

    Args:
        missing: requirements that are not met.
        install: the line that meets them; empty when nothing is missing or no line could.
        problem: what is wrong with the declaration itself, an extra that does not exist, say.
    """

    missing: tuple[Missing, ...] = ()
    install: str = ""
    problem: str = ""

    @property
    def ready(self) -> bool:
        """Nothing is missing."""
        return not self.missing and not self.problem

    def __str__(self) -> str:
        """``ready``, or what it needs and the line to type."""
        if self.ready:
            return "ready"
        if self.problem:
            return self.problem
        return f"needs {self.install}: {', '.join(map(str, self.missing))}"


def readiness(distribution: str, extra: str | None = None) -> Readiness:
    """Compare what ``distribution`` requires (with ``extra``) with what is installed.

    Args:
        distribution: name of an installed distribution.
        extra: one of its extras; None asks for its base requirements only.
    """
    try:
        offered = _extras(distribution)
    except metadata.PackageNotFoundError:
        return Readiness(problem=f"no distribution {distribution!r} is installed")
    if extra is not None and canonicalize_name(extra) not in offered:
        known = ", ".join(sorted(offered)) or "none"
        return Readiness(problem=f"{distribution} has no extra {extra!r} (it has: {known})")
    missing = tuple(dict.fromkeys(_unmet(distribution, extra, set())))
    if not missing:
        return Readiness()
    wanted = f"{distribution}[{extra}]" if extra else distribution
    return Readiness(missing=missing, install=f'pip install "{wanted}"')


def extras(distribution: str) -> tuple[str, ...]:
    """Names of the extras that an installed distribution offers, in its own order."""
    return tuple(metadata.distribution(distribution).metadata.get_all("Provides-Extra") or ())


def _extras(distribution: str) -> set[str]:
    """Normalised names of its extras."""
    return {canonicalize_name(name) for name in extras(distribution)}


def _unmet(distribution: str, extra: str | None, seen: set[tuple[str, str]]) -> Iterator[Missing]:
    """Unmet requirements of ``distribution[extra]``, following extras named inside extras."""
    visit = (canonicalize_name(distribution), canonicalize_name(extra or ""))
    if visit in seen:
        return
    seen.add(visit)
    for requirement in _requirements(distribution, extra):
        found = _installed(requirement.name)
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            yield Missing(requirement=f"{requirement.name}{requirement.specifier}", found=found)
            continue
        for inner in sorted(requirement.extras):
            yield from _unmet(requirement.name, inner, seen)


def _requirements(distribution: str, extra: str | None) -> Iterator[Requirement]:
    """Requirements that hold here, on this interpreter and platform."""
    named = {"extra": canonicalize_name(extra or "")}
    for requirement in _declared(distribution):
        if requirement.marker is None or requirement.marker.evaluate(named):
            yield requirement


# Metadata are parsed once a process, as plugins are discovered once: a listing asks for each recipe and extra anew,
# and parsing was half of its time.
@functools.cache
def _declared(distribution: str) -> tuple[Requirement, ...]:
    """Every requirement of a distribution, whatever its marker."""
    declared = []
    for line in metadata.requires(distribution) or ():
        with suppress(InvalidRequirement):  # pip warned at install; it says nothing about what is there
            declared.append(Requirement(line))
    return tuple(declared)


@functools.cache
def _installed(name: str) -> str | None:
    """Installed version of a distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
