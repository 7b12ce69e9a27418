"""Descriptors of ``protein/sid-backbone``; importing this module imports no torch."""

from __future__ import annotations

from typing import Literal

from fewstep.plugins import Gate, RecipeSpec

SID = "Zhou et al.: Score identity distillation, 2024, arXiv:2404.04057"
STUDY = "16 calls; seeds 0 and 1 set the bound, then 2 to 4 held it: "
EIGHT = "8 calls; seeds 0, 1, 3 and 4 set the bound, then 2 and 5 held it: "
SMOKE = "seeds 0 to 3 set the bound, then 4 to 6 held it: "


def _gates(
    profile: str, study: str, *rows: tuple[str, str, Literal["at_least", "at_most"], float, str, str]
) -> tuple[Gate, ...]:
    """Gates of a profile, each of: metric, who meets the bound, side, bound, who misses it, and what was measured."""
    return tuple(
        Gate(metric=metric, of=of, control=control, profiles=(profile,), why=study + why, **{side: bound})
        for metric, of, side, bound, control, why in rows
    )


# fmt: off
GATES = (
    *_gates("default", STUDY,
        ("valid_bonds", "student", "at_least", 0.98, "teacher_ode",
         "students 1.00, then 1.00; the teacher's flow in as few calls .94"),
        ("valid_bonds", "teacher", "at_least", 0.98, "teacher_ode",
         "400 calls .995, then .994 to .997; its flow in 16 calls .94"),
        ("valid_chains", "student", "at_least", 0.85, "teacher_ode",
         "students .98 to 1.00, then the same; the flow .08 to .11, then .11 to .13"),
        ("rg_distance", "student", "at_most", 1.5, "teacher_fewstep",
         "students .6 to .8 angstrom, then .9 to 1.3; undistilled rolls, which are balls, 2.2, then 2.3 to 2.6"),
        ("rg_to_teacher", "student", "at_most", 1.4, "teacher_fewstep",
         "students .6 to .7, then .6 to .9; rolls 2.0, then 2.0 to 2.1"),
        ("pair_to_teacher", "student", "at_most", 1.5, "teacher_fewstep",
         "students .4, then .5 to 1.1; rolls 2.6, then 2.5 to 2.8"),
        ("clashes", "student", "at_most", 0.006, "teacher_ode",
         "students .000, then .000 to .001; the flow .014 to .017, then .009 to .022; rolls have hardly any"),
        ("right_handed", "student", "at_least", 0.9, "teacher_one_call",
         "students .97 to .98, then .98 to .99; one call gives a crumpled point"),
        ("helix", "asked_alpha", "at_least", 0.3, "asked_beta",
         ".38 to .54, then .56 to .63; asked for the other class .04 to .05, then .06 to .15"),
        ("strand", "asked_beta", "at_least", 0.2, "asked_alpha",
         ".38, then .27 to .40; asked for the other class .07 to .09, then .03 to .07"),
    ),
    *_gates("eight", EIGHT,
        ("valid_bonds", "student", "at_least", 0.98, "teacher_ode",
         "students .994 to .998, then .997 to .999; the flow .83 to .84, then .85 to .86"),
        ("valid_bonds", "teacher", "at_least", 0.98, "teacher_ode",
         "400 calls .995 to .997, then .994 to .997; its flow in 8 calls .83 to .86"),
        ("valid_chains", "student", "at_least", 0.7, "teacher_fewstep",
         "students .81 to .94, then .89 to .97; undistilled rolls .47 to .58, then .52 to .56"),
        ("rg_distance", "student", "at_most", 2.2, "teacher_fewstep",
         "students .7 to 1.6 angstrom, then 1.5; undistilled rolls 2.8 to 3.3, then 3.1 to 3.3"),
        ("rg_to_teacher", "student", "at_most", 1.4, "teacher_fewstep",
         "students .8 to 1.1, then .6 to .7; rolls 2.7 to 2.8, then 2.6 to 2.7"),
        ("pair_to_teacher", "student", "at_most", 1.5, "teacher_fewstep",
         "students .6 to 1.2, then .6 to .9; rolls 3.4 to 3.7, then 3.4 to 3.6"),
        ("clashes", "student", "at_most", 0.015, "teacher_ode",
         "students .002 to .006, then .001 to .002; the flow .05 to .07, then the same"),
        ("right_handed", "student", "at_least", 0.9, "teacher_one_call",
         "students .97 to .98, then .98; one call gives a crumpled point"),
        ("helix", "asked_alpha", "at_least", 0.3, "asked_beta",
         ".40 to .54, then .51; asked for the other class .05 to .11, then .06 to .10"),
        ("strand", "asked_beta", "at_least", 0.2, "asked_alpha",
         ".26 to .35, then .24 to .34; asked for the other class .05 to .08, then .04"),
    ),
    *_gates("smoke", SMOKE,
        ("rg_distance", "student", "at_most", 2.2, "teacher_fewstep",
         "students .7 to 1.5 angstrom, then .9 to 2.0; rolls 2.9 to 3.9, then 2.3 to 3.7"),
        ("clashes", "student", "at_most", 0.5, "teacher_ode",
         "students .00 to .02, then .00; the flow in as few calls 1.2 to 1.3, then .9 to 1.6"),
    ),
)
# fmt: on

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
    gates=GATES,
)
