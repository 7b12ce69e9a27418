"""What the family of DITTO-2 offers: descriptors only."""

from __future__ import annotations

from fewstep.plugins import CommandSpec, Gate, RecipeSpec

SMOKE = {
    "music.tunes": 6,
    "music.held_out": 3,
    "music.seconds": 6.0,
    "network.channels": 48,
    "network.dilations": (1, 2, 4, 8),
    "shown": 64,
    "samples": 6,
    "teacher_updates": 200,
    "teacher_steps": 8,
    "updates": 100,
    "search.iterations": 30,
}

FULL = ("default", "demo")
THIRD = 0.33

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
            metric="inpaint_error",
            of="controlled",
            control="controlled_renoised",
            at_most=THIRD,
            profiles=FULL,
            why="proposed, not yet run: no seed stands behind this bound",
        ),
        Gate(
            metric="inpaint_error",
            of="controlled",
            control="student",
            at_most=0.6,
            profiles=("smoke",),
            why="proposed, not yet run: no seed stands behind this bound",
        ),
    ),
)

COMMAND = CommandSpec(
    name="audio/ditto",
    summary="Make music that does what is asked, from a run of audio/ditto2",
    target="fewstep_audio.ditto2.command:ditto",
    extra="music",
)
