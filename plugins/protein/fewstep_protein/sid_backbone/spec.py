"""Descriptors of ``protein/sid-backbone``; importing this module imports no torch."""

from __future__ import annotations

from fewstep.plugins import Gate, RecipeSpec

SID = "Zhou et al.: Score identity distillation, 2024, arXiv:2404.04057"
WHOLE = "a roll of the undistilled teacher has valid bonds too, but its chains are balls: its control is their size"
SIZE = "undistilled rolls collapse to balls"
NEAR = "what distillation can be held to: the teacher's own chains at 400 calls"
HAND = "the estimate of one call is an average of left and right"
ASKED = "the same student, asked for the other class"

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
            "teacher_updates": 160,
            "steps": 4,
            "updates": 30,
            "samples": 24,
            "teacher_steps": 16,
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
        Gate(
            metric="valid_chains",
            control="teacher_ode",
            at_least=0.9,
            profiles=("default", "eight"),
            why=WHOLE,
        ),
        Gate(
            metric="rg_distance",
            control="teacher_fewstep",
            at_most=1.6,
            profiles=("default", "eight"),
            why=SIZE,
        ),
        Gate(
            metric="rg_to_teacher",
            control="teacher_fewstep",
            at_most=1.2,
            profiles=("default", "eight"),
            why=NEAR,
        ),
        Gate(
            metric="right_handed",
            control="teacher_one_call",
            at_least=0.9,
            profiles=("default", "eight"),
            why=HAND,
        ),
        Gate(
            metric="helix",
            of="asked_alpha",
            control="asked_beta",
            at_least=0.4,
            profiles=("default", "eight"),
            why=ASKED,
        ),
        Gate(metric="rg_distance", control="teacher_fewstep", at_most=2.7, profiles=("smoke",), why=SIZE),
        Gate(metric="clashes", control="teacher_fewstep", at_most=0.55, profiles=("smoke",), why=SIZE),
        Gate(metric="clashes", control="teacher_ode", at_most=0.55, profiles=("smoke",), why=SIZE),
    ),
)
