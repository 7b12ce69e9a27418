"""Campaigns: many samples in one folder, portion by portion; one that was cut short goes on where it stopped."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fewstep
from fewstep.engine import Watch
from fewstep.errors import FewstepError
from fewstep.protocol import Campaign
from fewstep.runs.evaluation import drawn_once
from fewstep.runs.folder import RunFolder, writing

if TYPE_CHECKING:
    from fewstep.runs.handle import Run

HIDDEN = ".campaign"
"""Folder inside a campaign's that holds what was asked and one file of records for each portion."""


@dataclass(frozen=True)
class Campaigned:
    """A finished campaign.

    Args:
        folder: where everything lies.
        tables: what sums it up.
        records: one for each sample.
        fresh: samples that this call drew; the others were there.
        evaluations: network calls of this call.
        seconds: it spent on drawing.
        elapsed: it took in all.
    """

    folder: Path
    tables: tuple[Path, ...]
    records: tuple[Mapping[str, Any], ...]
    fresh: int
    evaluations: int
    seconds: float
    elapsed: float


@dataclass(frozen=True)
class Asked:
    """What a campaign draws: validated options, how many, and the rest of the question."""

    options: Any
    num: int
    seed: int
    steps: int | None
    contender: str


def run_campaign(run: Run, campaign: Campaign, asked: Asked, folder: Path, watch: Watch) -> Campaigned:
    """Draw what is missing in ``folder``, then sum up.

    A portion counts once its records are written, which happens after its files lie in place: whatever was cut short is
    drawn again, from the same keys.

    Raises:
        FewstepError: the folder belongs to another campaign, or cannot be written.
    """
    begun = time.monotonic()
    size = max(1, min(asked.num, campaign.portion(asked.options, asked.num)))
    state = _opened(run, asked, size, folder)
    counts = [min(size, asked.num - first) for first in range(0, asked.num, size)]
    there = [(state.path / _name(number)).is_file() for number in range(len(counts))]
    fresh, evaluations, seconds = 0, 0, 0.0
    watch.stage_started(
        "samples", asked.num, sum(c for c, is_there in zip(counts, there, strict=True) if is_there)
    )
    for number in (n for n, is_there in enumerate(there) if not is_there):
        drawn = _drawn(run, asked, counts[number], number)
        about = {**_about(run, asked), "calls": drawn.evaluations}
        write = partial(campaign.write, asked.options, drawn)
        state.write_json(_name(number), _placed(write, folder, state.path, number * size, about))
        there[number] = True
        fresh, evaluations, seconds = (
            fresh + counts[number],
            evaluations + drawn.evaluations,
            seconds + drawn.seconds,
        )
        done = sum(c for c, is_there in zip(counts, there, strict=True) if is_there)
        watch.logged("samples", done, number, {"samples/s": fresh / (time.monotonic() - begun)})
    records = tuple(record for number in range(len(counts)) for record in state.read_json(_name(number)))
    with writing(folder):
        tables = tuple(campaign.finish(asked.options, folder, records))
    watch.finished("samples")
    return Campaigned(folder, tables, records, fresh, evaluations, seconds, time.monotonic() - begun)


def _opened(run: Run, asked: Asked, size: int, folder: Path) -> RunFolder:
    """The hidden folder, new or of the same campaign."""
    state, told = RunFolder(folder / HIDDEN), {**_about(run, asked), "num": asked.num, "portion": size}
    if not (state.path / "asked.json").is_file():
        with writing(state.path):
            state.path.mkdir(parents=True, exist_ok=True)
        state.write_json("asked.json", told)
        return state
    before = state.read_json("asked.json")
    then, now = _flat(before), _flat(told)
    differing = [name for name in now if then.get(name) != now[name]]
    if differing:
        lines = [f"{name}: {then.get(name)!r} there, {now[name]!r} asked" for name in differing]
        raise FewstepError(
            f"{folder} holds another campaign\n" + "\n".join(lines),
            "the same question, to go on with it",
            "give another --out, or ask what was asked before",
        )
    return state


def _flat(told: Mapping[str, Any]) -> dict[str, Any]:
    """Options by their own names, beside the rest."""
    return {name: value for name, value in told.items() if name != "options"} | dict(told.get("options", {}))


def _about(run: Run, asked: Asked) -> dict[str, Any]:
    """Where the samples are from, as JSON."""
    options = asked.options
    return {
        "run": run.name,
        "recipe": run.setup.recipe.name,
        "contender": asked.contender,
        "steps": asked.steps,
        "seed": asked.seed,
        "options": options.model_dump(mode="json") if hasattr(options, "model_dump") else {},
        "version": fewstep.__version__,
    }


def _drawn(run: Run, asked: Asked, count: int, number: int) -> Any:
    key = run.setup.site.key.at("campaign", asked.seed, number)
    batch = run.product.request(asked.options, count, key.at("request"))
    sampler = run.sampler(asked.contender, asked.steps)
    return drawn_once(asked.contender, sampler, run.shelf, batch, key.at("draw"), run.setup.device)


def _placed(write: Any, folder: Path, state: Path, first: int, about: Mapping[str, Any]) -> Sequence[Any]:
    """Write into a draft, then move each file to its place."""
    draft = state / "draft"
    with writing(folder):
        draft.mkdir(exist_ok=True)
        for left in draft.iterdir():
            left.unlink()
        records: Sequence[Any] = write(draft, first, about)
        for file in sorted(draft.iterdir()):
            file.replace(folder / file.name)
    return records


def _name(number: int) -> str:
    return f"portion-{number:05d}.json"
