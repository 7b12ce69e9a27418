"""``fewstep export``: a finished student for elsewhere."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from fewstep.commands._output import show_json


def export(
    run: Annotated[str, typer.Argument(help="A run folder, or a recipe's name for its newest run.")],
    form: Annotated[
        list[str] | None,
        typer.Option("--format", "-f", help="safetensors (default), torch (.pt2) or onnx; again for more."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder; export/ in the run folder by default.")
    ] = None,
    runs: Annotated[Path, typer.Option("--runs", help="Where runs are kept.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Write the student as weights, or as a graph that runs without fewstep. Each file is compared with the student first.

    A graph holds all steps of the student: large networks of many steps take minutes to trace.

    Examples: fewstep export text/didi · fewstep export audio/comospeech --format onnx --format torch --out speaker
    """
    from fewstep.runs.export import WEIGHTS, export_run
    from fewstep.runs.folder import find_run
    from fewstep.runs.runner import load

    opened = load(find_run(run, runs).path, "cpu")
    place = out if out is not None else opened.folder / "export"
    found = export_run(opened, form or [WEIGHTS], place, partial(typer.echo, err=True))
    if as_json:
        show_json([{"file": str(one.file), "error": one.error, "compared": one.about} for one in found])
        return
    for one in found:
        size = one.file.stat().st_size / 1e6
        typer.echo(f"{one.file}  {size:.3g} MB, largest error {one.error:.2g} over {one.about}")
    if (place / "run.py").is_file():
        typer.echo(f"try      python {place / 'run.py'}   # needs no fewstep")
