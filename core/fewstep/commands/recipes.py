"""``fewstep recipes``: what can be run here, and what could be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fewstep.commands._output import show_json, show_lines, show_table

if TYPE_CHECKING:
    from fewstep.plugins.registry import Recipe


def recipes(
    plugin: Annotated[str, typer.Option("--plugin", "-p", help="Only those of this plugin.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """List recipes: a way each from a teacher to a few-step student.

    Examples: fewstep recipes · fewstep recipes --plugin audio · fewstep recipes --json
    """
    from fewstep.plugins.loader import registry

    found = registry()
    if plugin:
        found.plugin(plugin)
    rows = [_facts(recipe) for recipe in found.recipes if plugin in ("", recipe.plugin.name)]
    if as_json:
        show_json(rows)
        return
    show_table(
        "", ("recipe", "what it does", "state"), [(row["name"], row["summary"], _state(row)) for row in rows]
    )
    lines = dict.fromkeys(f"{row['install']}    # for {row['plugin']}" for row in rows if row["install"])
    show_lines("To install:", lines)
    failed = [one for one in found.plugins if one.failed]
    show_lines(
        "Plugins that did not load (fewstep plugins tells more):",
        [f"{one.name}: {one.reason}" for one in failed],
    )


def _facts(recipe: Recipe) -> dict[str, Any]:
    """One recipe as JSON shows it."""
    state = recipe.readiness
    return {
        "name": recipe.name,
        "summary": recipe.spec.summary,
        "plugin": recipe.plugin.name,
        "distribution": recipe.plugin.distribution,
        "extra": recipe.spec.extra,
        "paper": recipe.spec.paper,
        "presets": list(recipe.spec.presets),
        "gates": [gate.metric for gate in recipe.spec.gates],
        "ready": state.ready,
        "install": state.install,
        "needs": [str(missing) for missing in state.missing],
        "problem": state.problem,
    }


def _state(row: dict[str, Any]) -> str:
    """One word or two."""
    return "ready" if row["ready"] else "needs install" if row["install"] else "problem"
