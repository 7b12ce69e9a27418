"""How good written text is: an independent judge, the distance to real text, and variety."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from fewstep.protocol import Batch, Key, Metric, Score, Tree
from fewstep.runs import bootstrap, bootstrap_statistic
from fewstep_text.files import tokens_of
from fewstep_text.judge import NGrams, divergence, entropy, histogram

ORDER = 3
"""n of the n-grams whose shares are compared."""
RESAMPLES = 60
"""Bootstrap resamples of histogram statistics."""


def text_metrics(judge: NGrams, block: int) -> tuple[Metric, ...]:
    """Judged surprise, trigram distance and trigram entropy of the last ``block`` tokens of each text.

    Surprise alone can be cheated: E_q[-log p] = KL(q | p) + H(q), so a text that repeats itself scores well. Distance
    and entropy are what such a text fails.
    """
    width = block + ORDER - 1
    real = histogram(judge.tokens[None], ORDER, judge.vocabulary)
    apart: Callable[[Tensor], float] = lambda x: divergence(_shares(x, judge.vocabulary), real)  # noqa: E731
    varied: Callable[[Tensor], float] = lambda x: entropy(_shares(x, judge.vocabulary))  # noqa: E731
    return (
        Metric(
            "surprise",
            "lower",
            partial(_surprise, judge, block),
            "nats/token",
            f"of an independent {judge.order}-gram judge, trained on a disjoint part of the corpus",
        ),
        Metric(
            "trigram_distance",
            "lower",
            partial(_statistic, apart, width),
            "nats",
            "Jensen-Shannon divergence of trigram shares to unseen real text; 0 equal, 0.69 disjoint",
        ),
        Metric(
            "trigram_entropy",
            "higher",
            partial(_statistic, varied, width),
            "nats",
            "entropy of trigram shares; low for text that repeats itself",
        ),
    )


def _surprise(judge: NGrams, block: int, x: Tree, batch: Batch, key: Key) -> Score:
    nll = judge.nll(tokens_of(x).numpy())[:, -block:]
    return bootstrap(torch.from_numpy(nll.mean(1)), key)


def _statistic(number: Callable[[Tensor], float], width: int, x: Tree, batch: Batch, key: Key) -> Score:
    tokens = tokens_of(x)[:, -width:]

    def measure(rows: Tensor) -> Tensor:
        many = rows if rows.ndim == 2 else rows[None]
        found = torch.tensor([number(tokens[row]) for row in many], dtype=torch.float64)
        return found if rows.ndim == 2 else found[0]

    return bootstrap_statistic(measure, len(tokens), key, resamples=RESAMPLES)


def _shares(x: Tensor, vocabulary: int) -> dict[int, float]:
    return histogram(np.ascontiguousarray(x.numpy()), ORDER, vocabulary)
