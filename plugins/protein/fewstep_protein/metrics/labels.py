"""Scores of a classifier of folds: whether each chain is of a clear class, and whether all classes are there.

The forms of Geffner et al. (2025, arXiv:2503.00710): fS as the inception score (Salimans et al. 2016), fJSD as the
Jensen-Shannon divergence of mean class probabilities. The classifier is the user's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fewstep.protocol import Key, Metric, Score
from fewstep.runs import bootstrap_statistic
from fewstep_protein.metrics.ensemble import Ensemble, of_batch
from fewstep_protein.metrics.statistics import RESAMPLES, of_sums

SPLITS = 10
"""Parts over which the fold score is averaged, as published."""


def metrics(head: str, probabilities: Callable[[Ensemble], Tensor]) -> tuple[Metric, ...]:
    """Metrics fS and fJSD of one head of a classifier.

    Args:
        head: its name, such as C, A or T for levels of CATH.
        probabilities: chains -> (B, classes), rows that sum to one.
    """

    def score(made: Ensemble, real: Ensemble, key: Key) -> Score:
        rows = probabilities(made).double()
        return bootstrap_statistic(lambda drawn: fold_score(rows[drawn]), len(rows), key, resamples=RESAMPLES)

    def divergence(made: Ensemble, real: Ensemble, key: Key) -> Score:
        rows, true = probabilities(made).double(), probabilities(real).double().mean(0)
        return of_sums(rows, lambda sums: jensen_shannon(sums / len(rows), true), key)

    return (
        Metric(
            f"fS_{head}",
            "higher",
            of_batch(score),
            "",
            "exp of the mean divergence of a chain's classes from all",
        ),
        Metric(
            f"fJSD_{head}", "lower", of_batch(divergence), "nats", "Jensen-Shannon divergence of mean classes"
        ),
    )


def fold_score(probabilities: Tensor) -> Tensor:
    """(..., B, classes) -> (...): exp of the mean over chains of KL(p(c | x) || mean p(c)), averaged over SPLITS."""
    parts = probabilities.tensor_split(min(SPLITS, probabilities.shape[-2]), dim=-2)
    return torch.stack([kl(part, part.mean(-2, keepdim=True)).mean(-1).exp() for part in parts]).mean(0)


def jensen_shannon(first: Tensor, second: Tensor) -> Tensor:
    """(..., classes) twice -> (...) in nats, at most log 2."""
    middle = (first + second) / 2
    return (kl(first, middle) + kl(second, middle)) / 2


def kl(first: Tensor, second: Tensor) -> Tensor:
    """Divergence sum p log(p / q) over classes, in nats; a class without probability adds nothing."""
    return (torch.xlogy(first, first) - torch.xlogy(first, second)).sum(-1)
