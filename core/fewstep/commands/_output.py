"""How commands print: tables for people, JSON for scripts, and install lines that never wrap."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
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


def show_lines(title: str, lines: Iterable[str]) -> None:
    """Print lines under a title, each on one line however wide the terminal is; nothing when there are none."""
    kept = tuple(lines)
    if kept:
        typer.echo("\n".join((title, *(f"  {line}" for line in kept))))
