"""Self-consistency: does a predicted structure of a designed sequence come back to the backbone that it was designed for?

As in the field (Trippe et al. 2023; Yim et al. 2023; Geffner et al. 2025): several sequences for each backbone, the best
of their predictions counts. A backbone whose best prediction lies within 2 angstrom is called designable there; the word
means "by this inverse folder and this predictor", and both belong beside the number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fewstep.errors import FewstepError
from fewstep.protocol import Key, Score
from fewstep.runs import bootstrap
from fewstep_protein.folding.folder import Folded, Folder
from fewstep_protein.folding.mpnn import FIRST, Designed
from fewstep_protein.metrics.alignment import tm_score
from fewstep_protein.structures.clusters import SAME_FOLD
from fewstep_protein.structures.files import ANGSTROM

NEAR = 2.0
"""Angstrom of scRMSD below which a backbone counts as folded back."""


class Inverse(Protocol):
    """What names sequences for backbones: :class:`fewstep_protein.folding.mpnn.InverseFolder`, or one's own."""

    def sample(
        self, chains: Sequence[Tensor], number: int, temperature: float, key: Key
    ) -> list[list[Designed]]:
        """``number`` sequences for each chain (n, 3) in nanometers."""
        ...


@dataclass(frozen=True)
class Consistency:
    """What came back, for C backbones with P sequences each.

    Args:
        rmsd: (C, P) angstrom between the CA atoms of backbone and prediction after superposition.
        tm: (C, P) TM-scores of the same.
        plddt: (C, P) mean confidence; not a number where the predictor tells none.
    """

    rmsd: Tensor
    tm: Tensor
    plddt: Tensor

    @property
    def scrmsd(self) -> Tensor:
        """(C,) the smallest RMSD of each backbone, angstrom."""
        return self.rmsd.amin(1)

    @property
    def sctm(self) -> Tensor:
        """(C,) the largest TM-score of each backbone."""
        return self.tm.amax(1)

    def scores(self, key: Key = FIRST) -> dict[str, Score]:
        """Means and shares over backbones, with their intervals and how many backbones there are."""
        columns = {
            "scrmsd": self.scrmsd,
            "sctm": self.sctm,
            "scrmsd_below_2A": (self.scrmsd < NEAR).double(),
            "sctm_above_0.5": (self.sctm > SAME_FOLD).double(),
        }
        if not bool(self.plddt.isnan().any()):
            best = self.rmsd.argmin(1, keepdim=True)
            columns["plddt"] = self.plddt.gather(1, best)[:, 0]
        return {name: bootstrap(values, key.at(name)) for name, values in columns.items()}


def self_consistency(
    chains: Sequence[Tensor],
    inverse: Inverse,
    folder: Folder,
    per: int = 8,
    temperature: float = 0.1,
    key: Key = FIRST,
) -> Consistency:
    """Design ``per`` sequences for each chain (n, 3) in nanometers, fold them all, and compare.

    Raises:
        FewstepError: no chain, chains that cannot be read, or a folder that does not answer.
    """
    if not chains or per < 1:
        raise FewstepError(
            f"{len(chains)} chains and {per} sequences for each", "at least one of both", "--per 8"
        )
    designs = inverse.sample(chains, per, temperature, key)
    folded = folder([one.sequence for row in designs for one in row])
    rows = [compared(chain, folded[i * per : (i + 1) * per]) for i, chain in enumerate(chains)]
    return Consistency(*(torch.stack(column) for column in zip(*rows, strict=True)))


def compared(chain: Tensor, predictions: Sequence[Folded]) -> tuple[Tensor, Tensor, Tensor]:
    """(P,) RMSD in angstrom, TM-score and mean pLDDT of the predictions for one chain (n, 3)."""
    rmsd = [superposed_rmsd(chain, one.coordinates) * ANGSTROM for one in predictions]
    tm = [tm_or_zero(chain, one.coordinates) for one in predictions]
    columns = (rmsd, tm, [one.confidence for one in predictions])
    first, second, third = (torch.tensor(column, dtype=torch.float64) for column in columns)
    return first, second, third


def tm_or_zero(first: Tensor, second: Tensor) -> float:
    """TM-score; 0 for a backbone that has exploded, which nothing resembles."""
    try:
        return tm_score(first.double(), second.double())
    except ValueError:
        return 0.0


def superposed_rmsd(first: Tensor, second: Tensor) -> float:
    """Root mean squared distance of two chains (n, 3) after the best shift and proper rotation, in their unit.

    Kabsch 1976 by singular values: with e = sum s_i (the last one signed like the determinant, so that no mirror image
    is allowed), n RMSD^2 = |a|^2 + |b|^2 - 2 e. The difference of the moved chains is taken instead, because that sum
    loses half of its digits where chains are alike.

    Raises:
        ValueError: chains of different length.
    """
    if first.shape != second.shape:
        raise ValueError(f"chains of {len(first)} and {len(second)} residues cannot be superposed")
    a, b = (chain.double() - chain.double().mean(0) for chain in (first, second))
    left, _, right = torch.linalg.svd(a.mT @ b)
    sign = torch.ones(3, dtype=torch.float64)
    sign[2] = torch.linalg.det(left) * torch.linalg.det(right)
    turned = a @ (left * sign) @ right
    return float((turned - b).square().sum(-1).mean().sqrt())
