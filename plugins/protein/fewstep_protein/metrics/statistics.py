"""How numbers of chains become scores: whole chains are resampled, because residues of one chain are not independent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fewstep.protocol import Key, Score
from fewstep.runs import bootstrap_statistic

RESAMPLES = 100
AT_ONCE = 4_000_000
"""Numbers of resampled distributions that are held at once."""
FARTHEST = 1000.0
"""What a value that is not a number counts as, in angstrom: a chain that failed lies far from every real one."""


def counts_of(rows: Tensor, count: int) -> Tensor:
    """(..., N) row numbers -> (..., count) float64: how often each of ``count`` chains was drawn."""
    zero = torch.zeros(*rows.shape[:-1], count, dtype=torch.float64)
    return zero.scatter_add(-1, rows, torch.ones(rows.shape, dtype=torch.float64))


def of_sums(per_chain: Tensor, statistic: Callable[[Tensor], Tensor], key: Key) -> Score:
    """A statistic of sums over chains: (B, F) addends, (..., F) sums -> (...) values."""
    addends = per_chain.double()
    return bootstrap_statistic(
        lambda rows: statistic(counts_of(rows, len(addends)) @ addends),
        len(addends),
        key,
        resamples=RESAMPLES,
    )


def ratio(parts: Tensor, wholes: Tensor, key: Key, without: float = 0.5) -> Score:
    """Sum of parts (B,) over sum of wholes (B,): a share of things of which chains have different numbers.

    Args:
        parts: of each chain.
        wholes: of each chain.
        key: of the resampling.
        without: the share where there is no such thing at all.
    """

    def statistic(sums: Tensor) -> Tensor:
        return torch.where(sums[..., 1] > 0, sums[..., 0] / sums[..., 1].clamp(min=1e-9), without)

    return of_sums(torch.stack([parts.double(), wholes.double()], -1), statistic, key)


def earth_movers(made: Sequence[Tensor], real: Sequence[Tensor], key: Key) -> Score:
    """Wasserstein-1 distance of pooled values of samples and of real chains: the area between the distributions.

    Exact, not binned: values are sorted once, and a resample only changes their weights.

    Args:
        made: the values (v,) of each sample.
        real: those of each real chain.
        key: of the resampling.
    """
    values = torch.cat([torch.cat([_finite(v) for v in made]), torch.cat([_finite(v) for v in real])])
    owner = torch.repeat_interleave(torch.arange(len(made)), torch.tensor([v.numel() for v in made]))
    number = torch.tensor([v.numel() for v in made], dtype=torch.float64)
    ranked, order = values.sort()
    gaps = ranked.diff()
    truth = torch.zeros_like(values)
    truth[len(owner) :] = 1 / (len(values) - len(owner))

    def area(weights: Tensor) -> Tensor:
        mine = torch.cat([weights[:, owner], weights.new_zeros(len(weights), len(values) - len(owner))], 1)
        ahead = (mine - truth)[:, order].cumsum(1)[:, :-1]
        return ahead.abs() @ gaps

    def statistic(rows: Tensor) -> Tensor:
        drawn = counts_of(rows, len(made)).reshape(-1, len(made))
        weights = drawn / (drawn @ number)[:, None]
        parts = weights.split(max(1, AT_ONCE // len(values)))
        return torch.cat([area(part) for part in parts]).reshape(rows.shape[:-1])

    return bootstrap_statistic(statistic, len(made), key, resamples=RESAMPLES)


def _finite(values: Tensor) -> Tensor:
    found = values.flatten().double()
    return found.nan_to_num(FARTHEST, FARTHEST, -FARTHEST).clamp(-FARTHEST, FARTHEST)
