"""Forgetting."""

from __future__ import annotations

from dataclasses import replace

import torch
from objective_cases import NATURAL, points

from fewstep.objectives import SIM, Forgetting, Labeled, SiD
from fewstep.objectives.identity import ScoreIdentity
from fewstep.protocol import Batch


def labeled(objective: ScoreIdentity) -> object:
    """Rows of labels 0, 1, 2, 1; label 1 is to be forgotten for label 0."""
    case = points(Forgetting(objective, Labeled(1), Labeled(0), 0.5), through_judges=("student",))

    def batch() -> Batch:
        plain = case.batch()
        return replace(plain, cond=replace(plain.cond, data=torch.tensor([0, 1, 2, 1])))

    return replace(case, batch=batch)


CASES = {
    "sfd": labeled(SiD(NATURAL)),
    "sfd with one rollout": labeled(SiD(NATURAL, share_rollout=True)),
    "forgetting by score matching": labeled(SIM(NATURAL)),
}
