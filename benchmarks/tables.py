"""From methods to a table: controls first, then every row over its seeds, printed and written between two markers."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from methods import METHODS
from torch import Tensor
from toys import DRAWN, Counter, Toy, drawn, train

from fewstep.protocol import Batch, Key, Step
from fewstep.samplers import heun, one_call_sampler, solver_sampler

QUICK = 3
"""Updates of a row when only its health is asked for."""


@dataclass(frozen=True)
class Row:
    """One seed of one line of the table.

    Args:
        name: of the line.
        seed: of the training.
        found: metric -> number.
        passed: whether the gate is passed.
        calls: network calls for one sample.
        updates: cycles of training; 0 for what is not trained.
        cost: network calls of one cycle.
        seconds: processor time of the training.
    """

    name: str
    seed: int
    found: dict[str, float]
    passed: bool
    calls: float
    updates: int = 0
    cost: float = 0.0
    seconds: float = 0.0


def controls(toy: Toy) -> Iterator[Row]:
    """Fresh data, the exact teacher with few steps, and its clean estimate of pure noise."""
    yield _row(toy, "data", toy.draw(Key(79), DRAWN), 0)
    teacher = toy.exact(toy.processes["edm"])
    samplers = {f"teacher, Heun {n}": solver_sampler("teacher", heun, n) for n in (16, 8, 4, 2, 1)}
    samplers["teacher, one call"] = one_call_sampler("teacher")
    batch = Batch(like=torch.zeros(DRAWN, toy.size))
    for name, sampler in samplers.items():
        counter = Counter()
        counter.watch(teacher)
        with torch.no_grad():
            *_, last = sampler.fn({"teacher": teacher}, batch, Step.inference(Key(77)))
        counter.stop()
        yield _row(toy, name, last.x, counter.calls)


def trained(toy: Toy, name: str, seed: int, quick: bool = False) -> Row:
    """One method with one seed."""
    run = train(METHODS[name], toy, seed, QUICK if quick else None)
    x, calls = drawn(run.student, toy, Key(77).at(seed), 400 if quick else DRAWN)
    row = _row(toy, name, x, calls)
    return Row(name, seed, row.found, row.passed, calls, run.updates, run.calls, run.seconds)


def _row(toy: Toy, name: str, x: Tensor, calls: float) -> Row:
    found = toy.measure(x)
    return Row(name, 0, found, toy.passes(found), calls)


def table(rows: Sequence[Row]) -> list[list[str]]:
    """Header and lines; several seeds of one line become their median and range."""
    lines: dict[str, list[Row]] = {}
    for row in rows:
        lines.setdefault(row.name, []).append(row)
    metrics = list(rows[0].found)
    header = ["", *metrics, "gate", "calls / sample", "updates", "calls / update", "CPU seconds"]
    return [header, *(_line(name, seeds, metrics) for name, seeds in lines.items())]


def _line(name: str, seeds: list[Row], metrics: Sequence[str]) -> list[str]:
    passed = sum(row.passed for row in seeds)
    gate = "passed" if passed == len(seeds) else "failed" if not passed else f"{passed} of {len(seeds)}"
    first = seeds[0]
    seconds = f"{statistics.median(row.seconds for row in seeds):.0f}" if first.updates else ""
    cost = [str(first.updates), f"{first.cost:.3g}", seconds] if first.updates else ["", "", ""]
    cells = [_spread([row.found[metric] for row in seeds]) for metric in metrics]
    return [name, *cells, gate, f"{first.calls:g}", *cost]


def _spread(values: Sequence[float]) -> str:
    middle = _short(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({_short(min(values))} to {_short(max(values))})"


def _short(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 0.1 else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table that reads well as plain text too."""
    header, *rest = ("| " + " | ".join(line) + " |" for line in lines)
    return "\n".join([header, "|" + "---|" * len(lines[0]), *rest])


def write(path: Path, name: str, text: str) -> None:
    """Put a toy's table between its markers on a page.

    Raises:
        ValueError: if the page has no such markers.
    """
    begin, end = markers(name)
    page = path.read_text()
    if begin not in page or end not in page:
        raise ValueError(f"{path} has no lines {begin} and {end} to write between")
    before, after = page.split(begin)[0], page.split(end)[1]
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def markers(name: str) -> tuple[str, str]:
    """Where a toy's table begins and ends on a page."""
    return (
        f"<!-- table of {name}: python benchmarks/{name}.py --write -->",
        f"<!-- end of table of {name} -->",
    )


def remembered(toy: Toy, path: Path | None) -> list[Row]:
    """Rows that an earlier run left in a file, held to today's gate."""
    if path is None or not path.exists():
        return []
    rows = [Row(**values) for values in json.loads(path.read_text())]
    return [replace(row, passed=toy.passes(row.found)) for row in rows]


def main(toy: Toy, about: str) -> None:
    """The command of a toy."""
    asked = _arguments(about)
    torch.set_num_threads(1)
    rows = {(row.name, row.seed): row for row in remembered(toy, asked.json)}
    for row in _made(toy, asked, rows):
        rows[row.name, row.seed] = row
        print(" | ".join(_line(row.name, [row], list(row.found))), flush=True)
        if asked.json is not None:
            asked.json.write_text(json.dumps([asdict(row) for row in rows.values()], indent=1))
    text = markdown(table(_ordered(rows.values())))
    print(f"\n{text}")
    if asked.write is not None:
        write(asked.write, toy.name, text)


def _made(toy: Toy, asked: Any, known: Mapping[Any, Row]) -> Iterator[Row]:
    """The rows that are asked for and not remembered."""
    if ("data", 0) not in known:
        yield from controls(toy)
    for name in asked.methods:
        for seed in asked.seeds:
            if (name, seed) not in known or asked.again:
                yield trained(toy, name, seed, asked.quick)


def _ordered(rows: Any) -> list[Row]:
    """Controls, then methods as they are registered."""
    place = {name: i for i, name in enumerate(METHODS)}
    return sorted(rows, key=lambda row: (place.get(row.name, -1), row.seed))


def _arguments(about: str) -> Any:
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument(
        "--methods", type=_names, default=tuple(METHODS), help="rows, with commas; all by default"
    )
    parser.add_argument("--seeds", type=_numbers, default=(0,), help="with commas")
    parser.add_argument("--quick", action="store_true", help="a few updates of each: is it healthy?")
    parser.add_argument("--json", type=Path, help="keeps rows there; what it holds is not run again")
    parser.add_argument("--again", action="store_true", help="run methods though the file holds them")
    parser.add_argument("--write", type=Path, help="a page with the table's markers")
    return parser.parse_args()


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no such row: {', '.join(unknown)}; there are {', '.join(METHODS)}")
    return names


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))
