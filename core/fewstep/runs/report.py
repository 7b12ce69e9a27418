"""report.html: one file that opens anywhere, needs no network, and says what was made, how well, and how."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from fewstep.config.layers import flat
from fewstep.protocol import Drawn, Metric, Panel, Score
from fewstep.runs import charts, story
from fewstep.runs.evaluation import Evaluation, Row

if TYPE_CHECKING:
    from fewstep.runs.handle import Run

_log = logging.getLogger(__name__)


def write_report(run: Run, evaluation: Evaluation) -> Path:
    """Render the report into the run folder; returns its path."""
    return run.files.write("report.html", render(run, evaluation))


def render(run: Run, evaluation: Evaluation) -> str:
    """The whole page."""
    return template("report.html.j2").render(_facts(run, evaluation))


def fragment(run: Run, evaluation: Evaluation) -> str:
    """Table and panels alone, for a notebook."""
    return template("fragment.html.j2").render(_facts(run, evaluation))


def template(name: str) -> jinja2.Template:
    """A page of ours; what is put into it is escaped."""
    places = jinja2.PackageLoader("fewstep.runs", "templates")
    room = jinja2.Environment(loader=places, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return room.get_template(name)


def _facts(run: Run, evaluation: Evaluation) -> dict[str, Any]:
    product, spec = run.product, run.setup.recipe.spec
    head, rows = story.comparison(evaluation, product)
    return {
        "name": run.setup.recipe.name,
        "run_name": run.folder.name,
        "summary": spec.summary,
        "paper": spec.paper,
        "profile": run.setup.profile,
        "headline": story.headline(evaluation, product),
        "verdict": story.verdict(evaluation),
        "passed": evaluation.passed,
        "gates": [(gate, story.gate_sentence(gate)) for gate in evaluation.gates],
        "head": head,
        "rows": [[cell.partition(" [") for cell in row] for row in rows],
        "caption": _caption(run),
        "metrics": product.metrics,
        "quality": quality(
            story.leading_metrics(evaluation, product), [(row.contender, row) for row in evaluation.rows]
        ),
        "losses": [Markup(chart) for chart in _losses(run) if chart],
        "panels": [(panel.title, shown_panel(panel, evaluation.drawn)) for panel in product.panels],
        "settings": _settings(run),
        "environment": run.files.read_json("environment.json"),
        "facts": run.files.facts,
    }


def _caption(run: Run) -> str:
    return (
        f"Everyone draws the same {run.product.samples} samples from the same noise. Calls are counted on the networks; "
        "seconds are for the whole batch; brackets are 95 % bootstrap intervals. ↓ lower is better, ↑ higher is better."
    )


def shown_panel(panel: Panel, drawn: Mapping[str, Drawn]) -> Markup | str:
    """A plugin's section; one that fails says so and costs nothing else."""
    try:
        return Markup(panel.render(drawn))
    except Exception as error:  # noqa: BLE001 - a picture must not cost a trained student
        _log.warning("panel %r failed", panel.title, exc_info=error)
        return f"This panel could not be drawn: {type(error).__name__}: {error}"


def quality(metrics: Sequence[Metric], rows: Sequence[tuple[str, Row]]) -> list[Markup]:
    """Charts of each metric against calls and against seconds, a point for every (label, row) that has it."""
    found = []
    for metric in metrics:
        scored = [(told, row, row.scores[metric.name]) for told, row in rows if metric.name in row.scores]
        for name, cost in (("network calls", "evaluations"), ("seconds", "seconds")):
            points = [_point(*one, cost) for one in scored]
            found.append(Markup(charts.quality(metric, name, points)))
    return [chart for chart in found if chart]


def _point(told: str, row: Row, score: Score, cost: str) -> charts.Point:
    mark = "student" if row.contender == "student" else ""
    return charts.Point(told, float(getattr(row, cost)), score.value, score.low, score.high, mark)


def _losses(run: Run) -> Iterator[str]:
    """One chart per stage with the loss of each phase."""
    series = run.files.metrics()
    for stage in dict.fromkeys(stage for stage, _ in series):
        mine = [(name, points) for (of, name), points in series.items() if of == stage]
        found = [(name.removesuffix("/loss"), points) for name, points in mine if name.endswith("/loss")]
        yield charts.lines(f"Loss of stage {stage}", "cycles", "loss", found)


def _settings(run: Run) -> list[tuple[str, str, str]]:
    """(name, value, origin) of every setting."""
    resolved = run.setup.resolved
    return [
        (name, "none" if value is None else str(value), resolved.origins.get(name, "default"))
        for name, value in flat(resolved.values).items()
    ]
