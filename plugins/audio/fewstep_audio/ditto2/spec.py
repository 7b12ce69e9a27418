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
    "teacher_updates": 160,
    "teacher_steps": 8,
    "updates": 80,
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
        *(
            Gate(
                metric=metric,
                control="teacher_1step",
                at_most=bound,
                profiles=FULL,
                why=f"student {mine}, control {blurred} (seed 0)",
            )
            for metric, bound, mine, blurred in (
                ("distance", 6.5, "4.6 dB", "8.4 dB"),
                ("detail_gap", 0.25, "0.16", "0.37"),
            )
        ),
        *(
            Gate(
                metric=f"{asked}_error",
                of="controlled",
                control="controlled_renoised",
                at_most=bound,
                profiles=FULL,
                why=f"controlled {mine}, fresh noise {lost} (seed 0)",
            )
            for asked, bound, mine, lost in (
                ("inpaint", THIRD, "0.11", "1.2"),
                ("intensity", 0.1, "0.01", "0.26"),
                ("melody", THIRD, "0.26", "1.1"),
            )
        ),
        *(
            Gate(
                metric=f"{asked}_error",
                of="controlled",
                control="controlled_renoised",
                at_most=bound,
                profiles=("smoke",),
                why="not yet run",
            )
            for asked, bound in (("inpaint", 0.6), ("intensity", 0.1), ("melody", 0.75))
        ),
    ),
)

COMMAND = CommandSpec(
    name="audio/ditto",
    summary="Make music that does what is asked, from a run of audio/ditto2",
    target="fewstep_audio.ditto2.command:ditto",
    extra="music",
)
