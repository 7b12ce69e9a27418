"""The published methods of score distillation, as settings of one class."""

from __future__ import annotations

from typing import Any

from fewstep.objectives.corruption import Segment
from fewstep.objectives.discriminator import Adversary
from fewstep.objectives.ratios import DensityRatio, RatioFactor, jensen_shannon
from fewstep.objectives.score_distillation import ScoreDistillation
from fewstep.objectives.weights import dreamfusion, min_snr, one
from fewstep.processes import TimeLaw


def sds(times: TimeLaw, **settings: Any) -> ScoreDistillation:
    """Score distillation sampling: no fake; w = sigma^2 on the noise estimate (Poole et al. 2023 eq. 3)."""
    return ScoreDistillation(times, **{"weight": dreamfusion, "fake": None, **settings})


def vsd(times: TimeLaw, **settings: Any) -> ScoreDistillation:
    """Variational score distillation: SDS with a fake (Wang et al. 2023 eq. 9)."""
    return ScoreDistillation(times, **{"weight": dreamfusion, **settings})


def diff_instruct(times: TimeLaw, **settings: Any) -> ScoreDistillation:
    """Diff-Instruct: weight 1 in x0 units, as its authors train (Luo et al. 2023 algorithm 1)."""
    return ScoreDistillation(times, **{"weight": one, **settings})


def dmd(times: TimeLaw, **settings: Any) -> ScoreDistillation:
    """Distribution matching: each sample's direction over mean |x - D_teacher| (Yin et al. 2024 eq. 7-8)."""
    return ScoreDistillation(times, **{"weight": one, "normalize": True, **settings})


def dmd2(times: TimeLaw, **settings: Any) -> ScoreDistillation:
    """DMD2: five updates of the critics for one of the student, and a discriminator (Yin et al. 2024 sec. 4.2-4.3)."""
    adversary = Adversary(weight=3e-3, disc_weight=1e-2, features_of="fake")
    return dmd(times, **{"critic_updates": 5, "adversary": adversary, **settings})


def f_distill(times: TimeLaw, factor: RatioFactor = jensen_shannon, **settings: Any) -> ScoreDistillation:
    """DMD2 whose directions are weighted by h(r) of any f-divergence (Xu et al. 2025 eq. 6)."""
    return dmd2(times, **{"ratio": DensityRatio(factor), **settings})


def tdm(times: TimeLaw, **settings: Any) -> ScoreDistillation:
    """Trajectory distribution matching: the states of a deterministic path, step by step (Luo et al. 2025 eq. 7)."""
    return dmd(times, **{"corruption": Segment(), "fake_weight": min_snr(), **settings})
