"""Policy gradients."""

from __future__ import annotations

from objective_cases import UNIFORM, tokens

from fewstep.objectives import Coupled, RatioPolicy

CASES = {
    "ratio policy": tokens(RatioPolicy(UNIFORM, corruption=Coupled(), group=2, anchor=0.1, smoothing=0.1)),
}
