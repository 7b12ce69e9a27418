"""``fewstep schema``: the JSON schema of a recipe's settings, for editors."""

from __future__ import annotations

from typing import Annotated

import typer

from fewstep.commands._output import show_json


def schema(
    recipe: Annotated[str, typer.Argument(help="Such as audio/comospeech.")],
) -> None:
    """Print the JSON schema of a recipe's settings; editors check and complete YAML files with it.

    Example: fewstep schema text/didi > didi.schema.json
    """
    from fewstep.plugins.loader import registry

    made = registry().recipe(recipe).require().config_class().model_json_schema()
    show_json(
        {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": f"Settings of {recipe}"}
    )
