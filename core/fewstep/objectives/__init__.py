"""What is minimized: one file per family; a method is a configuration of its family."""

from fewstep.objectives.adversarial import Adversarial
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
from fewstep.objectives.discriminator import Adversary
from fewstep.objectives.distances import Distance, l1, l2, pseudo_huber
from fewstep.objectives.experts import ByCentroid, ByLabel, Partition, PartSource, experts, k_means
from fewstep.objectives.flow_map import Consistency
from fewstep.objectives.forgetting import Forgetting, Labeled
from fewstep.objectives.guidance import GuidanceDistillation, from_w
from fewstep.objectives.head_start import HeadStart
from fewstep.objectives.heads import FeatureHead, Readout
from fewstep.objectives.idempotent import Idempotence, idempotence_gap, sign
from fewstep.objectives.identity import ScoreIdentity, SiD, widest
from fewstep.objectives.identity_family import (
    SIM,
    ElementHuber,
    Huber,
    Power,
    ScoreDistance,
    Squared,
    UniInstruct,
)
from fewstep.objectives.mean_flow import MeanFlow
from fewstep.objectives.pair_solvers import Along, FromTeacher, Sde, ddim, euler, heun
from fewstep.objectives.pairs import ODE, Pairs
from fewstep.objectives.pairs_of_times import (
    GridPairs,
    MapPairs,
    Pair,
    PairLaw,
    RatioPairs,
    SegmentPairs,
    Staircase,
)
from fewstep.objectives.preference import PairPolicy, PairTarget, pair_loss, preference
from fewstep.objectives.progressive import Progressive, halved
from fewstep.objectives.ratio_policy import RatioPolicy, advantage
from fewstep.objectives.ratios import DensityRatio
from fewstep.objectives.rcm import rcm
from fewstep.objectives.reward import Reward
from fewstep.objectives.scm import SCM, LogVariance
from fewstep.objectives.score_distillation import ScoreDistillation
from fewstep.objectives.score_methods import diff_instruct, dmd, dmd2, f_distill, sds, tdm, vsd
from fewstep.objectives.tangent import Difference, SemiContinuous, jvp
from fewstep.objectives.weights import Weight, min_snr

__all__ = [
    "Adversarial",
    "Adversary",
    "Readout",
    "Reward",
    "SCM",
    "SIM",
    "Along",
    "ByCentroid",
    "ByLabel",
    "Consistency",
    "Corrupted",
    "Corruption",
    "Coupled",
    "Denoising",
    "DensityRatio",
    "Difference",
    "Distance",
    "ElementHuber",
    "FeatureHead",
    "Forgetting",
    "FromTeacher",
    "GridPairs",
    "GuidanceDistillation",
    "HeadStart",
    "Huber",
    "Idempotence",
    "Labeled",
    "MapPairs",
    "LogVariance",
    "MeanFlow",
    "ODE",
    "Pair",
    "PairLaw",
    "PairPolicy",
    "PairTarget",
    "Pairs",
    "PartSource",
    "Partition",
    "Power",
    "Progressive",
    "RatioPairs",
    "RatioPolicy",
    "ScoreDistance",
    "ScoreDistillation",
    "ScoreIdentity",
    "Segment",
    "Sde",
    "SegmentPairs",
    "SemiContinuous",
    "SiD",
    "Squared",
    "Staircase",
    "UniInstruct",
    "Weight",
    "advantage",
    "ddim",
    "diff_instruct",
    "dmd",
    "dmd2",
    "draw_times",
    "euler",
    "experts",
    "f_distill",
    "fresh",
    "from_w",
    "halved",
    "heun",
    "idempotence_gap",
    "jvp",
    "k_means",
    "l1",
    "l2",
    "min_snr",
    "pair_loss",
    "preference",
    "pseudo_huber",
    "rcm",
    "sds",
    "segment_ends",
    "sign",
    "tdm",
    "vsd",
    "weighted_nll",
    "widest",
]
