"""What the family of DITTO-2 offers: descriptors only."""

from __future__ import annotations

from fewstep.plugins import Gate, RecipeSpec

SMOKE = {
    "music.tunes": 8,
    "music.held_out": 3,
    "music.seconds": 8.0,
    "music.programs": (4,),
    "network.channels": 64,
    "network.dilations": (1, 2, 4, 1),
    "shown": 64,
    "samples": 6,
    "teacher_updates": 200,
    "teacher_steps": 8,
    "updates": 80,
    "search.iterations": 30,
}

RECIPE = RecipeSpec(
    name="audio/ditto2",
    summary="Make music that does what is asked, by optimising the noise of a one-step student",
    config="fewstep_audio.ditto2.config:Ditto2Config",
    build="fewstep_audio.ditto2.recipe:build",
    extra="music",
    paper="Novack et al.: DITTO-2, 2024, arXiv:2405.20289",
    presets={"smoke": SMOKE, "demo": {}},
    gates=(
        Gate(
            metric="inpaint_error", of="controlled", control="controlled_renoised", at_most=0.33, why="unset"
        ),
    ),
)
