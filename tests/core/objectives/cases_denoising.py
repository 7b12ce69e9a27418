"""Denoising."""

from __future__ import annotations

from objective_cases import NATURAL, UNIFORM, points, tokens

from fewstep.objectives import Denoising

CASES = {
    "denoising": points(Denoising(NATURAL)),
    "denoising of tokens": tokens(Denoising(UNIFORM, role="teacher")),
}
