"""Several runs of one plugin on one page: tables, settings that differ, quality against cost, samples side by side."""

from __future__ import annotations

import string
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from markupsafe import Markup

from fewstep.config.layers import flat
from fewstep.errors import FewstepError
from fewstep.protocol import Drawn, Key, Metric, Panel, tensors, tree_map
from fewstep.runs import story
from fewstep.runs.evaluation import Evaluation, Row, evaluate
from fewstep.runs.folder import RunFolder, writing
from fewstep.runs.handle import Run
from fewstep.runs.report import quality, shown_panel, template

SIDE_BY_SIDE = ("student", "teacher")
"""Contenders whose samples are shown; the tables name them all."""

KEY = Key(0).at("compare")
"""The same for every run, so that equal held-out items meet equal noise."""

ABSENT = "–"


@dataclass(frozen=True)
class Compared:
    """A run with its letter and what was measured now."""

    letter: str
    run: Run
    evaluation: Evaluation

    @property
    def drawn(self) -> dict[str, Drawn]:
        """Samples to look at, under this run's letter."""
        found = self.evaluation.drawn
        return {f"{self.letter} {name}": found[name] for name in SIDE_BY_SIDE if name in found}


@dataclass(frozen=True)
class Comparison:
    """What the page and the terminal show."""

    runs: tuple[Compared, ...]

    @property
    def gated(self) -> frozenset[str]:
        """Names of the metrics that a gate of any run asks for."""
        return frozenset(gate.metric for one in self.runs for gate in one.evaluation.gates)

    @property
    def metrics(self) -> list[Metric]:
        """Every metric of any run, once: those of gates first."""
        known = {m.name: m for one in self.runs for m in one.run.product.metrics}
        return sorted(known.values(), key=lambda metric: metric.name not in self.gated)

    @property
    def labels(self) -> list[str]:
        """What each line of the table is."""
        return ["calls", "seconds", *map(story.label, self.metrics)]

    @property
    def columns(self) -> dict[str, dict[str, list[str]]]:
        """Contender -> letter of a run that has it -> a text for each label; a star marks what a gate asks of it."""
        found: dict[str, dict[str, list[str]]] = {}
        for one in self.runs:
            for row in one.evaluation.rows:
                asked = {gate.metric for gate in one.evaluation.gates if gate.of == row.contender}
                found.setdefault(row.contender, {})[one.letter] = self._cells(row, asked)
        return found

    def _cells(self, row: Row, asked: Collection[str]) -> list[str]:
        told = []
        for name in (metric.name for metric in self.metrics):
            text = story.interval(row.scores[name]) if name in row.scores else ABSENT
            value, *interval = text.split(" ", 1)
            told.append(" ".join([value + "*" * (name in asked), *interval]))
        return [str(row.evaluations), story.number(row.seconds), *told]

    @property
    def differences(self) -> list[tuple[str, list[str]]]:
        """(setting, its value in each run) where they are not all the same."""
        every = [flat(one.run.setup.resolved.values) for one in self.runs]
        names = dict.fromkeys(name for settings in every for name in settings)
        table = [(name, [_plain(settings, name) for settings in every]) for name in names]
        return [(name, values) for name, values in table if len(set(values)) > 1]

    @property
    def same_items(self) -> bool:
        """Whether all were asked for the same held-out items."""
        batches = (next(iter(one.evaluation.drawn.values())).batch for one in self.runs)
        # Where no truth is held out, a question is all that there is of an item.
        first, *rest = [tensors(batch.x) or tensors(batch.cond.data) for batch in batches]
        return all(len(first) == len(other) and all(map(torch.equal, first, other)) for other in rest)

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "runs": [
                {
                    "letter": one.letter,
                    "run": str(one.run.folder),
                    "training": one.run.files.training(),
                    **one.evaluation.as_json(),
                }
                for one in self.runs
            ],
            "settings": dict(self.differences),
            "same_items": self.same_items,
        }


def check(folders: Sequence[RunFolder]) -> None:
    """Find out before anything is opened that runs cannot be compared.

    Raises:
        FewstepError: all reasons at once.
    """
    recipes = [str(folder.facts.get("recipe")) for folder in folders]
    plugins = sorted({recipe.partition("/")[0] for recipe in recipes})
    places = [folder.path.resolve() for folder in folders]
    lines = []
    if len(folders) < 2:
        lines.append("one run alone cannot be compared")
    if len(plugins) > 1:
        told = ", ".join(f"{f.path.name} is {r}" for f, r in zip(folders, recipes, strict=True))
        lines.append(f"samples of {' and '.join(plugins)} have nothing in common: {told}")
    lines += [f"{place} is named twice" for place in dict.fromkeys(places) if places.count(place) > 1]
    if len(folders) > len(string.ascii_uppercase):
        lines.append(f"{len(folders)} runs are more than a page can show")
    if lines:
        raise FewstepError(
            "\n".join(lines),
            "two or more different runs of recipes of one plugin",
            "correct the list of runs",
        )


def compare(runs: Sequence[Run], say: Callable[[str], object] = str) -> Comparison:
    """Measure the runs one after the other, on this machine, from one key.

    Args:
        runs: finished runs of one plugin.
        say: progress.

    Raises:
        FewstepError: they have nothing in common.
    """
    check([run.files for run in runs])
    found = []
    for letter, run in zip(string.ascii_uppercase, runs, strict=False):
        say(f"{letter}: {run.name}")

        def told(name: str, drawn: Drawn, letter: str = letter) -> None:
            say(f"{letter}: {name} drew in {drawn.seconds:.3g} s")

        done = evaluate(run.product, run.shelf, KEY, run.setup.gates, told, run.setup.device)
        found.append(Compared(letter, run, done))
    return Comparison(tuple(found))


def write(comparison: Comparison, out: Path) -> Path:
    """The page, in one file that needs no network."""
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    return RunFolder(out.parent).write(out.name, render(comparison))


def render(comparison: Comparison) -> str:
    """The page."""
    runs = comparison.runs
    return template("compare.html.j2").render(
        runs=runs,
        facts={one.letter: one.run.files.facts for one in runs},
        story=story,
        labels=comparison.labels,
        columns=comparison.columns,
        metrics=comparison.metrics,
        differences=comparison.differences,
        same_items=comparison.same_items,
        quality=quality(
            story.leading_metrics(runs[0].evaluation, runs[0].run.product),
            [(f"{one.letter} {row.contender}", row) for one in runs for row in one.evaluation.rows],
        ),
        panels=list(_panels(runs)),
    )


def _panels(runs: Sequence[Compared]) -> Iterator[tuple[str, Markup | str]]:
    """Each section that any run's product has, drawn once with the samples of all runs that have it, if states are alike."""
    known: dict[tuple[str, str], tuple[Panel, dict[str, Drawn]]] = {}
    for one in runs:
        made = next(iter(one.evaluation.drawn.values())).x
        kind = str(tree_map(lambda leaf: leaf.dtype, made))
        for panel in one.run.product.panels:
            known.setdefault((panel.title, kind), (panel, {}))[1].update(one.drawn)
    for panel, drawn in known.values():
        yield panel.title, shown_panel(panel, drawn)


def _plain(settings: Mapping[str, Any], name: str) -> str:
    value = settings.get(name, ABSENT)
    return "none" if value is None else str(value)
