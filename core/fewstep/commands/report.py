"""``fewstep report``: measure a finished run again and write its report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewstep.commands._output import show_json


def report(
    run: Annotated[str, typer.Argument(help="A run folder, or a recipe's name for its newest run.")],
    runs: Annotated[Path, typer.Option("--runs", help="Where runs are kept.")] = Path("runs"),
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Write report.html and MODEL_CARD.md of a finished run: one file that opens anywhere, without a network.

    Examples: fewstep report text/didi · fewstep report runs/text/didi/...
    """
    from fewstep.commands.run import tell
    from fewstep.runs.folder import find_run
    from fewstep.runs.runner import load

    opened = load(find_run(run, runs).path, device)
    file = opened.report()
    if as_json and opened.evaluation is not None:
        show_json({"report": str(file), **opened.evaluation.as_json()})
        return
    tell(opened, as_json=False)
