"""Descriptors of ``protein/sid-backbone``; importing this module imports no torch."""

from __future__ import annotations

from typing import Literal

from fewstep.plugins import Gate, RecipeSpec

SID = "Zhou et al.: Score identity distillation, 2024, arXiv:2404.04057"
FULL = ("default", "eight")
STUDY = "set on seeds 0 and 1, held on seeds 2, 3 and 4, which were not looked at before: "
BONDS = (
    f"{STUDY}students 1.00, the teacher in 400 calls .995, its flow in 16 calls .94; rolls of the undistilled teacher "
    "have valid bonds too, but are balls: their gates are those of size"
)
WHOLE = f"{STUDY}students .98 to 1.00, the teacher's flow in as few calls .08 to .11"
SIZE = f"{STUDY}students .6 to .8 angstrom, undistilled rolls, which collapse to balls, 2.2"
NEAR = f"{STUDY}students .6 to .7, control 2.0; what distillation can be held to, the teacher's own chains at 400 calls"
PAIRS = f"{STUDY}students .4, control 2.6; the same for all distances"
HAND = f"{STUDY}students .97 to .98; one call gives a crumpled point without hands, few calls have the right one already"
ALPHA = f"{STUDY}.38 to .54, asked for the other class .04 to .05, not asked .23 to .32"
BETA = f"{STUDY}.38, asked for the other class .07 to .09, not asked .19 to .22"
APART = (
    f"{STUDY}students .000, the flow in as few calls .014 to .017; the network does it, distilled or not: one that "
    "does not read who is near in space has students with .05 to .09"
)
EIGHT = "set on seeds 0, 1, 3 and 4 of 8 calls, held on 2 and 5, which were not looked at before: "
EIGHT_WHOLE = f"{EIGHT}students .81 to .94, the undistilled teacher rolled in the same 8 calls .47 to .58"
EIGHT_SIZE = f"{EIGHT}students .7 to 1.6 angstrom, undistilled rolls 2.8 to 3.3"
EIGHT_APART = f"{EIGHT}students .002 to .006, the teacher's flow in as few calls .05 to .07"
SMOKE = (
    "set on seeds 0 to 3, held on 4 to 6: students at most 1.6 angstrom (2.0) and .02 clashes (0), undistilled rolls at "
    "least 2.9 angstrom (2.3), the flow in as few calls 1.2 clashes (.9)"
)


def _gates(
    profiles: tuple[str, ...], *rows: tuple[str, str, Literal["at_least", "at_most"], float, str, str]
) -> tuple[Gate, ...]:
    """Gates of some profiles, each of: metric, who meets the bound, side, bound, who misses it, and why."""
    return tuple(
        Gate(metric=metric, of=of, control=control, profiles=profiles, why=why, **{side: bound})
        for metric, of, side, bound, control, why in rows
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
            "teacher_updates": 160,
            "steps": 4,
            "updates": 45,
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
            "fake_reset": 98,
            "restarts": 1000,
        },
    },
    gates=(
        *_gates(
            FULL,
            ("valid_bonds", "student", "at_least", 0.98, "teacher_ode", BONDS),
            ("valid_bonds", "teacher", "at_least", 0.98, "teacher_ode", BONDS),
            ("rg_to_teacher", "student", "at_most", 1.4, "teacher_fewstep", NEAR),
            ("pair_to_teacher", "student", "at_most", 1.5, "teacher_fewstep", PAIRS),
            ("right_handed", "student", "at_least", 0.9, "teacher_one_call", HAND),
            ("helix", "asked_alpha", "at_least", 0.3, "asked_beta", ALPHA),
            ("strand", "asked_beta", "at_least", 0.2, "asked_alpha", BETA),
        ),
        *_gates(
            ("default",),
            ("valid_chains", "student", "at_least", 0.85, "teacher_ode", WHOLE),
            ("rg_distance", "student", "at_most", 1.5, "teacher_fewstep", SIZE),
            ("clashes", "student", "at_most", 0.006, "teacher_ode", APART),
        ),
        *_gates(
            ("eight",),
            ("valid_chains", "student", "at_least", 0.7, "teacher_fewstep", EIGHT_WHOLE),
            ("rg_distance", "student", "at_most", 2.2, "teacher_fewstep", EIGHT_SIZE),
            ("clashes", "student", "at_most", 0.015, "teacher_ode", EIGHT_APART),
        ),
        *_gates(
            ("smoke",),
            ("rg_distance", "student", "at_most", 2.2, "teacher_fewstep", SMOKE),
            ("clashes", "student", "at_most", 0.5, "teacher_ode", SMOKE),
        ),
    ),
)
