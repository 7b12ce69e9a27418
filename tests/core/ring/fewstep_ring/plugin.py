"""Descriptors only; nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Iterable

from fewstep.plugins import Gate, RecipeSpec, hookimpl

PROTOCOL = (0, 1)


@hookimpl
def fewstep_recipes() -> Iterable[RecipeSpec]:
    # Smoke profile, seeds 0, 1, 2: student 0.37, 0.41, 0.38; teacher in one step 0.96, 0.85, 0.98.
    gate = Gate(
        metric="radius error",
        control="teacher_1step",
        at_most=0.6,
        why="The undistilled teacher in one step draws the middle of the ring: an error of about 1.",
    )
    for name, gates in (("points", (gate,)), ("other", ())):
        yield RecipeSpec(
            name=f"ring/{name}",
            summary="Draw points on a ring in one step",
            config="fewstep_ring.recipe:RingConfig",
            build="fewstep_ring.recipe:build",
            paper="Song et al. 2023, Consistency Models, arXiv:2303.01469",
            presets={"smoke": {"teacher_steps": 300, "steps": 300}, "tiny": {"teacher_steps": 4, "steps": 3}},
            gates=gates,
        )
