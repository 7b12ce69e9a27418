"""Quality against network calls and against noise scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from fewstep.protocol import Batch, Drawn, Key, Metric, Panel
from fewstep_protein.panels.asides import by_calls, by_scale
from fewstep_protein.panels.plots import At, curves

DRAWN = ("valid_bonds", "clashes", "rg_distance", "helix", "strand", "right_handed", "pairwise_tm")
"""Metrics that are drawn: quality, what chains are made of, and how alike they are."""
COMPARED = ("helix", "strand", "right_handed", "valid_bonds", "clashes", "pairwise_tm")
"""Those that real chains have, too."""
KEY = Key(0).at("curves")
"""Of the intervals."""


def curve_panels(metrics: Sequence[Metric]) -> tuple[Panel, ...]:
    """Two sections; each says what it lacks where nothing was drawn for it."""
    shown = [metric for metric in metrics if metric.name in DRAWN]
    return (
        Panel("Quality against network calls", partial(against_calls, shown)),
        Panel("Quality against noise scale", partial(against_scale, shown)),
    )


def against_calls(metrics: Sequence[Metric], drawn: Mapping[str, Drawn]) -> str:
    """The student trained for one number of calls and asked for others, and the teacher in few and in many."""
    note = (
        "<p>The student was trained for one number of calls; the others show what asking for fewer or more costs. In few "
        "calls the teacher walks a deterministic sampler, since steps of a stochastic one are too large there.</p>"
    )
    return note + _charts(metrics, drawn, by_calls(drawn), "network calls", log=True)


def against_scale(metrics: Sequence[Metric], drawn: Mapping[str, Drawn]) -> str:
    """What drawing colder gives and costs."""
    note = (
        "<p>The noise scale multiplies every noise that the student is given. Gaussian chains would only shrink; a student "
        "that knows proteins becomes colder: more helix, more compact, more alike (a higher TM-score of pairs).</p>"
    )
    return note + _charts(metrics, drawn, by_scale(drawn), "noise scale", log=False)


def _charts(
    metrics: Sequence[Metric],
    drawn: Mapping[str, Drawn],
    places: Mapping[str, Sequence[tuple[float, str]]],
    label: str,
    log: bool,
) -> str:
    if not places:
        return "<p>Nothing was drawn for this section in this run; see the setting <code>curves</code>.</p>"
    batch = next(iter(drawn.values())).batch
    charts = [_chart(metric, drawn, batch, places, label, log) for metric in metrics]
    return f'<div class="charts">{"".join(charts)}</div>'


def _chart(
    metric: Metric,
    drawn: Mapping[str, Drawn],
    batch: Batch,
    places: Mapping[str, Sequence[tuple[float, str]]],
    label: str,
    log: bool,
) -> str:
    series = {
        who: [_point(metric, x, drawn[name].x, batch) for x, name in points] for who, points in places.items()
    }
    real = None
    if batch.x is not None and metric.name in COMPARED:
        real = float(metric.fn(batch.x, batch, KEY).value)
    arrow = "\N{DOWNWARDS ARROW}" if metric.better == "lower" else "\N{UPWARDS ARROW}"
    unit = f" ({metric.unit})" if metric.unit else ""
    title = f"{metric.name} {arrow}" if real is None else metric.name
    return curves(title, label, f"{metric.name}{unit}", series, real, log)


def _point(metric: Metric, x: float, samples: object, batch: Batch) -> At:
    score = metric.fn(samples, batch, KEY)
    return At(x, float(score.value), float(score.low), float(score.high))
