"""Frechet distance of sets of chains: two sets become two Gaussians in the space of a descriptor.

The form is that of Heusel et al. (2017, eq. 6), with chains in place of pictures as in Geffner et al. (2025,
arXiv:2503.00710), whose descriptor is a trained network; ours is :mod:`fewstep_protein.metrics.descriptor`, and a
user's own may take its place. Distances in different descriptors cannot be compared, so each is named after its own,
and the distance of real training chains stands beside it: what a perfect generator would have with as many chains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fewstep.protocol import Key, Metric, Score
from fewstep.runs import bootstrap_statistic
from fewstep.runs.frechet import frechet
from fewstep_protein.metrics.ensemble import Ensemble, of_batch
from fewstep_protein.metrics.novelty import windows_like

RESAMPLES = 30
"""Each is an eigenvalue problem."""

FLOOR = Key(0).at("floor")
"""Which windows of the training chains are compared."""
Describe = Callable[[Ensemble], Tensor]
"""Chains -> (B, d) rows of a descriptor."""


def metrics(name: str, rows: Describe, training: Sequence[Tensor]) -> tuple[Metric, ...]:
    """The distance to real chains of the same lengths, also in units of that of training chains.

    Args:
        name: of the descriptor.
        rows: the descriptor.
        training: (n, 3) in nanometers.
    """
    known: dict[tuple[int, Key], tuple[Ensemble, Score]] = {}

    def measure(made: Ensemble, real: Ensemble, key: Key) -> Score:
        return between(rows(made), rows(real), key)

    def floor(real: Ensemble, key: Key) -> float:
        if (id(real), key) not in known:
            known.clear()
            shown = windows_like([len(chain) for chain in real.chains], training, FLOOR)
            known[id(real), key] = (real, between(rows(Ensemble(shown)), rows(real), key))
        return max(known[id(real), key][1].value, 1e-9)

    def measure_ratio(made: Ensemble, real: Ensemble, key: Key) -> Score:
        score, unit = measure(made, real, key), floor(real, key)
        return Score(score.value / unit, score.low / unit, score.high / unit, score.n)

    told = f"Frechet distance to real chains in the space of {name}"
    return (
        Metric(f"frechet_{name}", "lower", of_batch(measure), "", told),
        Metric(
            f"frechet_{name}_ratio",
            "lower",
            of_batch(measure_ratio),
            "",
            f"{told}, over that of training chains",
        ),
    )


def between(made: Tensor, real: Tensor, key: Key) -> Score:
    """Frechet distance of rows (B, d) to rows (C, d)."""
    rows = made.double()
    mean, covariance = gaussian(real.double())

    def statistic(drawn: Tensor) -> Tensor:
        found = [
            frechet(*gaussian(rows[row]), mean, covariance) for row in drawn.reshape(-1, drawn.shape[-1])
        ]
        return torch.stack(found).reshape(drawn.shape[:-1])

    return bootstrap_statistic(statistic, len(rows), key, resamples=RESAMPLES)


def gaussian(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(B, d) -> mean (d,) and unbiased covariance (d, d)."""
    mean = rows.mean(0)
    off = rows - mean
    return mean, off.T @ off / max(1, len(rows) - 1)
