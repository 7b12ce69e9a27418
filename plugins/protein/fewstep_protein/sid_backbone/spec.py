"""Descriptors of ``protein/sid-backbone``; importing this module imports no torch."""

from __future__ import annotations

from fewstep.plugins import Gate, RecipeSpec

SID = "Zhou et al.: Score identity distillation, 2024, arXiv:2404.04057"
CLASHES = "students gave 0.04 to 0.09, the teacher in as few calls 0.7 to 2.0"
BONDS = (
    "three seeds of smoke: students 0.27 to 0.35, the teacher in as few calls 0.01 to 0.16; "
    "default, two seeds: 0.50 and 0.54 against at most 0.35"
)

RECIPE = RecipeSpec(
    name="protein/sid-backbone",
    summary="Draw CA backbones in a few network calls by score identity distillation",
    config="fewstep_protein.sid_backbone.config:BackboneConfig",
    build="fewstep_protein.sid_backbone.recipe:build",
    extra="protein",
    paper=SID,
    presets={
        "smoke": {
            "shortest": 12,
            "longest": 20,
            "teacher_updates": 400,
            "updates": 100,
            "samples": 64,
            "teacher_steps": 30,
            "curves": False,
        },
        "eight": {"steps": 8},
        "pair": {"network.kind": "pair", "teacher_rate": 1e-3},
        "pair-10m": {
            "network.kind": "pair",
            "network.size": "medium",
            "shortest": 50,
            "longest": 128,
            "steps": 16,
            "teacher_updates": 100_000,
            "teacher_batch": 128,
            "teacher_rate": 3e-4,
            "teacher_steps": 400,
            "updates": 2000,
            "batch": 128,
            "rate": 5e-5,
            "fake_rate": 1e-4,
        },
        "pair-60m": {
            "network.kind": "pair",
            "network.size": "large",
            "network.distogram": True,
            "network.self_conditioning": True,
            "shortest": 50,
            "longest": 256,
            "steps": 16,
            "teacher_updates": 360_000,
            "teacher_batch": 4096,
            "teacher_rate": 1e-4,
            "teacher_steps": 400,
            "updates": 1000,
            "batch": 4096,
            "rate": 5e-5,
            "fake_rate": 1e-4,
        },
        "paper": {
            "shortest": 50,
            "longest": 256,
            "network.width": 512,
            "network.rounds": 3,
            "network.layers": 4,
            "network.heads": 8,
            "steps": 16,
            "teacher_updates": 360_000,
            "teacher_batch": 4096,
            "teacher_rate": 1e-4,
            "teacher_steps": 400,
            "updates": 1000,
            "batch": 4096,
            "rate": 5e-5,
            "fake_rate": 1e-4,
        },
    },
    gates=(
        Gate(metric="clashes", control="teacher_fewstep", at_most=0.3, why=CLASHES),
        Gate(metric="clashes", control="teacher_ode", at_most=0.3, why=CLASHES),
        Gate(
            metric="valid_bonds",
            control="teacher_fewstep",
            at_least=0.42,
            profiles=("default",),
            why=BONDS,
        ),
        Gate(metric="valid_bonds", control="teacher_ode", at_least=0.42, profiles=("default",), why=BONDS),
        Gate(metric="valid_bonds", control="teacher_fewstep", at_least=0.2, profiles=("smoke",), why=BONDS),
        Gate(metric="valid_bonds", control="teacher_ode", at_least=0.2, profiles=("smoke",), why=BONDS),
    ),
)
