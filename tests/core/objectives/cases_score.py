"""Score distillation."""

from __future__ import annotations

from objective_cases import NATURAL, PROCESS, TIMES, UNIFORM, points, tokens
from objective_toys import At

from fewstep.objectives import Segment, diff_instruct, dmd, sds, segment_ends, vsd
from fewstep.objectives.ratios import jensen_shannon

CASES = {
    "sds": points(sds(NATURAL)),
    "vsd": points(vsd(NATURAL)),
    "diff-instruct": points(diff_instruct(NATURAL, critic_updates=2)),
    "diff-instruct of tokens": tokens(diff_instruct(UNIFORM)),
    "dmd": points(dmd(NATURAL)),
    "dmd with one rollout": points(dmd(NATURAL, share_rollout=True)),
    "dmd with a discriminator": points(
        dmd(NATURAL, disc="disc", adversarial=0.1, ratio_factor=jensen_shannon, ratio_normalize=False),
        through_judges=("student",),
    ),
    "trajectory matching": points(
        diff_instruct(At(1.0), corruption=Segment(segment_ends(TIMES, PROCESS), rho=7.0))
    ),
}
