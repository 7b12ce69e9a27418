"""Campaigns: many samples in one folder, portion by portion; one that was cut short goes on where it stopped."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fewstep
from fewstep.engine import Watch
from fewstep.errors import FewstepError
from fewstep.protocol import Campaign, tree_map
from fewstep.runs.evaluation import drawn_once
from fewstep.runs.folder import RunFolder, claimed, writing

if TYPE_CHECKING:
    from fewstep.runs.handle import Run

HIDDEN = ".campaign"
"""Folder inside a campaign's that holds what was asked and one file of records for each portion."""
MOST = 1_000_000
"""Samples that are asked for at once: a folder with more files than these is of no use to anybody."""
IN_PARTS = "draw in parts, each with a seed and a folder of its own"


@dataclass(frozen=True)
class Campaigned:
    """A finished campaign.

    Args:
        folder: where everything lies.
        tables: what sums it up.
        records: one for each sample.
        passed: samples that nothing kept from passing; None if nobody judges.
        refused: how many samples each reason kept from passing, the most common first.
        cautions: what was asked beyond what was learned.
        fresh: samples that this call drew; the others were there.
        evaluations: network calls of this call.
        seconds: it spent on drawing.
        elapsed: it took in all.
    """

    folder: Path
    tables: tuple[Path, ...]
    records: tuple[Mapping[str, Any], ...]
    passed: int | None
    refused: tuple[tuple[str, int], ...]
    cautions: tuple[str, ...]
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


@dataclass(frozen=True)
class Portion:
    """Samples that are drawn and recorded together: ``count`` of them from number ``first`` on."""

    number: int
    first: int
    count: int

    @property
    def name(self) -> str:
        """Of the file of its records."""
        return f"portion-{self.number:05d}.json"


def check_count(num: int) -> None:
    """Refuse a number of samples that nobody means, before any work.

    Raises:
        FewstepError: it is below 1 or above MOST.
    """
    if not 1 <= num <= MOST:
        todo = IN_PARTS if num > MOST else "ask for one sample or more"
        raise FewstepError(f"num is {num:,}", f"1 to {MOST:,} samples at once", todo)


def cautions_of(options: Any) -> tuple[str, ...]:
    """What validated options say of themselves: what they ask beyond what was learned, what to expect, and what to do."""
    return tuple(getattr(options, "cautions", ()))


def run_campaign(run: Run, campaign: Campaign, asked: Asked, folder: Path, watch: Watch) -> Campaigned:
    """Draw what is missing in ``folder``, then sum up.

    A portion counts once its records are written, which happens after its files lie in place: whatever was cut short is
    drawn again, from the same keys. Portions do not depend on how many samples are asked for: the last one is drawn
    whole, and what is beyond the number is dropped, so that a campaign grows into what a larger one would have been.

    Raises:
        FewstepError: the folder belongs to another campaign or process, or cannot be written.
    """
    state = RunFolder(folder / HIDDEN)
    with writing(state.path):
        state.path.mkdir(parents=True, exist_ok=True)
    with claimed(state.path):
        return _filled(run, campaign, asked, state, watch)


def _filled(run: Run, campaign: Campaign, asked: Asked, state: RunFolder, watch: Watch) -> Campaigned:
    begun, folder, portions = time.monotonic(), state.path.parent, _portions(campaign, asked)
    _begin(state, {**_about(run, asked), "num": asked.num})
    size = {portion: min(portion.count, asked.num - portion.first) for portion in portions}
    files = frozenset(file.name for file in folder.iterdir())
    missing = [portion for portion in portions if not _whole(state.path / portion.name, size[portion], files)]
    cautions = cautions_of(asked.options)
    there = asked.num - sum(size[portion] for portion in missing)
    fresh, good, evaluations, seconds = 0, 0, 0, 0.0
    watch.stage_started("drawing", asked.num, there)
    for caution in cautions:
        watch.cautioned("drawing", caution)
    for portion in missing:
        records, calls, spent = _drawn(run, campaign, asked, portion, state.path)
        state.write(portion.name, _lines(records))
        fresh, evaluations, seconds = fresh + size[portion], evaluations + calls, seconds + spent
        pace = {f"{campaign.unit}s/s": fresh / (time.monotonic() - begun)}
        here, _ = _judged(campaign, records)
        if here is not None:
            good += here
            pace["passed/share"] = good / fresh
        watch.logged("drawing", there + fresh, portion.number, pace)
    records = [record for portion in portions for record in state.read_json(portion.name)]
    with writing(folder):
        tables = tuple(campaign.finish(asked.options, folder, records))
    watch.finished("drawing")
    passed, refused = _judged(campaign, records)
    counts = fresh, evaluations, seconds, time.monotonic() - begun
    return Campaigned(folder, tables, tuple(records), passed, refused, cautions, *counts)


