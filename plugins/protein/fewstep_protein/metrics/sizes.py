"""How large chains are: gyration radius, also relative to that of a globule of the same length."""

from __future__ import annotations

import torch
from torch import Tensor

from fewstep.protocol import Key, Metric, Score
from fewstep_protein.metrics.ensemble import Ensemble, of_batch
from fewstep_protein.metrics.statistics import earth_movers
from fewstep_protein.structures import geometry
from fewstep_protein.structures.files import ANGSTROM

PAIRS = 128
"""Pairs of a chain whose distances are compared, spread evenly over all of them."""


def metrics() -> tuple[Metric, ...]:
    """Distances of distributions of sizes."""
    return (
        Metric("rg_distance", "lower", of_batch(distance), "angstrom", "W1 to real gyration radii"),
        Metric(
            "rg_ratio_distance",
            "lower",
            of_batch(ratio_distance),
            "",
            "W1 to real gyration radii, each over 2.2 n^0.38 angstrom",
        ),
        Metric(
            "pair_distance",
            "lower",
            of_batch(pair_distance),
            "angstrom",
            "W1 to real distances of residues 3 or more apart",
        ),
    )


def distance(made: Ensemble, real: Ensemble, key: Key) -> Score:
    """W1 of gyration radii in angstrom."""
    return _of_column("rg", made, real, key)


def ratio_distance(made: Ensemble, real: Ensemble, key: Key) -> Score:
    """W1 of gyration radii over that of a globule: what is left when the length has been allowed for."""
    return _of_column("rg_ratio", made, real, key)


def pair_distance(made: Ensemble, real: Ensemble, key: Key) -> Score:
    """W1 of distances between residues, at most PAIRS of each chain."""
    return earth_movers(_pairs(made), _pairs(real), key)


def _of_column(name: str, made: Ensemble, real: Ensemble, key: Key) -> Score:
    return earth_movers(made.columns[name].split(1), real.columns[name].split(1), key)


def _pairs(ensemble: Ensemble) -> list[Tensor]:
    return [_spread(geometry.pair_distances(chain)) * ANGSTROM for chain in ensemble.chains]


def _spread(values: Tensor) -> Tensor:
    """At most PAIRS of the values, at even places."""
    if len(values) <= PAIRS:
        return values
    return values[torch.linspace(0, len(values) - 1, PAIRS).long()]
