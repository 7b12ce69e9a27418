"""Preferences between pairs."""

from __future__ import annotations

from objective_cases import PROCESS, TIMES, Pointwise, points
from torch import Tensor, nn

from fewstep.objectives import PairPolicy, PairTarget
from fewstep.protocol import Cond, Estimate, Euclidean
from fewstep.samplers import FewStepPolicy


class Small(nn.Module):
    """Small samples are good: minus the mean square of the real positions."""

    def forward(self, x: Tensor, cond: Cond) -> Tensor:
        geometry = Euclidean().on(cond.mask)
        return -geometry.distance(Estimate(x), Estimate(x * 0))


def policy(seed: int) -> FewStepPolicy:
    return FewStepPolicy(Pointwise(seed), PROCESS, "edm", TIMES)


PAIR = {"student": lambda: policy(2), "reference": lambda: policy(3)}

CASES = {
    "pairs judged by a reward": points(PairPolicy(beta=0.5, clip=None), extra={**PAIR, "reward": Small}),
    "pairs with a soft label": points(
        PairPolicy(beta=0.5, clip=0.9, temperature=2.0), extra={**PAIR, "reward": Small}
    ),
    "pairs of target and sample": points(PairTarget(beta=0.5), extra=PAIR),
    "pairs without a reference": points(PairTarget(beta=0.5, margin=1.0, reference=None), extra=PAIR),
}
