"""``fewstep run``: from a teacher to a few-step student, with its report."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fewstep.commands._output import show_json, show_measured

if TYPE_CHECKING:
    from fewstep.runs.handle import Run


def run(
    recipe: Annotated[str, typer.Argument(help="Such as audio/comospeech; fewstep recipes lists them.")],
    config: Annotated[Path | None, typer.Option("--config", "-c", help="YAML file with settings.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="name=value or part.name=value, again for more; see fewstep show."),
    ] = None,
    profile: Annotated[
        str, typer.Option("--profile", "-p", help="A preset, such as smoke; fewstep show RECIPE lists them.")
    ] = "",
    resume: Annotated[
        Path | None, typer.Option("--resume", help="Go on with this folder; its settings stay.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", "--runs", help="Where runs are made.")] = Path("runs"),
    seed: Annotated[int | None, typer.Option("--seed", help="Short for -s seed=...")] = None,
    device: Annotated[
        str, typer.Option("--device", help="cpu, cuda, cuda:1; by default the best there is.")
    ] = "",
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress; results and errors only.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON; implies --quiet.")
    ] = False,
) -> None:
    """Train a student, measure it beside its teacher, and write a folder with samples, weights and report.

    Ctrl-C stops after the current update and saves; the message says how to go on. Exit code 130 then.

    Examples: fewstep run text/didi --profile smoke · fewstep run protein/sid-backbone -s objective=dmd -s steps=500
    · fewstep run text/didi --resume runs/text/didi/...
    """
    from fewstep.runs.runner import InterruptedRunError
    from fewstep.runs.runner import run as train

    sets = [*(settings or []), *([] if seed is None else [f"seed={seed}"])]
    try:
        done = train(
            recipe,
            profile=profile,
            config=config,
            settings=sets,
            resume=resume,
            out=out,
            device=device,
            quiet=quiet or as_json,
        )
    except InterruptedRunError as stop:
        typer.echo(str(stop), err=True)
        raise typer.Exit(130) from stop
    tell(done, as_json)


def tell(done: Run, as_json: bool) -> None:
    """What a run showed and where its files are."""
    from fewstep.runs import story

    if done.evaluation is None:
        return
    report = done.folder / "report.html"
    if as_json:
        show_json({"folder": str(done.folder), "report": str(report), **done.evaluation.as_json()})
        return
    head, rows = story.table_head(done.product), story.table_rows(done.evaluation, done.product)
    show_measured(head[1:], {row[0]: {"": row[1:]} for row in rows})
    for gate in done.evaluation.gates:
        typer.echo(f"{'passed' if gate.passed else 'FAILED'}: {story.gate_sentence(gate)}")
    typer.echo(f"\n{story.headline(done.evaluation, done.product)} {story.verdict(done.evaluation)}\n")
    typer.echo(f"report   {report}")
    for file in sorted(path for path in (done.folder / "samples").rglob("*") if path.is_file())[:12]:
        typer.echo(f"sample   {file}")
    typer.echo(f"more     fewstep sample {shlex.quote(str(done.folder))}")
