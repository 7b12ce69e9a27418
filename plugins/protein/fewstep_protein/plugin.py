"""What the protein plugin offers: descriptors only, so that this module imports in milliseconds.

Each family of recipes describes itself in ``<family>/spec.py``.
"""

from __future__ import annotations

from collections.abc import Iterable

from fewstep.plugins import CommandSpec, RecipeSpec, hookimpl
from fewstep_protein.frames import spec as frames
from fewstep_protein.rouse import spec as rouse
from fewstep_protein.sequence_didi import spec as sequence_didi
from fewstep_protein.sid_backbone import spec as sid_backbone

PROTOCOL = (0, 1)


@hookimpl
def fewstep_recipes() -> Iterable[RecipeSpec]:
    """Recipes of this plugin."""
    yield rouse.RECIPE
    yield sid_backbone.RECIPE
    yield frames.RECIPE
    yield frames.ORACLE
    yield sequence_didi.RECIPE


@hookimpl
def fewstep_commands() -> Iterable[CommandSpec]:
    """Commands of this plugin."""
    yield CommandSpec(
        name="protein/harvest",
        summary="A file of real structures from PDB and mmCIF files, split by fold",
        target="fewstep_protein.structures.command:harvest",
        extra="protein",
    )
    yield CommandSpec(
        name="protein/sequences",
        summary="Sequences for backbones by ProteinMPNN, and whether a predictor folds them back",
        target="fewstep_protein.folding.command:sequences",
        extra="protein",
    )
