"""What is measured about spectrograms: fidelity to the teacher's sample, and the two signs of blur.

Distance to the spoken truth is *not* here: with hidden voices the blurred mean of all of them minimizes it, so it
would prefer the control (measured; see the plugin's README). Values are in dB: 20 / ln 10 per unit of log-mel.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fewstep.protocol import Batch, Key, Metric, Score, Tree
from fewstep.runs import bootstrap, bootstrap_statistic

DECIBEL = 20 / math.log(10)
REFERENCE = "teacher"


def distance() -> Metric:
    """Distance to what the teacher's many steps make of the same noise."""

    def measure(x: Tree, batch: Batch, key: Key) -> Score:
        return bootstrap(mean_distance(x["mel"], reference(batch)["mel"], batch.mask), key)

    told = (
        "Mean difference from the many-step teacher's spectrogram for the same noise (from the truth if none was drawn). "
        "A student of several steps draws fresh noise in between and cannot be compared so."
    )
    return Metric("distance", "lower", measure, "dB", told)


def detail() -> Metric:
    """How far the detail between neighboring bands is from the truth's."""

    def measure(x: Tree, batch: Batch, key: Key) -> Score:
        mine, true = (band_detail(mel, batch.mask) for mel in (x["mel"], batch.x["mel"]))
        return bootstrap_statistic(lambda rows: _off(mine[rows].sum(-1), true[rows].sum(-1)), len(mine), key)

    told = "|ratio - 1| of the mean difference between neighboring bands to the truth's; blur and noise both raise it."
    return Metric("detail_gap", "lower", measure, "", told)


def spread() -> Metric:
    """How far the variance over time and speakers is from the truth's."""

    def measure(x: Tree, batch: Batch, key: Key) -> Score:
        mine, true = (moments(mel, batch.mask) for mel in (x["mel"], batch.x["mel"]))
        return bootstrap_statistic(
            lambda rows: _off(_variance(mine, rows), _variance(true, rows)), len(batch.mask), key
        )

    told = (
        "|ratio - 1| of the mean variance of a band to the truth's; a mean over hidden voices lacks variance."
    )
    return Metric("spread_gap", "lower", measure, "", told)


def reference(batch: Batch) -> Tree:
    """What the teacher drew, or the truth."""
    return batch.extra.get("drawn", {}).get(REFERENCE, batch.x)


def mean_distance(mel: Tensor, other: Tensor, mask: Tensor) -> Tensor:
    """(B,) mean absolute difference in dB over real frames of (B, M, T)."""
    gap = ((mel - other).abs() * mask).sum((1, 2))
    return DECIBEL * gap / (mask.sum((1, 2)) * mel.shape[1])


def band_detail(mel: Tensor, mask: Tensor) -> Tensor:
    """(B,) summed absolute difference between neighboring bands, over real frames."""
    return (mel.diff(dim=1).abs() * mask).sum((1, 2))


def moments(mel: Tensor, mask: Tensor) -> Tensor:
    """(B, 3, M) frames, sum and sum of squares of each band over real frames, in float64."""
    real = mask.double().expand_as(mel)
    wide = mel.double() * real
    return torch.stack([real.sum(-1), wide.sum(-1), wide.square().sum(-1)], 1)


def _variance(table: Tensor, rows: Tensor) -> Tensor:
    """Mean over bands of the variance of all frames of the given rows: (R, N) -> (R,)."""
    count, first, second = table[rows].sum(-3).unbind(-2)
    return (second / count - (first / count).square()).mean(-1)


def _off(mine: Tensor, true: Tensor) -> Tensor:
    return (mine / true - 1).abs()
