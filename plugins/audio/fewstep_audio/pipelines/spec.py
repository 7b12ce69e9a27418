"""What the family of pipelines offers: descriptors only."""

from __future__ import annotations

from fewstep.plugins import CommandSpec, Gate, RecipeSpec

SMOKE = {"teacher_updates": 200, "updates": 220, "objective.steps": 10, "held_out": 16}

RECIPE = RecipeSpec(
    name="audio/pipeline",
    summary="Distil Stable Audio, AudioLDM 2, MusicLDM or ACE-Step from a local folder",
    config="fewstep_audio.pipelines.config:PipelineConfig",
    build="fewstep_audio.pipelines.recipe:build",
    extra="pipelines",
    paper="Luo et al.: Latent consistency models, 2023, arXiv:2310.04378",
    presets={"smoke": SMOKE, "demo": {}},
    gates=(
        Gate(
            metric="distance",
            control="teacher_few",
            at_most=0.85,
            profiles=("smoke",),
            why="seeds 0 to 2: students 0.59 to 0.69, controls 1.12 to 1.18; confirmed on 3 to 5: 0.60 to 0.70, 1.03 to "
            "1.17; shows that adapters, guidance and training work together, nothing about sound (the plugin's README)",
        ),
        Gate(
            metric="distance",
            control="teacher_few",
            at_most=0.5,
            profiles=("default", "demo"),
            why="seeds 0 and 1 set it, 2 to 4 confirmed it: students 0.29 to 0.38, controls 1.02 to 1.17; the best linear "
            "map of the noise reaches 0.61 on seed 0",
        ),
    ),
)

COMMAND = CommandSpec(
    name="audio/to-diffusers",
    summary="Write a few-step student of audio/pipeline as a folder that diffusers loads",
    target="fewstep_audio.pipelines.command:to_diffusers",
    extra="pipelines",
)
