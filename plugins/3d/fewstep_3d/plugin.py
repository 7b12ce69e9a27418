"""What the 3d plugin offers: descriptors only, so that this module imports in milliseconds."""

from __future__ import annotations

from collections.abc import Iterable

from fewstep.plugins import Gate, RecipeSpec, hookimpl

PROTOCOL = (0, 1)

SMOKE = {"prior": "exact", "side": 24, "steps": 120}


@hookimpl
def fewstep_recipes() -> Iterable[RecipeSpec]:
    """Recipes of this plugin."""
    yield RecipeSpec(
        name="3d/sds",
        summary="Distill a turnable scene from a camera-conditioned prior over its views",
        config="fewstep_3d.sds.config:SDSConfig",
        build="fewstep_3d.sds.recipe:build",
        extra="3d",
        paper="Poole, Jain, Barron, Mildenhall: DreamFusion, 2023, arXiv:2209.14988",
        presets={
            "smoke": SMOKE,
            "exact": {"prior": "exact"},
            "paper": {"size": 64, "side": 128, "cameras": 1, "steps": 10_000, "lr": 0.01},
        },
        gates=(
            Gate(
                metric="psnr",
                control="misled",
                at_least=20.0,
                profiles=("default",),
                why="three seeds: student 22.3, misled by a wrong camera 16.4 to 16.5 dB",
            ),
            Gate(
                metric="psnr",
                control="misled",
                at_least=21.0,
                profiles=("smoke", "exact"),
                why="three seeds of smoke: student 24.5 to 24.7, misled 16.7 to 16.8 dB",
            ),
        ),
    )
