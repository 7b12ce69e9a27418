"""Descriptors of ``protein/sequence-didi``; importing this module imports no torch."""

from __future__ import annotations

from fewstep.plugins import Gate, RecipeSpec

DIDI = "Zheng et al.: Ultra-fast language generation via discrete diffusion divergence instruct, 2025, arXiv:2509.25035"

RECIPE = RecipeSpec(
    name="protein/sequence-didi",
    summary="Draw amino-acid sequences in two calls, from a chain whose law is known or from real proteins",
    config="fewstep_protein.sequence_didi.config:SequenceConfig",
    build="fewstep_protein.sequence_didi.recipe:build",
    extra="protein",
    paper=DIDI,
    presets={
        "smoke": {
            "updates": 400,
            "head_start": 30,
            "batch": 64,
            "rate": 4e-3,
            "critic_rate": 6e-3,
            "average": 0.97,
        },
        "real": {
            "data": "real",
            "width": 64,
            "dilations": [1, 1, 2],
            "teacher_updates": 500,
            "updates": 150,
            "samples": 512,
        },
        "didi": {
            "objective.kind": "ratio-policy",
            "objective.corruption": "fresh",
            "objective.times.high": 0.02,
            "objective.whiten": True,
            "objective.reward_clip": 40.0,
            "window": 8,
            "batch": 256,
            "updates": 1000,
            "head_start": 200,
            "rate": 2e-3,
        },
    },
    gates=(
        Gate(metric="pair_kl", control="teacher_fewstep", at_most=0.75),
        Gate(metric="entropy", control="teacher_greedy", at_least=2.3),
    ),
)
