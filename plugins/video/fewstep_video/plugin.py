"""What the video plugin offers: descriptors only, so that this module imports in milliseconds."""

from __future__ import annotations

from collections.abc import Iterable

from fewstep.plugins import Gate, RecipeSpec, hookimpl

PROTOCOL = (0, 1)

SMOKE = {
    "network.depth": 2,
    "teaching.steps": 700,
    "warming.steps": 80,
    "distilling.steps": 40,
    "objective.critic_updates": 3,
    "distilling.lr": 6e-4,
    "fake_lr": 1e-3,
    "samples": 48,
}

PAPER = {
    "clip.height": 64,
    "clip.width": 64,
    "clip.frames": 21,
    "clip.stride": 1,
    "network.width": 1536,
    "network.depth": 30,
    "network.heads": 12,
    "roll.block": 3,
    "roll.window": 3,
    "roll.sink": 3,
    "roll.shift": 5.0,
    "objective.critic_updates": 5,
    "distilling.rows": 64,
    "distilling.steps": 600,
    "distilling.lr": 2e-6,
    "fake_lr": 4e-7,
}


@hookimpl
def fewstep_recipes() -> Iterable[RecipeSpec]:
    """Recipes of this plugin."""
    yield RecipeSpec(
        name="video/self-forcing",
        summary="Turn a bidirectional teacher of moving digits into a causal student that streams",
        config="fewstep_video.self_forcing.config:SelfForcingConfig",
        build="fewstep_video.self_forcing.recipe:build",
        extra="video",
        paper="Huang, Li, He, Zhou, Shechtman: Self Forcing, 2025, arXiv:2506.08009",
        presets={"smoke": SMOKE, "paper": PAPER},
        gates=(
            Gate(
                metric="legibility",
                control="teacher_causal",
                at_least=0.65,
                profiles=("smoke",),
                why="three seeds: student 0.71 to 0.85, control 0.55 to 0.62",
            ),
            Gate(
                metric="flicker",
                control="teacher_causal",
                at_most=0.65,
                profiles=("default",),
                why="three seeds: student 0.50 to 0.58, control 0.77 to 0.87",
            ),
        ),
    )
