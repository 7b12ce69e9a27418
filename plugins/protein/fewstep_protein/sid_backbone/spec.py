"""Descriptors of ``protein/sid-backbone``; importing this module imports no torch."""

from __future__ import annotations

from fewstep.plugins import Gate, RecipeSpec

SID = "Zhou et al.: Score identity distillation, 2024, arXiv:2404.04057"
FULL = ("default", "eight")
STUDY = "set on seeds 0 to 2 at 250 updates, held on seeds 3 and 4 at 120, the default: "
BONDS = (
    f"{STUDY}students 1.00, the teacher in 400 calls .996, its flow in 16 calls .94 to .95; rolls of the undistilled "
    "teacher have valid bonds too, but are balls: their gates are those of size"
)
WHOLE = f"{STUDY}students .98 to 1.00, the teacher's flow in as few calls .08 to .17"
ROLL = "seeds 0 and 1: students 1.00 and .95, the undistilled teacher rolled in the same 8 calls .59 and .67"
SIZE = f"{STUDY}students .7 to 1.1 angstrom, undistilled rolls, which collapse to balls, 2.9 to 3.1"
NEAR = (
    f"{STUDY}students .6 to .9, control 2.8 to 2.9; what distillation can be held to, the teacher's own chains at 400 "
    "calls"
)
PAIRS = f"{STUDY}students .3 to .9, control 3.7 to 3.9; the same for all distances"
HAND = f"{STUDY}students .98; one call gives a crumpled point without hands, few calls have the right one already"
ALPHA = f"{STUDY}.56 to .61, asked for the other class .05 to .17, not asked .37 to .48"
BETA = f"{STUDY}.33 to .39, asked for the other class .04 to .07, not asked .11 to .16"
SMOKE = "seeds 0 to 5: students at most 1.6 angstrom and .23 clashes, controls at least 2.9 and .88"

LONG = "set on seeds 0 and 1 of this profile, held on seeds 3 and 4, which were not looked at before: "
LONG_BONDS = f"{LONG}students 1.00, teachers in 200 calls .994 to .997, their flow in 16 calls .92 to .93"
LONG_WHOLE = f"{LONG}students .98 to 1.00, the teacher's flow in as few calls 0"
LONG_SIZE = f"{LONG}students 1.7 to 2.6 angstrom, the flow in as few calls 3.6 to 4.6; teachers .8 to 1.9"
LONG_NEAR = f"{LONG}students .8 to 1.6, undistilled rolls, which are too small, 2.3 to 3.4"
LONG_PAIRS = f"{LONG}students 1.1 to 1.6, undistilled rolls 2.8 to 4.0"
LONG_APART = (
    f"{LONG}students .000 to .001, the flow in as few calls .02; the network does it, distilled or not: one that "
    "does not read who is near in space has students with .09 to .20"
)
LONG_HAND = f"{LONG}students .97 to .98; one call gives a crumpled point without hands"
LONG_ALPHA = f"{LONG}.41 to .47, asked for the other class .11 to .14, not asked .31 to .33"
LONG_BETA = f"{LONG}.29 to .31, asked for the other class .10 to .12, not asked .16 to .17"

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
        "long": {
            "shortest": 48,
            "longest": 128,
            "teacher_updates": 3200,
            "teacher_batch": 8,
            "teacher_steps": 200,
            "updates": 240,
            "batch": 8,
            "samples": 48,
            "curves": False,
        },
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
            "fake_reset": 98,
            "restarts": 1000,
        },
    },
    gates=(
        Gate(metric="valid_bonds", control="teacher_ode", at_least=0.98, profiles=FULL, why=BONDS),
        Gate(
            metric="valid_bonds", of="teacher", control="teacher_ode", at_least=0.98, profiles=FULL, why=BONDS
        ),
        Gate(metric="valid_chains", control="teacher_ode", at_least=0.85, profiles=FULL, why=WHOLE),
        Gate(metric="valid_chains", control="teacher_fewstep", at_least=0.85, profiles=("eight",), why=ROLL),
        Gate(metric="rg_distance", control="teacher_fewstep", at_most=2.0, profiles=FULL, why=SIZE),
        Gate(metric="rg_to_teacher", control="teacher_fewstep", at_most=1.5, profiles=FULL, why=NEAR),
        Gate(metric="pair_to_teacher", control="teacher_fewstep", at_most=2.0, profiles=FULL, why=PAIRS),
        Gate(metric="right_handed", control="teacher_one_call", at_least=0.9, profiles=FULL, why=HAND),
        Gate(metric="helix", of="asked_alpha", control="asked_beta", at_least=0.4, profiles=FULL, why=ALPHA),
        Gate(metric="strand", of="asked_beta", control="asked_alpha", at_least=0.2, profiles=FULL, why=BETA),
        *(
            Gate(metric=metric, of=of, control=control, at_least=bound, profiles=("long",), why=why)
            for metric, of, control, bound, why in (
                ("valid_bonds", "student", "teacher_ode", 0.98, LONG_BONDS),
                ("valid_bonds", "teacher", "teacher_ode", 0.98, LONG_BONDS),
                ("valid_chains", "student", "teacher_ode", 0.85, LONG_WHOLE),
                ("right_handed", "student", "teacher_one_call", 0.9, LONG_HAND),
                ("helix", "asked_alpha", "asked_beta", 0.3, LONG_ALPHA),
                ("strand", "asked_beta", "asked_alpha", 0.2, LONG_BETA),
            )
        ),
        *(
            Gate(metric=metric, control=control, at_most=bound, profiles=("long",), why=why)
            for metric, control, bound, why in (
                ("rg_distance", "teacher_ode", 3.1, LONG_SIZE),
                ("rg_to_teacher", "teacher_fewstep", 2.0, LONG_NEAR),
                ("pair_to_teacher", "teacher_fewstep", 2.3, LONG_PAIRS),
                ("clashes", "teacher_ode", 0.01, LONG_APART),
            )
        ),
        Gate(metric="rg_distance", control="teacher_fewstep", at_most=2.2, profiles=("smoke",), why=SMOKE),
        Gate(metric="clashes", control="teacher_fewstep", at_most=0.5, profiles=("smoke",), why=SMOKE),
        Gate(metric="clashes", control="teacher_ode", at_most=0.5, profiles=("smoke",), why=SMOKE),
    ),
)
