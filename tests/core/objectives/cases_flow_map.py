"""Consistency and flow maps in discrete time."""

from __future__ import annotations

from objective_cases import NATURAL, PROCESS, points

from fewstep.config.objectives import SCottConfig
from fewstep.objectives import (
    Along,
    Consistency,
    Denoising,
    FromTeacher,
    GridPairs,
    MapPairs,
    RatioPairs,
    Sde,
    SegmentPairs,
    Staircase,
    ddim,
    heun,
    pseudo_huber,
)
from fewstep.objectives.weights import inverse_gap
from fewstep.processes import Uniform
from fewstep.protocol import Mix

MAPS = Consistency(MapPairs(4, 2), solver=Along(heun, 4), compare="clean")

CASES = {
    "consistency": points(Consistency(GridPairs(4))),
    "consistency training": points(Consistency(GridPairs(4), teacher=None, target=None)),
    "latent consistency": points(
        Consistency(GridPairs(20, 5), ddim, pseudo_huber(1e-3)),
    ),
    "consistency tuning": points(
        Consistency(RatioPairs(Uniform(0.1, 5.0), 0.9, 8.0), weight=inverse_gap, teacher=None, target=None)
    ),
    "trajectory maps": points(MAPS, through_judges=("student",)),
    "trajectory maps with denoising": points(
        Mix({"maps": (1.0, MAPS), "denoising": (1.0, Denoising(NATURAL))}), through_judges=("student",)
    ),
    "trajectory maps where they land": points(Consistency(MapPairs(4), solver=Along(ddim, 4), target=None)),
    "segments": points(Consistency(SegmentPairs(8, Staircase((4, 2)), fade=0.5), ddim, target=None)),
    "segments on the teacher's states": points(
        Consistency(SegmentPairs(8, 2), ddim, states=FromTeacher(8), target=None)
    ),
    "stochastic consistency": points(Consistency(GridPairs(4), Sde(0.5, 2))),
    "stochastic consistency with an adversary": points(
        SCottConfig(steps=4, eta=0.8, adversarial=0.1).build(PROCESS), through_judges=("student",)
    ),
}
