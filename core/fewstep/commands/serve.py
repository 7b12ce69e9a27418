"""``fewstep serve``: a small page for a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    run: Annotated[str, typer.Argument(help="A run folder, or a recipe's name for its newest run.")],
    port: Annotated[int, typer.Option("--port", "-p", help="0 takes a free one.", min=0, max=65535)] = 8000,
    host: Annotated[
        str,
        typer.Option("--host", help="Where to listen; at 0.0.0.0 anybody who reaches this machine may draw."),
    ] = "127.0.0.1",
    runs: Annotated[Path, typer.Option("--runs", help="Where runs are kept.")] = Path("runs"),
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1.")] = "",
) -> None:
    """Serve a page where one types what is wanted and sees or hears student and teacher side by side.

    Needs the extra "serve"; if it is missing, the line that installs it is told. Nothing is asked of any other machine.
    Ctrl-C ends it.

    Examples: fewstep serve audio/comospeech · fewstep serve runs/text/didi/... --port 0
    """
    from fewstep.runs import serve as serving
    from fewstep.runs.folder import find_run
    from fewstep.runs.runner import load

    serving.require()
    listening = serving.bound(host, port)
    opened = load(find_run(run, runs).path, device)
    typer.echo(f"{opened.name}\nhttp://{host}:{listening.getsockname()[1]}   (Ctrl-C ends it)")
    serving.serve(opened, host, listening)
