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
STOOD = "seed 0 set it, 1, 2 and 3 confirmed it"

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
                why=f"student {mine}, control {blurred} ({STOOD})",
            )
            for metric, bound, mine, blurred in (
                ("distance", 6.5, "4.6 to 4.7 dB", "8.4 to 9.2 dB"),
                ("detail_gap", 0.25, "0.14 to 0.16", "0.36 to 0.38"),
            )
        ),
        *(
            Gate(
                metric=f"{asked}_error",
                of="controlled",
                control="controlled_renoised",
                at_most=bound,
                profiles=FULL,
                why=f"controlled {mine}, fresh noise {lost} ({STOOD})",
            )
            for asked, bound, mine, lost in (
                ("inpaint", THIRD, "0.09 to 0.11", "0.94 to 1.3"),
                ("intensity", 0.1, "0.01", "0.20 to 0.59"),
                ("melody", THIRD, "0.21 to 0.23", "1.0 to 1.1"),
            )
        ),
        Gate(
            metric="inpaint_error",
            of="controlled_teacher",
            control="controlled_teacher_1step",
            at_most=0.45,
            profiles=FULL,
            why="found through the student, it holds in the teacher's sample: 0.24 to 0.29; found through one call of the "
            f"teacher, it does not: 0.74 to 0.83 ({STOOD})",
        ),
        *(
            Gate(
                metric=f"{asked}_error",
                of="controlled",
                control="controlled_renoised",
                at_most=bound,
                profiles=("smoke",),
                why=f"controlled {mine}, fresh noise {lost} (seed 0 set it, 1 to 5 confirmed it)",
            )
            for asked, bound, mine, lost in (
                ("inpaint", 0.6, "0.34 to 0.38", "1.1 to 1.2"),
                ("intensity", 0.1, "0.005 to 0.007", "0.34 to 0.58"),
                ("melody", 0.75, "0.32 to 0.36", "1.0 to 1.2"),
            )
        ),
    ),
)

COMMAND = CommandSpec(
    name="audio/ditto",
    summary="Make music that does what is asked, from a run of audio/ditto2",
    target="fewstep_audio.ditto2.command:ditto",
    extra="music",
)
