"""Intervals: how far a number would move with other samples of the same contender."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fewstep.protocol import Key, Score


def bootstrap(values: Tensor, key: Key, *, resamples: int = 1000, level: float = 0.95) -> Score:
    """The mean of per-sample values with its percentile interval (Efron 1979).

    Args:
        values: (N,) one number per sample.
        key: randomness of the resampling.
        resamples: how many times the N samples are drawn again.
        level: coverage of the interval.

    Raises:
        ValueError: if there is no value.
    """
    flat = values.detach().double().flatten().cpu()
    return bootstrap_statistic(
        lambda rows: flat[rows].mean(-1), len(flat), key, resamples=resamples, level=level
    )


def bootstrap_statistic(
    statistic: Callable[[Tensor], Tensor],
    count: int,
    key: Key,
    *,
    resamples: int = 200,
    level: float = 0.95,
) -> Score:
    """Any statistic of samples with its percentile interval, centered on the value.

    Distances of distributions are larger on resampled rows, because rows repeat; their spread is right, their middle
    is not. So the interval is moved to where the resamples' median falls on the value (Efron 1979, bias removed).

    Args:
        statistic: (R, N) or (N,) row numbers -> (R,) or () values: what the number would be on these samples.
        count: N, how many samples there are.
        key: randomness of the resampling.
        resamples: R.
        level: coverage of the interval.

    Raises:
        ValueError: if ``count`` is zero.
    """
    if count < 1:
        raise ValueError("a score needs at least one sample, got none; draw more samples")
    value = float(statistic(torch.arange(count)))
    if count == 1:
        return Score(value, value, value, 1)
    again = statistic(key.at("bootstrap").whole().integers((resamples, count), count)).double()
    tail = (1 - level) / 2
    low, middle, high = torch.quantile(
        again, torch.tensor([tail, 0.5, 1 - tail], dtype=torch.float64)
    ).tolist()
    return Score(value, value + low - middle, value + high - middle, count)
