"""``fewstep plugins``: what is installed, in what state, and what to type when something is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fewstep.commands._output import show_json, show_lines, show_table

if TYPE_CHECKING:
    from fewstep.plugins.registry import Plugin


def plugins(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """List plugins, their state, and the install line of those that lack something.

    Exit code 1 when a plugin is broken or speaks another protocol.

    Examples: fewstep plugins · fewstep plugins --json · FEWSTEP_STRICT=1 fewstep plugins
    """
    from fewstep.plugins.loader import registry

    found = registry()
    rows = [_facts(plugin) for plugin in found.plugins]
    if as_json:
        show_json({"plugins": rows, "notes": found.notes})
    else:
        _show(rows, found.notes)
    if any(plugin.failed for plugin in found.plugins):
        raise typer.Exit(1)


def _facts(plugin: Plugin) -> dict[str, Any]:
    """One plugin as JSON shows it."""
    state = plugin.readiness() if plugin.status == "loaded" else None
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "status": plugin.status,
        "reason": plugin.reason,
        "protocol": plugin.protocol,
        "hooks": plugin.hooks,
        "recipes": [spec.name for spec in plugin.recipes],
        "components": [spec.name for spec in plugin.components],
        "commands": [spec.name for spec in plugin.commands],
        "ready": bool(state and state.ready),
        "install": state.install if state else "",
        "needs": [str(missing) for missing in state.missing] if state else [],
        "problem": state.problem if state else "",
        "printed": plugin.printed,
    }


def _show(rows: list[dict[str, Any]], notes: tuple[str, ...]) -> None:
    """The table, then what to do."""
    show_table(
        "",
        ("plugin", "distribution", "state", "recipes"),
        [
            (row["name"], f"{row['distribution']} {row['version']}", _state(row), ", ".join(row["recipes"]))
            for row in rows
        ],
    )
    show_lines(
        "Not loaded:",
        [f"{row['name']} ({row['distribution']}): {row['reason']}" for row in rows if row["reason"]],
    )
    show_lines(
        "To install:",
        [
            f"{row['install']}    # {row['name']} needs {', '.join(row['needs'])}"
            for row in rows
            if row["install"]
        ],
    )
    show_lines("Problems:", [f"{row['name']}: {row['problem']}" for row in rows if row["problem"]])
    show_lines(
        "Printed while loading:", [f"{row['name']}: {line}" for row in rows for line in row["printed"]]
    )
    show_lines("Notes:", notes)


def _state(row: dict[str, Any]) -> str:
    """One word."""
    if row["status"] != "loaded":
        return str(row["status"])
    return "ready" if row["ready"] else "needs install" if row["install"] else "problem"
