"""Whether samples differ from one another. A number of quality says nothing without it: one good chain, copied, has all."""

from __future__ import annotations

import torch
from torch import Tensor

from fewstep.protocol import Key, Metric, Score
from fewstep.runs import bootstrap_statistic
from fewstep_protein.metrics.alignment import clusters
from fewstep_protein.metrics.ensemble import Ensemble, of_batch
from fewstep_protein.metrics.statistics import RESAMPLES, counts_of


def metrics() -> tuple[Metric, ...]:
    """Mean TM-score of pairs, and clusters per chain."""
    return (
        Metric(
            "pairwise_tm", "lower", of_batch(pairwise), "", "diversity: mean TM-score of pairs of samples"
        ),
        Metric(
            "clusters",
            "higher",
            of_batch(clustered),
            "per chain",
            "diversity: greedy clusters at TM-score 0.5",
        ),
    )


def pairwise(made: Ensemble, real: Ensemble, key: Key) -> Score:
    """Mean TM-score of pairs of chains, over the groups that were aligned; 1 where there is only one chain."""
    scores, known = made.neighbors.joint
    pairs = (known & ~torch.eye(len(scores), dtype=torch.bool)).double()

    def statistic(rows: Tensor) -> Tensor:
        drawn = counts_of(rows, len(scores))
        number = ((drawn @ pairs) * drawn).sum(-1)
        total = ((drawn @ (scores * pairs)) * drawn).sum(-1)
        return torch.where(number > 0, total / number.clamp(min=1), 1.0)

    return bootstrap_statistic(statistic, len(scores), key, resamples=RESAMPLES)


def clustered(made: Ensemble, real: Ensemble, key: Key) -> Score:
    """Clusters of the aligned chains over their number; chains of different groups share no cluster."""
    scores, known = made.neighbors.joint
    alike = torch.where(known, scores, 0.0)

    def statistic(rows: Tensor) -> Tensor:
        present = counts_of(rows, len(scores)) > 0
        return clusters(alike, present).double() / present.sum(-1)

    return bootstrap_statistic(statistic, len(scores), key, resamples=RESAMPLES)
