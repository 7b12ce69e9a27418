"""Charts as inline SVG: no script, no font file, colors from the page so that they follow a dark scheme."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from fewstep.protocol import Metric

WIDTH, HEIGHT = 440.0, 280.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 16.0, 30.0, 46.0


@dataclass(frozen=True)
class Point:
    """A labelled point with an interval in y."""

    label: str
    x: float
    y: float
    low: float
    high: float
    mark: str = ""


@dataclass(frozen=True)
class Axis:
    """Values on one side of the plot.

    Args:
        label: with its unit.
        low, high: what is shown.
        log: logarithmic scale.
        start, end: where low and high lie on the picture.
    """

    label: str
    low: float
    high: float
    log: bool
    start: float
    end: float

    def at(self, value: float) -> float:
        """Where a value lies on the picture; values outside are put on the edge."""
        scale: Callable[[float], float] = math.log10 if self.log else float
        value = min(max(value, self.low), self.high)
        share = (scale(value) - scale(self.low)) / ((scale(self.high) - scale(self.low)) or 1.0)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """A few round values."""
        return log_ticks(self.low, self.high) if self.log else even_ticks(self.low, self.high)


def scatter(title: str, x_label: str, y_label: str, points: Sequence[Point], log_x: bool = True) -> str:
    """Labelled points with intervals: quality against cost.

    Points that are not finite, or not positive on a logarithmic axis, are left out.
    """
    kept = [p for p in points if math.isfinite(p.x + p.y + p.low + p.high) and (p.x > 0 or not log_x)]
    if not kept:
        return ""
    x = _axis(x_label, [p.x for p in kept], log_x, LEFT, WIDTH - RIGHT, pad=0.25)
    y = _axis(
        y_label, [v for p in kept for v in (p.low, p.y, p.high)], _wide(kept), HEIGHT - BOTTOM, TOP, pad=0.1
    )
    said = "; ".join(f"{p.label}: {x_label} {p.x:.3g}, {y_label} {p.y:.3g}" for p in kept)
    return _svg(title, said, _grid(x, y) + _labelled(kept, x, y))


def quality(metric: Metric, cost: str, points: Sequence[Point]) -> str:
    """A metric against what it costs."""
    better = "↓" if metric.better == "lower" else "↑"
    unit = f" ({metric.unit})" if metric.unit else ""
    return scatter(f"{metric.name} {better} against {cost}", cost, f"{metric.name}{unit}", points)


def lines(
    title: str, x_label: str, y_label: str, series: Sequence[tuple[str, Sequence[tuple[int, float]]]]
) -> str:
    """Curves over steps, each with its own dash; logarithmic when all values are positive and span two decades."""
    found = [(name, [(x, y) for x, y in points if math.isfinite(y)]) for name, points in series]
    kept = [(name, points) for name, points in found if len(points) > 1]
    if not kept:
        return ""
    values = [y for _, points in kept for _, y in points]
    log_y = min(values) > 0 and max(values) / min(values) > 100
    x = _axis(x_label, [x for _, points in kept for x, _ in points], False, LEFT, WIDTH - RIGHT, pad=0)
    y = _axis(y_label, values, log_y, HEIGHT - BOTTOM, TOP, pad=0.05)
    said = "; ".join(f"{name}: from {points[0][1]:.3g} to {points[-1][1]:.3g}" for name, points in kept)
    drawn = "".join(_curve(number, name, points, x, y) for number, (name, points) in enumerate(kept))
    return _svg(title, said, _grid(x, y) + drawn)


def even_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten inside an interval."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten inside an interval; with their doubles and halves when there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for multiples in ((1,), (1, 3), (1, 2, 5)):
        ticks = [m * 10.0**p for p in powers for m in multiples]
        inside = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
        if len(inside) >= 3:
            return inside[:: math.ceil(len(inside) / 6)]
    return inside or [low, high]


def _wide(points: Sequence[Point]) -> bool:
    """Whether the values ask for a logarithmic scale."""
    return min(p.low for p in points) > 0 and max(p.y for p in points) / min(p.y for p in points) > 20


def _axis(label: str, values: Sequence[float], log: bool, start: float, end: float, pad: float) -> Axis:
    low, high = min(values), max(values)
    if log:
        share = (high / low) ** pad if high > low else 2.0
        return Axis(label, low / share, high * share, log, start, end)
    room = (high - low) * pad if high > low else abs(high) * 0.1 or 1.0
    return Axis(label, low - room, high + room, log, start, end)


def _svg(title: str, said: str, inner: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{escape(f"{title}. {said}")}">'
        f'<text class="title" x="{LEFT:g}" y="16">{escape(title)}</text>{inner}</svg>'
    )


def _grid(x: Axis, y: Axis) -> str:
    parts = []
    for tick in x.ticks():
        at = x.at(tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{y.start:g}" y2="{y.end:g}"/>')
        parts.append(
            f'<text class="tick" x="{at:.1f}" y="{y.start + 16:g}" text-anchor="middle">{tick:g}</text>'
        )
    for tick in y.ticks():
        at = y.at(tick)
        parts.append(f'<line class="grid" x1="{x.start:g}" x2="{x.end:g}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{x.start - 6:g}" y="{at + 4:.1f}" text-anchor="end">{tick:.3g}</text>'
        )
    middle_x, middle_y = (x.start + x.end) / 2, (y.start + y.end) / 2
    parts.append(
        f'<text class="axis" x="{middle_x:g}" y="{HEIGHT - 8:g}" text-anchor="middle">{escape(x.label)}</text>'
    )
    parts.append(
        f'<text class="axis" transform="translate(13 {middle_y:g}) rotate(-90)" text-anchor="middle">'
        f"{escape(y.label)}</text>"
    )
    return "".join(parts)


def _labelled(points: Sequence[Point], x: Axis, y: Axis) -> str:
    """Points with their names; a name that would cover another one moves down."""
    parts: list[str] = []
    taken: list[tuple[float, float]] = []
    for p in sorted(points, key=lambda p: (y.at(p.y), x.at(p.x))):
        px, py = x.at(p.x), y.at(p.y)
        right = px < (x.start + x.end) / 2
        text_y = py - 7
        while any(abs(text_y - other) < 13 and abs(px - other_x) < 110 for other_x, other in taken):
            text_y += 13
        taken.append((px, text_y))
        anchor, shift = ("start", 8) if right else ("end", -8)
        kind = f"point {p.mark}".strip()
        parts.append(
            f'<line class="{kind}" x1="{px:.1f}" x2="{px:.1f}" y1="{y.at(p.low):.1f}" y2="{y.at(p.high):.1f}"/>'
            f'<circle class="{kind}" cx="{px:.1f}" cy="{py:.1f}" r="4.5"/>'
            f'<text class="label" x="{px + shift:.1f}" y="{text_y:.1f}" text-anchor="{anchor}">{escape(p.label)}</text>'
        )
    return "".join(parts)


def _curve(number: int, name: str, points: Sequence[tuple[int, float]], x: Axis, y: Axis) -> str:
    path = " ".join(f"{x.at(a):.1f},{y.at(b):.1f}" for a, b in points)
    style = f"curve c{number % 4}"
    at = TOP + 12 + 14 * number
    legend = (
        f'<line class="{style}" x1="{WIDTH - RIGHT - 22:g}" x2="{WIDTH - RIGHT - 2:g}" y1="{at - 4:g}" y2="{at - 4:g}"/>'
        f'<text class="label" x="{WIDTH - RIGHT - 28:g}" y="{at:g}" text-anchor="end">{escape(name)}</text>'
    )
    return f'<polyline class="{style}" points="{path}"/>{legend}'
