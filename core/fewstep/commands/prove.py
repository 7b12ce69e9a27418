"""``fewstep prove``: the student must meet its bound, and the control must miss it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewstep.commands._output import show_json, show_table


def prove(
    recipe: Annotated[str, typer.Argument(help="Such as audio/comospeech.")],
    profile: Annotated[
        str, typer.Option("--profile", "-p", help="The preset to prove; smoke where it has a gate.")
    ] = "",
    config: Annotated[Path | None, typer.Option("--config", "-c", help="YAML file with settings.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="One setting, as name=value.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", "--runs", help="Where runs are made.")] = Path("runs"),
    seed: Annotated[int | None, typer.Option("--seed", help="Short for -s seed=...")] = None,
    device: Annotated[
        str, typer.Option("--device", help="cpu, cuda, cuda:1; by default the best there is.")
    ] = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts; implies --quiet.")] = False,
) -> None:
    """Run a recipe and hold its gates against it. Exit code 1 unless every student passes and every control fails.

    Examples: fewstep prove text/didi · fewstep prove protein/sid-backbone --profile default --seed 3
    """
    from fewstep.errors import FewstepError
    from fewstep.plugins.loader import registry
    from fewstep.runs.runner import run as train
    from fewstep.runs.story import number

    spec = registry().recipe(recipe).spec
    smoke = "smoke" in spec.presets and spec.gates_of("smoke")
    profile = profile or ("smoke" if smoke else "default")
    if not spec.gates_of(profile):
        raise FewstepError(
            f"recipe {recipe!r} has no gate in profile {profile!r}, so there is nothing to prove",
            "a recipe with a gate whose control fails",
            f"fewstep show {recipe}   # lists its gates and their profiles",
        )
    sets = [*(settings or []), *([] if seed is None else [f"seed={seed}"])]
    done = train(
        recipe, profile=profile, config=config, settings=sets, out=out, device=device, quiet=quiet or as_json
    )
    evaluation = done.evaluation
    if evaluation is None:
        raise typer.Exit(1)
    if as_json:
        show_json({"folder": str(done.folder), **evaluation.as_json()})
    else:
        rows = []
        for gate in evaluation.gates:
            met, missed = ("yes" if so else "NO" for so in (gate.met, gate.missed))
            rows.append((gate.metric, gate.of, number(gate.value), gate.bound, "must meet", met))
            rows.append(("", gate.control, number(gate.control_value), gate.bound, "must miss", missed))
        show_table("", ("gate", "contender", "value", "bound", "", "so it is"), rows)
        typer.echo("proven" if evaluation.passed else "not proven")
        typer.echo(f"report   {done.folder / 'report.html'}")
    if not evaluation.passed:
        raise typer.Exit(1)
