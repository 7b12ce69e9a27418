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
        "smoke": {"updates": 250, "head_start": 100},
    },
    gates=(
        Gate(metric="pair_kl", control="teacher_fewstep", at_most=0.75),
        Gate(metric="entropy", control="teacher_greedy", at_least=2.3),
    ),
)
