"""Pairs, progressive and guidance distillation."""

from __future__ import annotations

from typing import Any

from objective_cases import NATURAL, TIMES, points
from torch import Tensor

from fewstep.objectives import ODE, GuidanceDistillation, Pairs, Progressive
from fewstep.processes import Uniform
from fewstep.samplers import ddim, heun

SCALES = Uniform(1.0, 5.0)


def recorded(x: Tensor) -> dict[str, Any]:
    """Pairs of no teacher in particular."""
    return {"noise": x.flip(0), "target": 0.5 * x, "path": tuple(t * x.flip(0) + x for t in TIMES)}


CASES = {
    "ode-pairs": points(Pairs(ODE(heun, 2))),
    "ode-pairs in one step": points(Pairs(ODE(ddim, 3)), times=TIMES[:1]),
    "recorded pairs": points(Pairs(), fields=recorded),
    "recorded pairs in one step": points(Pairs(), fields=recorded, times=TIMES[:1]),
    "guided pairs": points(Pairs(ODE(ddim, 2, guidance=2.0))),
    "progressive": points(Progressive()),
    "progressive from noise": points(Progressive(states="noise")),
    "progressive, guided": points(Progressive(guidance=SCALES)),
    "guidance": points(GuidanceDistillation(NATURAL, SCALES)),
}
