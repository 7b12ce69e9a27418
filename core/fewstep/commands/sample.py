"""``fewstep sample``: new samples from a finished run, as native files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fewstep.commands._output import show_json

if TYPE_CHECKING:
    from fewstep.runs.handle import Run

CONTEXT = {"ignore_unknown_options": True, "allow_extra_args": True}
"""The options of a product are known only when its run is opened, so what is left over is read by hand."""
MOST_TOLD = 5
"""Reasons against samples that are named."""


def sample(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help="A run folder, or a recipe's name for its newest run.")],
    num: Annotated[int, typer.Option("--num", "-n", help="How many samples, 1,000,000 at most.")] = 4,
    seed: Annotated[int, typer.Option("--seed", help="Another seed gives other samples.")] = 0,
    steps: Annotated[int | None, typer.Option("--steps", help="Network steps of the student.")] = None,
    contender: Annotated[
        str, typer.Option("--contender", help="Who draws: student, teacher, ...")
    ] = "student",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the files, or, of a single sample, the file's name."),
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Write piece by piece, however long; --out - is standard output.")
    ] = False,
    runs: Annotated[Path, typer.Option("--runs", help="Where runs are kept.")] = Path("runs"),
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1.")] = "",
    options: Annotated[
        bool, typer.Option("--options", help="List what this product may be asked, and stop.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress; results and errors only.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Draw from a finished run; what may be asked (a text, a length, ...) depends on the recipe: see --options.

    Examples: fewstep sample text/didi --num 8 --seed 3 · fewstep sample runs/... --options ·
    fewstep sample audio/comospeech --text "Good morning." --num 1 --out hello.wav ·
    fewstep sample audio/comospeech --text "$(cat book.txt)" --stream --out book.wav
    """
    from fewstep.runs.campaign import check_count
    from fewstep.runs.folder import find_run
    from fewstep.runs.handle import names_a_file
    from fewstep.runs.runner import load
    from fewstep.runs.story import many

    check_count(num)
    opened = load(find_run(run, runs).path, device)
    if options:
        _list(opened.product.options)
        return
    asked = parse_options(context.args)
    if stream:
        _stream(opened, out, as_json, asked, seed=seed, steps=steps, contender=contender)
        return
    if opened.product.campaign is not None and (out is None or not names_a_file(out)):
        place = opened.folder / "samples" / f"{contender}-seed{seed}" if out is None else out
        asked |= {"seed": seed, "steps": steps, "contender": contender, "quiet": quiet or as_json}
        _campaign(opened, place, num, as_json, asked)
        return
    drawn = opened.sample(num, seed=seed, steps=steps, contender=contender, out=out, **asked)
    if as_json:
        facts = {"cautions": drawn.cautions, "evaluations": drawn.evaluations, "seconds": drawn.seconds}
        show_json({"files": [str(file) for file in drawn.files], **facts})
        return
    for caution in () if quiet else drawn.cautions:
        typer.echo(f"caution: {caution}", err=True)
    for file in drawn.files:
        typer.echo(str(file))
    typer.echo(f"{many(num, 'sample')}, {many(drawn.evaluations, 'network call')}, {drawn.seconds:.3g} s")


def _stream(run: Run, out: Path | None, as_json: bool, asked: dict[str, Any], **who: Any) -> None:
    """Write a stream to a file, telling on standard error how far it is."""
    from functools import partial

    from fewstep.runs.campaign import cautions_of
    from fewstep.runs.handle import check_file, conditions, names_a_file
    from fewstep.runs.story import many
    from fewstep.runs.streams import STANDARD_OUTPUT, save

    pieces, offered = run.stream(**asked, **who), run.product.stream
    assert offered is not None  # run.stream refuses a product without one
    file = run.folder / "samples" / "stream" if out is None else out
    if file != STANDARD_OUTPUT:
        if names_a_file(file):
            check_file(file, 1, {offered.suffix})
        else:
            file = file / f"stream{offered.suffix}"
    say, cautions = partial(typer.echo, err=True), cautions_of(conditions(offered.options, asked))
    for caution in cautions:
        say(f"caution: {caution}")
    done = save(offered, pieces, file, say)
    if as_json and file != STANDARD_OUTPUT:
        facts = {"pieces": done.pieces, "first_seconds": done.first, "seconds": done.seconds}
        show_json({"files": [str(file)], "cautions": cautions, **facts})
        return
    say(f"{many(done.pieces, 'piece')} in {done.seconds:.3g} s, the first after {done.first:.2g} s")
    if file != STANDARD_OUTPUT:
        typer.echo(str(file))


def _campaign(run: Run, folder: Path, num: int, as_json: bool, asked: dict[str, Any]) -> None:
    """Fill a folder, telling on standard error how far it is."""
    from fewstep.runs.story import many

    assert run.product.campaign is not None  # the caller asked
    unit, done = run.product.campaign.unit, run.campaign(num, folder, **asked)
    if as_json:
        facts = {"evaluations": done.evaluations, "seconds": done.seconds, "elapsed": done.elapsed}
        show_json(
            {
                "folder": str(done.folder),
                "tables": [str(table) for table in done.tables],
                "fresh": done.fresh,
                "passed": done.passed,
                "refused": dict(done.refused),
                "cautions": done.cautions,
                **facts,
            }
        )
        return
    for table in done.tables:
        typer.echo(str(table))
    kept = f", {num - done.fresh} were there" if done.fresh < num else ""
    pace = f", {done.fresh / done.elapsed:.3g} a second" if done.fresh else ""
    typer.echo(
        f"{many(num, unit)} in {done.folder}{kept}: {many(done.evaluations, 'network call')}, "
        f"{done.seconds:.3g} s of {done.elapsed:.3g} s{pace}"
    )
    if done.passed is not None:
        against = ", ".join(f"{reason} {count}" for reason, count in done.refused[:MOST_TOLD])
        told = f"; the most common reasons against the others: {against}" if against else ""
        typer.echo(f"{done.passed} of {num} passed ({done.passed / num:.0%}){told}")


def parse_options(words: list[str]) -> dict[str, Any]:
    """``--text hello --loud --size=3`` as a mapping; a name without a value is true.

    Raises:
        FewstepError: a word that belongs to no option.
    """
    from fewstep.errors import FewstepError

    found: dict[str, Any] = {}
    name = ""
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            name = name.replace("-", "_")
            found[name] = value if equals else True
            name = "" if equals else name
        elif name:
            found[name] = word
            name = ""
        else:
            raise FewstepError(
                f"{word!r} belongs to no option", "--name value", 'put a text of several words in "quotes"'
            )
    return found


def _list(model: Any) -> None:
    from fewstep.commands._output import show_table
    from fewstep.config.fields import describe

    rows = [
        (f"--{r.name.replace('_', '-')}", r.type, r.default, r.bounds, r.description) for r in describe(model)
    ]
    show_table("", ("option", "type", "default", "bounds", "what it is"), rows)
