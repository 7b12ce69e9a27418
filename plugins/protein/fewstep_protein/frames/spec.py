"""Descriptors of ``protein/frames`` and ``protein/frames-oracle``; importing this module imports no torch."""

from __future__ import annotations

from fewstep.plugins import RecipeSpec

SID = "Zhou et al.: Score identity distillation, 2024, arXiv:2404.04057"

ORACLE = RecipeSpec(
    name="protein/frames-oracle",
    summary="Distill frames of a known law: rotations and translations against closed forms",
    config="fewstep_protein.frames.config:OracleConfig",
    build="fewstep_protein.frames.oracle:build",
    extra="protein",
    paper=SID,
    presets={
        "smoke": {"updates": 80, "samples": 512, "teacher_steps": 30},
        "paper": {"residues": 32, "steps": 8, "updates": 5000, "batch": 1024},
    },
    gates=(),
)

RECIPE = RecipeSpec(
    name="protein/frames",
    summary="Draw whole backbones as rotations and translations of residues, in four network calls",
    config="fewstep_protein.frames.config:FramesConfig",
    build="fewstep_protein.frames.recipe:build",
    extra="protein",
    paper=SID,
    presets={
        "smoke": {
            "shortest": 12,
            "longest": 20,
            "teacher_updates": 150,
            "updates": 20,
            "samples": 32,
            "teacher_steps": 20,
        },
        "paper": {
            "shortest": 60,
            "longest": 128,
            "network.width": 256,
            "network.rounds": 6,
            "network.layers": 1,
            "network.heads": 8,
            "steps": 8,
            "teacher_updates": 200_000,
            "teacher_batch": 128,
            "teacher_rate": 1e-4,
            "teacher_steps": 100,
            "updates": 20_000,
            "batch": 256,
            "rate": 5e-5,
            "fake_rate": 1e-4,
        },
    },
    gates=(),
)
