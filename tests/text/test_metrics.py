"""Metrics of written text: real text wins, repetition loses."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from fewstep.protocol import Batch, Key, Metric
from fewstep_text import data
from fewstep_text.judge import NGrams
from fewstep_text.metrics import text_metrics
from fewstep_text.tokenizer import characters

TOKENIZER = characters()
TEXT = data.clean(data.read("python-topics"))
JUDGING, TRUTH = TEXT[:60_000], TEXT[60_000:120_000]


@cache
def metrics() -> dict[str, Metric]:
    judge = NGrams(data.stream(JUDGING, TOKENIZER).numpy(), TOKENIZER.size, 4)
    return {metric.name: metric for metric in text_metrics(judge, 8)}


@cache
def truth() -> Tensor:
    return data.Windows(data.stream(TRUTH, TOKENIZER), 24, 400).batch(0, Key(0)).x


def score(name: str, x: Tensor) -> float:
    return metrics()[name].fn(x, Batch(like=x, x=truth()), Key(1)).value


def test_every_metric_prefers_real_text_to_the_same_letters_shuffled() -> None:
    x = truth()
    shuffled = x[:, Key(2).permutation(x.shape[1])]
    for name in metrics():
        assert score(name, x) < score(name, shuffled), name


def test_repetition_surprises_little_and_is_caught_by_the_others() -> None:
    """ " the the " in every text: less surprising than real text, and far from it."""
    x = torch.tensor([TOKENIZER.encode(" the the of the the of th")[:24]]).expand(400, -1)
    assert score("surprise", x) < score("surprise", truth())
    assert score("trigram_distance", x) > 0.5
    assert score("entropy_gap", x) > 3.0


def test_intervals_hold_their_value() -> None:
    for metric in metrics().values():
        found = metric.fn(truth(), Batch(like=truth(), x=truth()), Key(3))
        assert found.low <= found.value <= found.high
        assert found.n == 400
