"""Descriptors of ``protein/sequence-didi``; importing this module imports no torch."""

from __future__ import annotations

from fewstep.plugins import Gate, RecipeSpec

DIDI = "Zheng et al.: Ultra-fast language generation via discrete diffusion divergence instruct, 2025, arXiv:2509.25035"

PAIRS = "set from seeds 0 and 1, a table is in the recipe's README; the teacher in 2 calls has 0.81 to 0.82 on every seed"
POLICY = "set on seeds 0 and 1: 0.68 and 0.71; seeds 2 and 3 held: 0.72 and 0.67; the teacher in 2 calls 0.81 to 0.82"
COLLAPSE = "sequences of the chain have 2.57, greedy decoding 2.09"
REAL = "one seed: 2.51 and 0.008 for the student, 1.42 and 0.92 for greedy decoding; pairs cannot tell teachers apart here"

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
        Gate(metric="pair_kl", control="teacher_fewstep", at_most=0.7, profiles=("default",), why=PAIRS),
        Gate(metric="pair_kl", control="teacher_fewstep", at_most=0.76, profiles=("smoke",), why=PAIRS),
        Gate(metric="pair_kl", control="teacher_fewstep", at_most=0.76, profiles=("didi",), why=POLICY),
        Gate(
            metric="entropy",
            control="teacher_greedy",
            at_least=2.3,
            profiles=("default", "smoke", "didi"),
            why=COLLAPSE,
        ),
        Gate(metric="entropy", control="teacher_greedy", at_least=2.2, profiles=("real",), why=REAL),
        Gate(metric="composition_kl", control="teacher_greedy", at_most=0.05, profiles=("real",), why=REAL),
    ),
)