def _judged(
    campaign: Campaign, records: Sequence[Mapping[str, Any]]
) -> tuple[int | None, tuple[tuple[str, int], ...]]:
    """How many pass, and how often each reason kept others from it; (None, ()) if nobody judges."""
    if campaign.reasons is None:
        return None, ()
    found = [dict.fromkeys(campaign.reasons(record)) for record in records]
    against = Counter(reason for reasons in found for reason in reasons)
    return sum(not reasons for reasons in found), tuple(against.most_common())


def _portions(campaign: Campaign, asked: Asked) -> list[Portion]:
    """All that hold a sample which was asked for."""
    found: list[Portion] = []
    first = 0
    while first < asked.num:
        found.append(Portion(len(found), first, max(1, campaign.portion(asked.options, first))))
        first += found[-1].count
    return found


def _whole(file: Path, size: int, files: frozenset[str]) -> bool:
    """Whether a portion is done: one that is damaged, lost a file, or was cut by a smaller number is drawn again."""
    records = _read(file)
    if not isinstance(records, list) or len(records) != size:
        return False
    return all(isinstance(one, dict) and files.issuperset(one.get("files") or ()) for one in records)


def _read(file: Path) -> Any:
    """What a file of the hidden folder holds; None where it is missing or damaged."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _begin(state: RunFolder, told: Mapping[str, Any]) -> None:
    """Note what is asked in the hidden folder, new or of the same campaign, which may have been smaller.

    Raises:
        FewstepError: the folder holds another campaign, or one that cannot tell what it is.
    """
    before = _read(state.path / "asked.json")
    if isinstance(before, dict) and "num" in before:
        _check_same(before, told, state.path.parent)
    elif any(state.path.glob("*.json")):
        raise FewstepError(
            f"{state.path} holds a campaign whose question is missing or damaged",
            "asked.json as it was written",
            "give another --out, or delete that hidden folder to draw anew",
        )
    state.write_json("asked.json", told)


def _check_same(before: Mapping[str, Any], told: Mapping[str, Any], folder: Path) -> None:
    """Two questions may differ in their number, which grows.

    Raises:
        FewstepError: they differ in something else, or fewer are asked for than before.
    """
    then, now = _question(before), _question(told)
    rest = [name for name in {**now, **then} if name not in ("num", "cautions")]
    differing = [name for name in rest if then.get(name) != now.get(name)]
    if differing:
        lines = [f"{name}: {then.get(name)!r} there, {now.get(name)!r} asked" for name in differing]
        raise FewstepError(
            f"{folder} holds another campaign\n" + "\n".join(lines),
            "the same question, to go on with it, or a larger number of the same",
            "give another --out, or ask what was asked before",
        )
    if then["num"] > now["num"]:
        raise FewstepError(
            f"{folder} was begun with {then['num']} samples, {now['num']} are asked for",
            "as many or more: a campaign grows and does not shrink",
            f"ask for --num {then['num']}, or give another --out",
        )


def _question(told: Mapping[str, Any]) -> dict[str, Any]:
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
        "cautions": cautions_of(options),
        "version": fewstep.__version__,
        # Another kind rounds otherwise, and holds other numbers of samples at once.
        "device": run.setup.device.partition(":")[0],
    }


def _drawn(
    run: Run, campaign: Campaign, asked: Asked, portion: Portion, state: Path
) -> tuple[list[Mapping[str, Any]], int, float]:
    """Records of a portion in order, network calls and seconds; its files are written into a draft, then moved."""
    key, device = run.setup.site.key.at("campaign", asked.seed, portion.number), run.setup.device
    sampler, about = run.sampler(asked.contender, asked.steps), _about(run, asked)
    batch = run.product.request(asked.options, portion.count, key.at("request"))
    draft = _empty(state / "draft")
    found: dict[int, Mapping[str, Any]] = {}
    calls, seconds = 0, 0.0
    for i, (which, part) in enumerate(campaign.parts(batch, device)):
        kept = (which < asked.num - portion.first).nonzero()[:, 0]
        if not len(kept):
            continue
        drawn = drawn_once(asked.contender, sampler, run.shelf, part, key.at("draw", i), device)
        calls, seconds = calls + drawn.evaluations, seconds + drawn.seconds
        drawn = replace(drawn, x=tree_map(lambda leaf, rows=kept: leaf[rows], drawn.x), batch=part.take(kept))
        numbers = (portion.first + which[kept]).tolist()
        with writing(draft):
            records = campaign.write(
                asked.options, drawn, draft, numbers, {**about, "calls": drawn.evaluations}
            )
        found.update(zip(numbers, records, strict=True))
    with writing(state.parent):
        for file in sorted(draft.iterdir()):
            file.replace(state.parent / file.name)
    return [found[number] for number in sorted(found)], calls, seconds


def _empty(folder: Path) -> Path:
    """The folder, made or emptied."""
    with writing(folder):
        folder.mkdir(exist_ok=True)
        for left in folder.iterdir():
            left.unlink()
    return folder


def _lines(records: Sequence[Mapping[str, Any]]) -> str:
    """A list in JSON with a record a line."""
    return "[\n" + ",\n".join(json.dumps(record, ensure_ascii=False) for record in records) + "\n]\n"
