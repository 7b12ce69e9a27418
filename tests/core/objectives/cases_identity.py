"""The score identity."""

from __future__ import annotations

from objective_cases import NATURAL, points

from fewstep.objectives import SiD

CASES = {"sid": points(SiD(NATURAL), through_judges=("student",))}
