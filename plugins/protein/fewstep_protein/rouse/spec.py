"""Descriptors of ``protein/rouse``; importing this module imports no torch."""

from __future__ import annotations

from fewstep.plugins import Gate, RecipeSpec

SID = "Zhou et al.: Score identity distillation, 2024, arXiv:2404.04057"
ROUSE = (
    "three seeds gave 0.013 to 0.018 by default and 0.016 to 0.027 in smoke; sampling alone gives about 0.015"
)

RECIPE = RecipeSpec(
    name="protein/rouse",
    summary="Distill an exact Gaussian chain, where every number has a closed form",
    config="fewstep_protein.rouse.config:RouseConfig",
    build="fewstep_protein.rouse.recipe:build",
    extra="protein",
    paper=SID,
    presets={
        "smoke": {"updates": 600, "samples": 4096, "teacher_steps": 50},
        "paper": {"lengths": [16, 32, 64], "steps": 16, "updates": 20_000, "batch": 4096},
    },
    gates=(
        Gate(metric="w2", control="teacher_fewstep", at_most=0.03, profiles=("default",), why=ROUSE),
        Gate(metric="w2", control="teacher_ode", at_most=0.03, profiles=("default",), why=ROUSE),
        Gate(metric="w2", control="teacher_fewstep", at_most=0.06, profiles=("smoke",), why=ROUSE),
        Gate(metric="w2", control="teacher_ode", at_most=0.06, profiles=("smoke",), why=ROUSE),
    ),
)
