"""What is minimized: one file per family; a method is a configuration of its family."""

from fewstep.objectives.corruption import (
    Corrupted,
    Corruption,
    Coupled,
    Segment,
    draw_times,
    fresh,
    segment_ends,
)
from fewstep.objectives.denoising import Denoising, weighted_nll
from fewstep.objectives.distances import Distance, l1, l2, pseudo_huber
from fewstep.objectives.flow_map import (
    Consistency,
    GridPairs,
    PairLaw,
    RatioPairs,
    SegmentEnd,
    ddim,
    euler,
    heun,
)
from fewstep.objectives.identity import SiD, Surrogate
from fewstep.objectives.ratio_policy import RatioPolicy, advantage
from fewstep.objectives.score_distillation import ScoreDistillation, diff_instruct, dmd, sds, vsd
from fewstep.objectives.weights import Weight, min_snr

__all__ = [
    "Consistency",
    "Corrupted",
    "Corruption",
    "Coupled",
    "Denoising",
    "Distance",
    "GridPairs",
    "PairLaw",
    "RatioPairs",
    "RatioPolicy",
    "ScoreDistillation",
    "Segment",
    "SegmentEnd",
    "SiD",
    "Surrogate",
    "Weight",
    "advantage",
    "ddim",
    "diff_instruct",
    "dmd",
    "draw_times",
    "euler",
    "fresh",
    "heun",
    "l1",
    "l2",
    "min_snr",
    "pseudo_huber",
    "sds",
    "segment_ends",
    "vsd",
    "weighted_nll",
]
