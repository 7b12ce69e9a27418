"""All that is measured on CA backbones: gathered here, one file for each thing, defined exactly in ``METRICS.md``.

Every metric is ``(samples (B, N, 3), batch, key) -> Score`` with a bootstrap interval over whole chains. The batch's
mask says which residues are real; its ``x`` holds real chains of the same lengths for comparison. Quality comes
first, and diversity always beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fewstep.protocol import Metric
from fewstep_protein.metrics import bonds, clashes, diversity, frechet, hands, labels, novelty, shares, sizes
from fewstep_protein.metrics.extractor import load_extractor
from fewstep_protein.structures.segments import split


def backbone_metrics(
    training: Sequence[Tensor] | None = None, extractor: str | None = None
) -> tuple[Metric, ...]:
    """All metrics of CA backbones.

    Args:
        training: chains (n, 3) in nanometers that the teacher was shown; by default the shipped ones of the split.
        extractor: "module:callable", a descriptor of the user's for Frechet distances, beside the built-in one; see
            :mod:`fewstep_protein.metrics.extractor`.

    Raises:
        FewstepError: the extractor cannot be found.
    """
    shown = [one.coordinates for one in split(held_out=False)] if training is None else list(training)
    return (
        *bonds.metrics(),
        *clashes.metrics(),
        *sizes.metrics(),
        *hands.metrics(),
        *shares.metrics(),
        *diversity.metrics(),
        *novelty.metrics(shown),
        *frechet.metrics("geometry", lambda ensemble: ensemble.descriptors, shown),
        *([] if extractor is None else _extracted(extractor, shown)),
    )


def _extracted(target: str, training: Sequence[Tensor]) -> tuple[Metric, ...]:
    """Distances in the space of a user's extractor, and scores of its classes."""
    found = load_extractor(target)
    heads = [metric for name in found.heads for metric in labels.metrics(name, found.head(name))]
    return (*frechet.metrics(found.name, found.features, training), *heads)
