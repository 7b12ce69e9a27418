"""``fewstep show``: everything about a recipe before it is run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fewstep.commands._output import show_json, show_lines

if TYPE_CHECKING:
    from fewstep.plugins.specs import Gate


def show(
    recipe: Annotated[str, typer.Argument(help="Such as audio/comospeech.")],
    profile: Annotated[str, typer.Option("--profile", "-p", help="Resolve with this preset.")] = "",
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Resolve with this YAML file.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="Resolve with name=value.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Show a recipe: its settings with types, defaults, units and bounds; roles, stages, gates and citation.

    With --profile, -c or -s it shows the value that each setting would have, and where that comes from.

    Examples: fewstep show text/didi · fewstep show text/didi --profile smoke -s objective=dmd
    """
    from fewstep.config.fields import describe
    from fewstep.config.load import resolve
    from fewstep.plugins.loader import registry
    from fewstep.runs.setup import preset_of, roles_of

    found = registry().recipe(recipe).require()
    model = found.config_class()
    resolved = resolve(
        model, preset=preset_of(found, profile), profile=profile, file=config, sets=settings or []
    )
    rows = [asdict(row) for row in describe(model, given=resolved.config)]
    for row in rows:
        row["origin"] = resolved.origins.get(row["name"], "default")
    roles = roles_of(resolved.config)
    if as_json:
        gates = [asdict(gate) for gate in found.spec.gates]
        show_json({"name": recipe, "summary": found.spec.summary, "paper": found.spec.paper, "settings": rows,
                   "roles": roles, "gates": gates, "presets": list(found.spec.presets)})  # fmt: skip
        return
    typer.echo(f"{recipe}: {found.spec.summary}.")
    _settings(rows, "value" if profile or config or settings else "default")
    show_lines("Roles of the objective:", roles)
    presets = [f"{name}: {_told(values)}" for name, values in found.spec.presets.items()]
    show_lines("Profiles (--profile):", ["default: the values above", *presets])
    show_lines("Gates:", [_gate(gate) for gate in found.spec.gates])
    show_lines("Method:", [found.spec.paper] if found.spec.paper else [])


def _settings(rows: list[dict[str, str]], value: str) -> None:
    """Name and value stay whole however narrow the terminal; the rest folds under one heading."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from fewstep.commands._output import console

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("setting", no_wrap=True)
    table.add_column(value, max_width=16, overflow="fold")
    table.add_column("what it is")
    for row in rows:
        limits = [row["type"], row["unit"], row["bounds"], row["paper"]]
        limits += [f"from {row['origin']}"] if row["origin"] != "default" else []
        about = Text(row["description"] or row["name"])
        about.append(f"\n{' · '.join(filter(None, limits))}", style="dim")
        table.add_row(Text(row["name"]), Text(row["default"]), about)
    console().print(table)


def _told(values: Any) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items()) or "the defaults"


def _gate(gate: Gate) -> str:
    bound = f"<= {gate.at_most:g}" if gate.at_most is not None else f">= {gate.at_least:g}"
    where = f" (profiles {', '.join(gate.profiles)})" if gate.profiles else ""
    return f"{gate.metric} {bound}: {gate.of} must meet it, {gate.control} must miss it{where}"
