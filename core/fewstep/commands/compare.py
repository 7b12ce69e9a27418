"""``fewstep compare``: several finished runs on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewstep.commands._output import show_json, show_measured


def compare(
    runs_: Annotated[
        list[str], typer.Argument(metavar="RUN RUN...", help="Run folders, or recipes (their newest run).")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write, or replace.")] = Path(
        "compare.html"
    ),
    runs: Annotated[Path, typer.Option("--runs", help="Where runs are kept.")] = Path("runs"),
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Measure runs of one plugin again, side by side, and write one page that needs no network.

    All draw for the same held-out items from the same noise, so that their samples can be looked at or listened to side
    by side. Teachers draw too, so this takes as long as the measuring at the end of each run did.

    Examples: fewstep compare runs/text/didi/A runs/text/didi/B · fewstep compare text/didi text/markov --out both.html
    """
    from functools import partial

    from fewstep.runs import compare as comparing
    from fewstep.runs import story
    from fewstep.runs.folder import check_place, find_run
    from fewstep.runs.runner import load

    folders = [find_run(name, runs) for name in runs_]
    comparing.check(folders)
    check_place(out)
    opened = [load(folder.path, device) for folder in folders]
    say = partial(typer.echo, err=True)
    comparison = comparing.compare(opened, say)
    file = comparing.write(comparison, out)
    if as_json:
        show_json({"page": str(file), **comparison.as_json()})
        return
    show_measured(comparison.labels, comparison.columns)
    if comparison.gated:
        typer.echo("*        a gate asks it of this contender")
    for one in comparison.runs:
        typer.echo(f"{one.letter}        {one.run.folder}: {story.verdict(one.evaluation)}")
        typer.echo(f"         {story.training(one.run.files.training())}")
    if not comparison.same_items:
        typer.echo("caution  the runs do not share their held-out items")
    names = [name for name, _ in comparison.differences]
    typer.echo(f"differ   {', '.join(names) or 'in nothing but when they were made'}")
    typer.echo(f"page     {file}")
