"""What the audio plugin offers: descriptors only, so that this module imports in milliseconds."""

from __future__ import annotations

from collections.abc import Iterable

from fewstep.plugins import Gate, RecipeSpec, hookimpl

PROTOCOL = (0, 1)

SMOKE = {
    "speech.sentences": 20,
    "network.channels": 64,
    "network.dilations": (1, 2, 4, 1),
    "teacher_updates": 300,
    "updates": 150,
}


@hookimpl
def fewstep_recipes() -> Iterable[RecipeSpec]:
    """Recipes of this plugin."""
    yield RecipeSpec(
        name="audio/comospeech",
        summary="Speak text in one network call by consistency distillation",
        config="fewstep_audio.comospeech.config:CoMoSpeechConfig",
        build="fewstep_audio.comospeech.recipe:build",
        extra="audio",
        paper="Ye et al.: CoMoSpeech, 2023, arXiv:2305.06908",
        presets={"smoke": SMOKE},
        gates=(Gate(metric="distance", control="teacher_1step", at_most=3.0, why=""),),
    )
