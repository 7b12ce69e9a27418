"""Score-regularized consistency: a flow map that covers every mode, sharpened by a score that seeks them.

L = 100 L_consistency + L_scores (Zheng et al. 2025 rCM): sCM is a forward divergence, spreads over all of the teacher's
law and blurs what it cannot resolve; distribution matching is a reverse one, sharp and prone to forget. Both vanish at
the teacher's flow map.
"""

from __future__ import annotations

from typing import Any, Literal

from fewstep.objectives.continuous import After, WarmUp
from fewstep.objectives.distances import pseudo_huber
from fewstep.objectives.flow_map import Consistency
from fewstep.objectives.pair_solvers import ddim
from fewstep.objectives.pairs_of_times import GridPairs
from fewstep.objectives.scm import SCM, rcm_pull
from fewstep.objectives.score_methods import dmd
from fewstep.objectives.tangent import Derivative, forward
from fewstep.objectives.weights import one
from fewstep.processes import TimeLaw
from fewstep.protocol import Mix, Objective


def rcm(
    times: TimeLaw,
    judged: TimeLaw | None = None,
    *,
    form: Literal["continuous", "discrete"] = "continuous",
    steps: int = 50,
    warmup: int = 1000,
    consistency: float = 100.0,
    scores: float = 2.0,
    derivative: Derivative = forward,
    guidance: float | None = None,
    **of_scores: Any,
) -> Mix:
    """A mixture with the phases of distribution matching; the consistency term joins the student's.

    Args:
        times: where the tangent is taken.
        judged: where the student's samples are judged; ``times`` by default.
        form: "discrete" compares neighbors on a grid instead, under a pseudo-Huber distance whose gradient has the
            length of a normalized tangent: slower to learn, and stable where tangents are not (small batches, float16).
        steps: intervals of that grid.
        warmup: cycles until the tangent counts fully; the scores join then.
        consistency: weight of the flow map.
        scores: weight of distribution matching; 2 is the authors' 1, since an inner product is half of a square.
        derivative: of the tangent.
        guidance: the teacher's scale g, the same for both.
        **of_scores: of :func:`dmd`.
    """
    if form == "continuous":
        ramp = WarmUp(warmup)
        flow: Objective = SCM(times, one, ramp, rcm_pull, derivative=derivative, guidance=guidance)
    else:
        flow = Consistency(GridPairs(steps), ddim, pseudo_huber(0.1), guidance=guidance, target=None)
    matched = dmd(judged or times, **{"guidance": guidance, **of_scores})
    return Mix({"consistency": (consistency, flow), "scores": (After(warmup, scores), matched)})
