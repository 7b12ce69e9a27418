"""What the audio plugin offers: descriptors only, so that this module imports in milliseconds.

Each family of recipes describes itself in ``<family>/spec.py``.
"""

from __future__ import annotations

from collections.abc import Iterable

from fewstep.plugins import CommandSpec, RecipeSpec, hookimpl
from fewstep_audio.comospeech import spec as comospeech
from fewstep_audio.comosvc import spec as comosvc
from fewstep_audio.ditto2 import spec as ditto2
from fewstep_audio.pipelines import spec as pipelines
from fewstep_audio.prodiff import spec as prodiff
from fewstep_audio.style_diffusion import spec as style_diffusion

PROTOCOL = (0, 1)


@hookimpl
def fewstep_recipes() -> Iterable[RecipeSpec]:
    """Recipes of this plugin."""
    yield comospeech.RECIPE
    yield comosvc.RECIPE
    yield ditto2.RECIPE
    yield prodiff.RECIPE
    yield style_diffusion.RECIPE
    yield pipelines.RECIPE


@hookimpl
def fewstep_commands() -> Iterable[CommandSpec]:
    """Commands of this plugin."""
    yield ditto2.COMMAND
    yield pipelines.COMMAND
    yield CommandSpec(
        name="audio/listen",
        summary="Words, voices, quality and melody of a run's speech or of recordings",
        target="fewstep_audio.listen:listen",
        extra="listening",
    )
