"""How good written text is: an independent judge, the distance to real text, and variety."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from fewstep.protocol import Batch, Key, Metric, Score, Tree
from fewstep.runs import bootstrap
from fewstep_text.files import tokens_of
from fewstep_text.judge import NGrams, divergence, entropy, histogram

ORDER = 3
"""n of the n-grams whose shares are compared."""
RESAMPLES = 60
"""Bootstrap resamples of histogram statistics."""


def text_metrics(judge: NGrams, block: int) -> tuple[Metric, ...]:
    """Judged surprise, trigram distance and gap of trigram entropy of the last ``block`` tokens of each text.

    Surprise alone can be cheated: E_q[-log p] = KL(q | p) + H(q), so a text that repeats itself scores well. The
    distance and the gap are what such a text fails.
    """
    width = block + ORDER - 1
    real = histogram(judge.tokens[None], ORDER, judge.vocabulary)
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
            partial(_distance, judge.vocabulary, real, width),
            "nats",
            "Jensen-Shannon divergence of trigram shares to unseen real text; 0 equal, 0.69 disjoint",
        ),
        Metric(
            "entropy_gap",
            "lower",
            partial(_gap, judge.vocabulary, width),
            "nats",
            "how far the trigram entropy is from that of as many real texts; large for text that repeats itself",
        ),
    )


def _surprise(judge: NGrams, block: int, x: Tree, batch: Batch, key: Key) -> Score:
    nll = judge.nll(tokens_of(x).numpy())[:, -block:]
    return bootstrap(torch.from_numpy(nll.mean(1)), key)


def _distance(vocabulary: int, real: dict[int, float], width: int, x: Tree, batch: Batch, key: Key) -> Score:
    return around(lambda rows: divergence(_shares(rows, vocabulary), real), tokens_of(x)[:, -width:], key)


def _gap(vocabulary: int, width: int, x: Tree, batch: Batch, key: Key) -> Score:
    aim = entropy(_shares(tokens_of(batch.x)[:, -width:], vocabulary))
    return around(lambda rows: abs(entropy(_shares(rows, vocabulary)) - aim), tokens_of(x)[:, -width:], key)


def around(number: Callable[[Tensor], float], tokens: Tensor, key: Key) -> Score:
    """A statistic of whole histograms with 1.96 bootstrap standard errors to both sides.

    Resampling repeats rows and so makes any histogram poorer: percentiles of the resampled values are off to one
    side, their spread is not.

    Args:
        number: texts (N, L) to the statistic.
        tokens: (N, L).
        key: randomness of the resampling.
    """
    value = number(tokens)
    drawn = key.at("bootstrap").whole().integers((RESAMPLES, len(tokens)), len(tokens))
    error = float(np.std([number(tokens[rows]) for rows in drawn]))
    return Score(value, value - 1.96 * error, value + 1.96 * error, len(tokens))


def _shares(x: Tensor, vocabulary: int) -> dict[int, float]:
    return histogram(np.ascontiguousarray(x.numpy()), ORDER, vocabulary)
