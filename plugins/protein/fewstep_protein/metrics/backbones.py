"""What is measured on chains: local validity, and distances of distributions to real chains of the same lengths.

Every metric is ``(samples (B, N, 3), batch, key) -> Score`` with a bootstrap interval over chains. The batch's mask
says which residues are real; its ``x`` holds real chains of the same lengths for comparison.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fewstep.protocol import Batch, Key, Metric, Score
from fewstep.runs import bootstrap, bootstrap_statistic
from fewstep_protein.structures import geometry
from fewstep_protein.structures.files import ANGSTROM, real_chains

QUANTILES = 100
"""Points at which two distributions are compared."""
BINS = 18
"""Bins of a dihedral histogram, 20 degrees each."""

PerChain = Callable[[Tensor], Tensor]
"""(n, 3) coordinates -> a vector of values."""


def chain_mean(values: PerChain) -> Callable[[Tensor, Batch, Key], Score]:
    """Metric function: the mean over chains of the mean of ``values`` in each."""

    def measure(x: Tensor, batch: Batch, key: Key) -> Score:
        return bootstrap(torch.stack([values(c).double().mean() for c in real_chains(x, batch.mask)]), key)

    return measure


def quantile_distance(values: PerChain) -> Callable[[Tensor, Batch, Key], Score]:
    """Metric function: Wasserstein-1 distance of the pooled ``values`` of samples and of the batch's real chains."""

    def measure(x: Tensor, batch: Batch, key: Key) -> Score:
        made = [values(c).flatten() for c in real_chains(x, batch.mask)]
        truth = _quantiles(torch.cat([values(c).flatten() for c in real_chains(batch.x, batch.mask)]))
        return _over_chains(lambda pooled: (_quantiles(pooled) - truth).abs().mean(), made, key)

    return measure


def dihedral_distance(x: Tensor, batch: Batch, key: Key) -> Score:
    """Total variation distance of the pseudo-dihedral histograms of samples and of the batch's real chains."""
    made = [geometry.dihedrals(c) for c in real_chains(x, batch.mask)]
    truth = _histogram(torch.cat([geometry.dihedrals(c) for c in real_chains(batch.x, batch.mask)]))
    return _over_chains(lambda pooled: (_histogram(pooled) - truth).abs().sum() / 2, made, key)


def valid_bonds(chain: Tensor) -> Tensor:
    """1 for each CA-CA distance in BOND_RANGE, else 0."""
    length = geometry.bonds(chain)
    return ((length >= geometry.BOND_RANGE[0]) & (length <= geometry.BOND_RANGE[1])).double()


def right_handed(chain: Tensor) -> Tensor:
    """1 for each right-handed turn, 0 for each left-handed one; one half if the chain has no turn."""
    right, count = geometry.turns(chain)
    return torch.where(count > 0, right / count.clamp(min=1), 0.5)[None]


def backbone_metrics() -> tuple[Metric, ...]:
    """All metrics of CA backbones."""
    share, near = chain_mean(valid_bonds), quantile_distance
    bond = near(lambda c: geometry.bonds(c) * ANGSTROM)
    size = near(lambda c: geometry.gyration_radius(c)[None] * ANGSTROM)
    pairs = near(lambda c: geometry.pair_distances(c) * ANGSTROM)
    clash, helix = chain_mean(lambda c: geometry.clashes(c)[None]), chain_mean(geometry.helix_share)
    unit = "angstrom"
    return (
        Metric("valid_bonds", "higher", share, "", "share of CA-CA distances in 3.6 to 4.0 angstrom"),
        Metric("bond_distance", "lower", bond, unit, "W1 to real CA-CA distances"),
        Metric("rg_distance", "lower", size, unit, "W1 to real gyration radii"),
        Metric("pair_distance", "lower", pairs, unit, "W1 to real distances of residues 3 or more apart"),
        Metric(
            "dihedral_distance", "lower", dihedral_distance, "", "total variation to real pseudo-dihedrals"
        ),
        Metric("clashes", "lower", clash, "per residue", "pairs closer than 3.8 angstrom"),
        Metric("right_handed", "higher", chain_mean(right_handed), "", "share of right-handed turns"),
        Metric("helix", "higher", helix, "", "share of helical residue quadruples"),
    )


def _over_chains(statistic: Callable[[Tensor], Tensor], values: Sequence[Tensor], key: Key) -> Score:
    """A statistic of pooled values; whole chains are resampled, because residues of one chain are not independent."""

    def of_rows(rows: Tensor) -> Tensor:
        picked = rows.reshape(-1, rows.shape[-1])
        found = [statistic(torch.cat([values[i] for i in row])) for row in picked.tolist()]
        return torch.stack(found).reshape(rows.shape[:-1]).double()

    return bootstrap_statistic(of_rows, len(values), key, resamples=100)


def _quantiles(values: Tensor) -> Tensor:
    ranked = values.double().sort().values
    places = (torch.arange(QUANTILES, dtype=torch.float64) + 0.5) / QUANTILES * len(ranked)
    return ranked[places.long().clamp(max=len(ranked) - 1)]


def _histogram(dihedral: Tensor) -> Tensor:
    counted = torch.histc(dihedral.double(), BINS, -math.pi, math.pi)
    return counted / counted.sum().clamp(min=1)
