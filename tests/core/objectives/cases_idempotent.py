"""Idempotent distillation."""

from __future__ import annotations

from objective_cases import NATURAL, points

from fewstep.objectives import Idempotence, sign

CASES = {
    "idempotence": points(Idempotence(noise=0.1, at=-1)),
    "sign": points(sign(NATURAL)),
    "sign with an outer call": points(sign(NATURAL, again={"learns": "outer"})),
}
