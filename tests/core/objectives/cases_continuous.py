"""Flow maps in continuous time."""

from __future__ import annotations

from objective_cases import NATURAL, points

from fewstep.objectives import SCM, Difference, LogVariance, MeanFlow, SemiContinuous, rcm
from fewstep.protocol import Cond


def head() -> LogVariance:
    made = LogVariance(4).double()
    made.coefficients.data += 0.3
    return made


CASES = {
    "scm": points(SCM(NATURAL)),
    "scm training": points(SCM(NATURAL, teacher=None, ramp=0.5)),
    "scm with a learned variance": points(
        SCM(NATURAL, log_variance="log_variance", derivative=SemiContinuous()), extra={"log_variance": head}
    ),
    "rcm": points(rcm(NATURAL, warmup=0)),
    "rcm in discrete time": points(rcm(NATURAL, form="discrete", steps=4, warmup=0)),
    "meanflow": points(MeanFlow(NATURAL, same=0.5)),
    "meanflow by differences": points(MeanFlow(NATURAL, same=0.5, derivative=Difference(), power=0.75)),
    "meanflow training with guidance": points(
        MeanFlow(
            NATURAL,
            teacher=None,
            guidance=2.0,
            mix=0.3,
            drop=0.3,
            null=lambda cond: Cond(None, cond.mask, cond.index),
        )
    ),
}
