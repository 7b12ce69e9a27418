"""What the protein plugin offers: descriptors only, so that this module imports in milliseconds.

Each family of recipes describes itself in ``<family>/spec.py``.
"""

from __future__ import annotations

from collections.abc import Iterable

from fewstep.plugins import RecipeSpec, hookimpl
from fewstep_protein.rouse import spec as rouse
from fewstep_protein.sid_backbone import spec as sid_backbone

PROTOCOL = (0, 1)


@hookimpl
def fewstep_recipes() -> Iterable[RecipeSpec]:
    """Recipes of this plugin."""
    yield rouse.RECIPE
    yield sid_backbone.RECIPE
