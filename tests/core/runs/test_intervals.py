"""Intervals of measured numbers against what statistics says."""

from __future__ import annotations

import pytest
import torch

from fewstep.protocol import Key
from fewstep.runs import bootstrap, bootstrap_statistic


def test_the_interval_of_a_mean_is_that_of_the_normal_law() -> None:
    values = Key(1).normal(torch.zeros(400, dtype=torch.float64))
    score = bootstrap(values, Key(2), resamples=4000)
    half = 1.96 * values.std(correction=0).item() / 20
    assert score.value == pytest.approx(values.mean().item(), abs=1e-15)
    assert score.high - score.value == pytest.approx(half, rel=0.08)
    assert score.value - score.low == pytest.approx(half, rel=0.08)
    assert score.n == 400


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    # 200 studies of 60 numbers; at a coverage of 0.95 fewer than 178 happen with probability 1e-4.
    scores = [
        bootstrap(Key(seed).normal(torch.zeros(60)), Key(seed).at("b"), resamples=300) for seed in range(200)
    ]
    covered = sum(score.low <= 0 <= score.high for score in scores)
    assert 178 <= covered <= 200


def test_equal_values_have_no_width() -> None:
    score = bootstrap(torch.full((9,), 2.5), Key(0))
    assert (score.low, score.value, score.high) == (2.5, 2.5, 2.5)


def test_the_same_key_gives_the_same_interval() -> None:
    values = torch.arange(20.0)
    assert bootstrap(values, Key(3)) == bootstrap(values, Key(3))


def test_any_statistic_of_rows_can_be_resampled() -> None:
    values = torch.arange(101.0)
    score = bootstrap_statistic(lambda rows: values[rows].quantile(0.5, -1), 101, Key(0))
    assert score.value == 50
    assert score.low < 50 < score.high


def test_no_sample_gives_no_score() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        bootstrap(torch.zeros(0), Key(0))
