"""Plots in the classes of the report's page, so that they follow its colors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from fewstep.runs.charts import HEIGHT, WIDTH, Axis

LEFT, RIGHT, TOP, BOTTOM = 58.0, 424.0, 30.0, 234.0
"""Edges of a plot on the picture."""


class At(NamedTuple):
    """A point of a curve with its interval."""

    x: float
    y: float
    low: float
    high: float


def svg(title: str, said: str, inner: str) -> str:
    """A chart with a title; ``said`` is what it shows in words."""
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" '
        f'aria-label="{escape(f"{title}. {said}")}"><text class="title" x="{LEFT:g}" y="16">{escape(title)}</text>'
        f"{inner}</svg>"
    )


def frame(x: Axis, y: Axis, ticks: Sequence[float] = ()) -> str:
    """Grid, numbers and names of both axes; ``ticks`` of the first one where its own are not meant."""
    parts = []
    for tick in ticks or x.ticks():
        at = x.at(tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{y.start:g}" y2="{y.end:g}"/>')
        parts.append(
            f'<text class="tick" x="{at:.1f}" y="{y.start + 16:g}" text-anchor="middle">{tick:g}</text>'
        )
    for tick in y.ticks():
        at = y.at(tick)
        parts.append(f'<line class="grid" x1="{x.start:g}" x2="{x.end:g}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{x.start - 6:g}" y="{at + 4:.1f}" text-anchor="end">{tick:.4g}</text>'
        )
    middle = ((x.start + x.end) / 2, (y.start + y.end) / 2)
    parts.append(
        f'<text class="axis" x="{middle[0]:g}" y="{HEIGHT - 8:g}" text-anchor="middle">{escape(x.label)}</text>'
    )
    parts.append(
        f'<text class="axis" transform="translate(13 {middle[1]:g}) rotate(-90)" text-anchor="middle">'
        f"{escape(y.label)}</text>"
    )
    return "".join(parts)


def curves(
    title: str,
    x_label: str,
    y_label: str,
    series: Mapping[str, Sequence[At]],
    real: float | None = None,
    log_x: bool = False,
) -> str:
    """Curves through points with their intervals, and what real chains give as a line."""
    points = [p for found in series.values() for p in found if math.isfinite(p.y)]
    if not points:
        return ""
    levels = [v for p in points for v in (p.low, p.y, p.high) if math.isfinite(v)]
    levels += [] if real is None or not math.isfinite(real) else [real]
    across = _axis(x_label, [p.x for p in points], log_x, LEFT, RIGHT)
    up = _axis(y_label, levels, False, BOTTOM, TOP)
    ticks = sorted({p.x for p in points})
    inner = frame(across, up, [t for t in ticks if not log_x or _apart(t, ticks)])
    if real is not None and math.isfinite(real):
        at = up.at(real)
        inner += (
            f'<line class="curve c2" x1="{LEFT:g}" x2="{RIGHT:g}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text class="label" x="{RIGHT - 2:g}" y="{at - 4:.1f}" text-anchor="end">real</text>'
        )
    for number, (name, found) in enumerate(series.items()):
        inner += _curve(number, name, [p for p in found if math.isfinite(p.y)], across, up)
    said = "; ".join(
        f"{name}: " + ", ".join(f"{p.y:.3g} at {p.x:g}" for p in found) for name, found in series.items()
    )
    return svg(title, said + ("" if real is None else f"; real chains: {real:.3g}"), inner)


def _curve(number: int, name: str, points: Sequence[At], x: Axis, y: Axis) -> str:
    style = ("", " c1", " c3")[number % 3]
    path = " ".join(f"{x.at(p.x):.1f},{y.at(p.y):.1f}" for p in points)
    marks = "".join(
        f'<line class="curve{style}" style="stroke-dasharray:none;stroke-width:1" x1="{x.at(p.x):.1f}" '
        f'x2="{x.at(p.x):.1f}" y1="{y.at(p.low):.1f}" y2="{y.at(p.high):.1f}"/>'
        f'<circle class="curve{style}" style="stroke-dasharray:none" cx="{x.at(p.x):.1f}" cy="{y.at(p.y):.1f}" r="3"/>'
        for p in points
    )
    at = TOP - 16
    left = WIDTH - 90 * (3 - number)
    legend = (
        f'<line class="curve{style}" x1="{left:g}" x2="{left + 20:g}" y1="{at - 2:g}" y2="{at - 2:g}"/>'
        f'<text class="label" x="{left + 24:g}" y="{at + 2:g}">{escape(name)}</text>'
    )
    return f'<polyline class="curve{style}" points="{path}"/>{marks}{legend}'


def _axis(label: str, values: Sequence[float], log: bool, start: float, end: float) -> Axis:
    low, high = min(values), max(values)
    if log:
        return Axis(label, low / 1.25, high * 1.25, True, start, end)
    room = 0.08 * (high - low) or abs(high) * 0.1 or 1.0
    return Axis(label, low - room, high + room, False, start, end)


def _apart(tick: float, ticks: Sequence[float]) -> bool:
    """Whether a number has room on a logarithmic axis: the smaller of two near ones goes."""
    return not any(tick < other < 1.4 * tick for other in ticks)
