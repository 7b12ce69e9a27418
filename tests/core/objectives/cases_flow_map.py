"""Consistency in discrete time."""

from __future__ import annotations

from objective_cases import points

from fewstep.objectives import Consistency, GridPairs

CASES = {
    "consistency": points(Consistency(GridPairs(4))),
    "consistency training": points(Consistency(GridPairs(4), teacher=None, target=None)),
}
