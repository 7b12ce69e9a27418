"""How commands print: tables for people, JSON for scripts, and install lines that never wrap."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


def console() -> Console:
    """Standard output, with color where the terminal has it."""
    from rich.console import Console

    return Console(highlight=False, markup=False)


def show_json(data: Any) -> None:
    """Print ``data`` as indented JSON and nothing else."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; cells are plain text, so ``[3d]`` stays what it is."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console().print(table)


Columns = Mapping[str, Mapping[str, Sequence[str]]]
"""Group -> column -> a text for each line of a table. A group's only column may be named ""."""


def show_measured(labels: Sequence[str], columns: Columns) -> None:
    """Print a table downwards: a line for each label, columns in groups; several tables where one would wrap.

    Intervals in brackets are left out where all columns would not fit beside each other with them.
    """
    width = console().width
    left = _block("", {"" if all("" in some for some in columns.values()) else " ": labels}, str.ljust)
    blocks = [_block(group, some) for group, some in columns.items()]
    if sum(2 + len(block[0]) for block in blocks) > width - len(left[0]):
        room = width - len(left[0]) - 2
        blocks = [block for group, some in columns.items() for block in _short(group, some, room)]
    for table in _filled(left, blocks, width):
        typer.echo("\n".join(["", *(line.rstrip() for line in table)]))
    typer.echo()


def _short(group: str, columns: Mapping[str, Sequence[str]], width: int) -> list[list[str]]:
    """A group without intervals as one block, or as one for each column where it is too wide."""
    columns = {name: [cell.partition(" [")[0] for cell in cells] for name, cells in columns.items()}
    block = _block(group, columns)
    return [block] if len(block[0]) <= width else [_block(group, {n: cells}) for n, cells in columns.items()]


def _block(
    group: str, columns: Mapping[str, Sequence[str]], to: Callable[[str, int], str] = str.rjust
) -> list[str]:
    """Lines of equal width: the group, its columns' names if they have some, their texts."""
    named = [[*([name] if name else []), *cells] for name, cells in columns.items()]
    wide = [max(map(len, cells)) for cells in named]
    lines = ["  ".join(map(to, row, wide)) for row in zip(*named, strict=True)]
    return [to(line, max(len(group), len(lines[0]))) for line in (group, *lines)]


def _filled(left: list[str], blocks: Iterable[list[str]], width: int) -> Iterator[list[str]]:
    """Blocks beside each other as long as they fit; then the labels begin a new table."""
    table = left
    for block in blocks:
        if table is not left and len(table[0]) + 2 + len(block[0]) > width:
            yield table
            table = left
        table = [f"{line}  {cell}" for line, cell in zip(table, block, strict=True)]
    yield table


def show_lines(title: str, lines: Iterable[str]) -> None:
    """Print lines under a title, each on one line however wide the terminal is; nothing when there are none."""
    kept = tuple(lines)
    if kept:
        typer.echo("\n".join((title, *(f"  {line}" for line in kept))))
