"""``fewstep new-plugin``: a plugin that works, to be changed part by part."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer


def new_plugin(
    name: Annotated[
        str, typer.Argument(help="Name of the modality: lower case letters, digits, underscores.")
    ],
    folder: Annotated[Path, typer.Argument(help="Where to write it; must not exist, or be empty.")],
) -> None:
    """Write a working plugin with one recipe, a gate and its tests.

    Examples: fewstep new-plugin circle ./fewstep-circle
    """
    from fewstep.plugins.skeleton import write_plugin

    for file in write_plugin(name, folder):
        typer.echo(f"  {file}")
    typer.echo(
        f"\nnext:\n  pip install -e {shlex.quote(str(folder))}\n  fewstep run {name}/ring\n  fewstep check {name}"
    )
