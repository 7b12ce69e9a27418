"""Residues that sit in one another."""

from __future__ import annotations

from fewstep.protocol import Key, Metric, Score
from fewstep.runs import bootstrap
from fewstep_protein.metrics.ensemble import Ensemble, of_batch

FAILED = 1.0
"""Clashes per residue of a chain that is not finite."""


def metrics() -> tuple[Metric, ...]:
    """Clashes per residue."""
    return (Metric("clashes", "lower", of_batch(clashes), "per residue", "pairs closer than 3.8 angstrom"),)


def clashes(made: Ensemble, real: Ensemble, key: Key) -> Score:
    """Mean over chains of pairs at least three residues apart and closer than 3.8 angstrom, per residue."""
    return bootstrap(made.columns["clashes"].nan_to_num(FAILED), key)
