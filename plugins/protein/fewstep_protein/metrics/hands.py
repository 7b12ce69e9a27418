"""Which way chains turn: dihedrals of four CA atoms, the hand of their turns and of their helices."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fewstep.protocol import Key, Metric, Score
from fewstep_protein.metrics import secondary
from fewstep_protein.metrics.ensemble import Ensemble, of_batch
from fewstep_protein.metrics.statistics import of_sums, ratio
from fewstep_protein.structures import geometry

BINS = 18
"""Bins of a dihedral histogram, 20 degrees each."""


def metrics() -> tuple[Metric, ...]:
    """The hand of turns and helices, and the distribution of all dihedrals."""
    return (
        Metric(
            "right_handed",
            "higher",
            of_batch(right_handed),
            "",
            "share of right-handed turns (i to i + 3 in 6 angstrom)",
        ),
        Metric(
            "right_handed_helix",
            "higher",
            of_batch(right_handed_helix),
            "",
            "share of P-SEA's helices that turn right",
        ),
        Metric(
            "dihedral_distance", "lower", of_batch(distance), "", "total variation to real pseudo-dihedrals"
        ),
    )


def right_handed(made: Ensemble, real: Ensemble, key: Key) -> Score:
    """Right-handed turns over all turns; one half without a turn."""
    counted = [geometry.turns(chain) for chain in made.chains]
    right, turn = (torch.stack(values) for values in zip(*counted, strict=True))
    return ratio(right, turn, key)


def right_handed_helix(made: Ensemble, real: Ensemble, key: Key) -> Score:
    """Positive dihedrals over all dihedrals of four helical residues; one half without a helix.

    P-SEA also calls a left-handed helix one, by its distances.
    """
    twists = [helical_dihedrals(chain, codes) for chain, codes in zip(made.chains, made.codes, strict=True)]
    right = torch.tensor([int((twist > 0).sum()) for twist in twists])
    return ratio(right, torch.tensor([len(twist) for twist in twists]), key)


def helical_dihedrals(chain: Tensor, codes: Tensor) -> Tensor:
    """The dihedrals of a chain (n, 3) whose four residues are helical by ``codes`` (n,)."""
    helical = codes == secondary.HELIX
    four = helical[:-3] & helical[1:-2] & helical[2:-1] & helical[3:]
    return geometry.dihedrals(chain)[four]


def distance(made: Ensemble, real: Ensemble, key: Key) -> Score:
    """Total variation distance of histograms; a dihedral that is no number lies in a bin of its own."""
    truth = histograms(real).sum(0)
    truth = truth / truth.sum().clamp(min=1)

    def statistic(sums: Tensor) -> Tensor:
        share = sums[..., :-1] / sums[..., -1:].clamp(min=1)
        return ((share - truth).abs().sum(-1) + 1 - share.sum(-1)) / 2

    counted = histograms(made)
    number = torch.tensor([max(0, len(chain) - 3) for chain in made.chains])
    return of_sums(torch.cat([counted, number[:, None]], 1), statistic, key)


def histograms(ensemble: Ensemble) -> Tensor:
    """(B, BINS) numbers of dihedrals of each chain."""
    found = [geometry.dihedrals(chain).double() for chain in ensemble.chains]
    return torch.stack([torch.histc(twist[twist.isfinite()], BINS, -math.pi, math.pi) for twist in found])
