"""Distances of CA atoms that follow one another: 3.80 angstrom with a spread of 0.02 in real chains."""

from __future__ import annotations

import torch
from torch import Tensor

from fewstep.protocol import Key, Metric, Score
from fewstep.runs import bootstrap
from fewstep_protein.metrics.ensemble import Ensemble, of_batch
from fewstep_protein.metrics.statistics import FARTHEST, earth_movers, of_sums
from fewstep_protein.structures import geometry
from fewstep_protein.structures.files import ANGSTROM


def metrics() -> tuple[Metric, ...]:
    """Validity, distribution, mean and spread."""
    return (
        Metric(
            "valid_bonds", "higher", of_batch(valid), "", "share of CA-CA distances in 3.6 to 4.0 angstrom"
        ),
        Metric("valid_chains", "higher", of_batch(whole), "", "share of chains all of whose bonds are valid"),
        Metric("bond_distance", "lower", of_batch(distance), "angstrom", "W1 to real CA-CA distances"),
        Metric(
            "bond_mean_error", "lower", of_batch(mean_error), "angstrom", "|mean CA-CA distance - real mean|"
        ),
        Metric(
            "bond_std_error",
            "lower",
            of_batch(std_error),
            "angstrom",
            "|spread of CA-CA distances - real one|",
        ),
    )


def valid(made: Ensemble, real: Ensemble, key: Key) -> Score:
    """Mean over chains of the share of valid bonds."""
    return bootstrap(made.columns["valid_bonds"], key)


def whole(made: Ensemble, real: Ensemble, key: Key) -> Score:
    """Share of chains without a broken bond: one in sixty spoils a design, and hardly shows among bonds."""
    return bootstrap((made.columns["valid_bonds"] == 1).double(), key)


def distance(made: Ensemble, real: Ensemble, key: Key) -> Score:
    """W1 of pooled bonds."""
    return earth_movers(lengths(made), lengths(real), key)


def mean_error(made: Ensemble, real: Ensemble, key: Key) -> Score:
    """How far the mean of all bonds is off."""
    true = torch.cat(lengths(real)).mean()
    return of_sums(_moments(made), lambda sums: (sums[..., 1] / sums[..., 0] - true).abs(), key)


def std_error(made: Ensemble, real: Ensemble, key: Key) -> Score:
    """How far the standard deviation of all bonds is off."""
    true = torch.cat(lengths(real)).std(correction=0)

    def statistic(sums: Tensor) -> Tensor:
        mean, square = sums[..., 1] / sums[..., 0], sums[..., 2] / sums[..., 0]
        return ((square - mean.square()).clamp(min=0).sqrt() - true).abs()

    return of_sums(_moments(made), statistic, key)


def lengths(ensemble: Ensemble) -> list[Tensor]:
    """CA-CA distances of each chain in angstrom, float64."""
    return [geometry.bonds(chain.double()) * ANGSTROM for chain in ensemble.chains]


def _moments(ensemble: Ensemble) -> Tensor:
    """(B, 3) number, sum and sum of squares of the bonds of each chain."""
    found = [bond.nan_to_num(FARTHEST).clamp(max=FARTHEST) for bond in lengths(ensemble)]
    return torch.stack([torch.stack([torch.ones_like(b).sum(), b.sum(), b.square().sum()]) for b in found])
