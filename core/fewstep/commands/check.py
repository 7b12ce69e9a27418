"""``fewstep check``: hold a plugin against the laws that core relies on."""

from __future__ import annotations

from typing import Annotated

import typer

from fewstep.commands._output import show_json, show_lines, show_table


def check(
    plugin: Annotated[str, typer.Argument(help="Name of an installed plugin.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
    trace: Annotated[bool, typer.Option("--trace", help="Show the full trace of what failed.")] = False,
) -> None:
    """Run the conformance kit on a plugin: its entry module, its recipes, and every part of them.

    Trains one step of every stage. Exit code 1 if a law is broken.

    Examples: fewstep check text · fewstep check circle --trace
    """
    from fewstep.testing.checks import run_checks
    from fewstep.testing.plugin_checks import check_plugin

    found = run_checks(check_plugin(plugin))
    if as_json:
        show_json([{"law": one.name, "ok": one.ok, "reason": one.reason} for one in found])
    else:
        rows = [("holds" if one.ok else "broken", one.name.replace("_", " "), one.reason) for one in found]
        show_table("", ("", "law", "reason"), rows)
        show_lines("Traces:", [one.trace for one in found if trace and not one.ok])
    if not all(one.ok for one in found):
        raise typer.Exit(1)
