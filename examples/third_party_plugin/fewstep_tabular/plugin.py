"""What this plugin offers. Descriptors only: importing it costs milliseconds and no torch."""

from __future__ import annotations

from collections.abc import Iterable

from fewstep.plugins import Gate, RecipeSpec, hookimpl

PROTOCOL = (0, 1)
WHY = "three seeds, both objectives: student at most 0.035, control at least 0.34"


@hookimpl
def fewstep_recipes() -> Iterable[RecipeSpec]:
    """One recipe, two objectives."""
    yield RecipeSpec(
        name="tabular/wine",
        summary="Distill a generator of wines (13 measurements, 3 cultivars) into one step",
        config="fewstep_tabular.recipe:WineConfig",
        build="fewstep_tabular.recipe:build",
        paper="Data: Forina et al., UCI wine recognition, through scikit-learn",
        presets={"smoke": {"teacher_steps": 800, "steps": 400}, "dmd": {"objective": "dmd"}},
        gates=(Gate(metric="energy", control="teacher_1step", at_most=0.1, why=WHY),),
    )
