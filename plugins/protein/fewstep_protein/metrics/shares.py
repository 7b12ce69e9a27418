"""How much of chains is helix and strand, and how many chains are no chains at all."""

from __future__ import annotations

from torch import Tensor

from fewstep.protocol import Key, Metric, Score
from fewstep.runs import bootstrap
from fewstep_protein.metrics import secondary
from fewstep_protein.metrics.ensemble import Ensemble, of_batch
from fewstep_protein.metrics.statistics import of_sums


def metrics() -> tuple[Metric, ...]:
    """Shares of helix and strand, their distance to those of real chains, and failures."""
    return (
        Metric("helix", "higher", of_batch(helix), "", "share of residues in helices, by P-SEA"),
        Metric("strand", "higher", of_batch(strand), "", "share of residues in strands, by P-SEA"),
        Metric(
            "secondary_distance",
            "lower",
            of_batch(distance),
            "",
            "total variation of helix, strand and coil shares to real ones",
        ),
        Metric(
            "exploded",
            "lower",
            of_batch(exploded),
            "",
            "share of chains not finite or wider than 200 angstrom",
        ),
    )


def helix(made: Ensemble, real: Ensemble, key: Key) -> Score:
    """Mean share of helical residues."""
    return bootstrap(made.columns["helix"], key)


def strand(made: Ensemble, real: Ensemble, key: Key) -> Score:
    """Mean share of residues in strands."""
    return bootstrap(made.columns["strand"], key)


def exploded(made: Ensemble, real: Ensemble, key: Key) -> Score:
    """Share of chains in which no secondary structure is sought."""
    return bootstrap(made.columns["exploded"], key)


def distance(made: Ensemble, real: Ensemble, key: Key) -> Score:
    """Total variation distance of the mean shares."""
    truth = secondary.shares(real.codes).mean(0)
    shares = secondary.shares(made.codes)

    def statistic(sums: Tensor) -> Tensor:
        return (sums / len(shares) - truth).abs().sum(-1) / 2

    return of_sums(shares, statistic, key)
