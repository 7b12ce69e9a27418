"""Samples that only panels see: other numbers of network calls, other noise scales. Their names say which."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from fewstep.protocol import Drawn, Sampler
from fewstep.samplers import at_noise_scale

CALLS = (1, 4, 8, 16)
"""Network calls of the student's curve."""
TEACHER_CALLS = (8, 16, 32)
"""Network calls of the teacher's curve."""
SCALES = (0.45, 0.6, 0.8)
"""Noise scales below 1; that of the distilled Proteina is 0.45."""
_NAMED = re.compile(r"(\w+?)_(?:(?P<calls>\d+)|rho(?P<scale>[\d.]+))")


def asides(
    student: Sampler,
    teacher: Sampler,
    own: int,
    teacher_own: int,
    scales: Sequence[float] = SCALES,
) -> dict[str, Sampler]:
    """``student_8``: the student in 8 calls; ``teacher_8``; ``student_rho0.6``: the student at noise scale 0.6.

    Args:
        student: with a choice of steps, one call each.
        teacher: the same, by a solver that stands few steps and ends with a clean estimate: n steps are n + 1 calls.
        own: calls of the student itself, which needs no aside.
        teacher_own: calls of the teacher itself.
        scales: noise scales.
    """
    found: dict[str, Sampler] = {}
    if student.with_steps is not None:
        found |= {f"student_{n}": student.with_steps(n) for n in CALLS if n != own}
    if teacher.with_steps is not None:
        found |= {f"teacher_{n}": teacher.with_steps(n - 1) for n in TEACHER_CALLS if n < teacher_own}
    return found | {f"student_rho{scale:g}": at_noise_scale(student, scale) for scale in scales}


def pictured(drawn: Mapping[str, Drawn]) -> dict[str, Drawn]:
    """The contenders without asides: what most panels show."""
    return {name: item for name, item in drawn.items() if not _NAMED.fullmatch(name)}


def by_calls(drawn: Mapping[str, Drawn]) -> dict[str, list[tuple[float, str]]]:
    """Who -> (network calls, name of what was drawn with so many), in order; whoever has no aside is left out."""
    found: dict[str, list[tuple[float, str]]] = {}
    for name in drawn:
        match = _NAMED.fullmatch(name)
        if match and match["calls"]:
            found.setdefault(match[1], []).append((drawn[name].evaluations, name))
    return _with_themselves(found, drawn, lambda who: float(drawn[who].evaluations))


def by_scale(drawn: Mapping[str, Drawn]) -> dict[str, list[tuple[float, str]]]:
    """Who -> (noise scale, name of what was drawn at it), in order."""
    found: dict[str, list[tuple[float, str]]] = {}
    for name in drawn:
        match = _NAMED.fullmatch(name)
        if match and match["scale"]:
            found.setdefault(match[1], []).append((float(match["scale"]), name))
    return _with_themselves(found, drawn, lambda _: 1.0)


def _with_themselves(
    found: Mapping[str, list[tuple[float, str]]], drawn: Mapping[str, Drawn], place: Callable[[str], float]
) -> dict[str, list[tuple[float, str]]]:
    """Each with the point of the contender of that name, whose steps and scale are its own."""
    own = {who: [(place(who), who)] if who in drawn else [] for who in found}
    return {who: sorted([*points, *own[who]]) for who, points in found.items()}
