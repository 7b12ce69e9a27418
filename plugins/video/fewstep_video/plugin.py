"""What the video plugin offers: descriptors only, so that this module imports in milliseconds."""

from __future__ import annotations

from collections.abc import Iterable

from fewstep.plugins import RecipeSpec, hookimpl

PROTOCOL = (0, 1)


@hookimpl
def fewstep_recipes() -> Iterable[RecipeSpec]:
    """Recipes of this plugin."""
    return ()
