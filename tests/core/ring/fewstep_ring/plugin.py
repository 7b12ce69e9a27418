"""Descriptors only; nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Iterable

from fewstep.plugins import Gate, RecipeSpec, hookimpl

PROTOCOL = (0, 1)


@hookimpl
def fewstep_recipes() -> Iterable[RecipeSpec]:
    # Smoke profile, seeds 0 to 3: student 0.23, 0.23, 0.21, 0.23; teacher in one step 0.85, 0.84, 0.86, 0.87; what
    # was not trained at all draws a blob with 0.42.
    gate = Gate(
        metric="radius error",
        control="teacher_1step",
        at_most=0.4,
        why="The undistilled teacher in one step draws near the middle of the ring.",
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
