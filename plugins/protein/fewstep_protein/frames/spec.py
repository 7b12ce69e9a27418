"""Descriptors of ``protein/frames`` and ``protein/frames-oracle``; importing this module imports no torch."""

from __future__ import annotations

from fewstep.plugins import Gate, RecipeSpec

SID = "Zhou et al.: Score identity distillation, 2024, arXiv:2404.04057"
CONTROLS = ("teacher_fewstep", "teacher_ode")
ORACLE_WHY = "the short profile's bound; seed 0: student 0.13, the teacher in as few calls 0.34 and 0.46"
ORACLE_SHORT = (
    "smoke, seeds 0-3: students 0.13 to 0.24, the teacher in as few calls 0.33 to 0.46; seed 4: 0.23"
)
SMOKE_CLASHES = "smoke, set on seeds 0-3: students 0.91 to 0.98, the teacher in as few calls 1.56 to 1.98"
SMOKE_TRANS = "smoke, set on seeds 0-3: students 0.61 to 0.70, the teacher in as few calls 0.44 to 0.53"
CLASHES = (
    "set on seed 0: student 0.20, the teacher in as few calls 0.53 and 1.05; seeds 1 and 2 held: 0.22, 0.21"
)
PAIRS = "set on seed 0: student 2.2, the teacher in as few calls 5.2 and 7.2; seeds 1 and 2 held: 2.0, 2.4"
RAMACHANDRAN = (
    "set on seed 0: student 0.41, the teacher in as few calls 0.56 and 0.67; seeds 1 and 2 held: 0.42, 0.39"
)


def _gates(metric: str, profile: str, why: str, **bound: float) -> tuple[Gate, ...]:
    """One gate for each control."""
    return tuple(
        Gate(metric=metric, control=control, profiles=(profile,), why=why, **bound) for control in CONTROLS
    )


ORACLE = RecipeSpec(
    name="protein/frames-oracle",
    summary="Distill frames of a known law: rotations and translations against closed forms",
    config="fewstep_protein.frames.config:OracleConfig",
    build="fewstep_protein.frames.oracle:build",
    extra="protein",
    paper=SID,
    presets={
        "smoke": {"updates": 130, "samples": 384, "teacher_steps": 25},
        "paper": {"residues": 32, "steps": 8, "updates": 5000, "batch": 1024},
    },
    gates=(
        *_gates("place_w2", "smoke", ORACLE_SHORT, at_most=0.29),
        *_gates("place_w2", "default", ORACLE_WHY, at_most=0.29),
    ),
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
            "network.width": 32,
            "network.rounds": 2,
            "teacher_updates": 150,
            "teacher_batch": 12,
            "teacher_steps": 20,
            "updates": 35,
            "batch": 12,
            "rate": 1e-3,
            "fake_rate": 2e-3,
            "samples": 40,
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
    gates=(
        *_gates("clashes", "smoke", SMOKE_CLASHES, at_most=1.25),
        *_gates("trans", "smoke", SMOKE_TRANS, at_least=0.56),
        *_gates("clashes", "default", CLASHES, at_most=0.35),
        *_gates("pair_distance", "default", PAIRS, at_most=3.5),
        *_gates("ramachandran", "default", RAMACHANDRAN, at_most=0.49),
    ),
)
