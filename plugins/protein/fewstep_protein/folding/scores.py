"""How sure ProteinMPNN is of a sequence for a backbone: ``mpnn_nll``, as a metric and as a column of a table.

It is the mean negative log-likelihood per residue of a sequence that the network itself drew for the backbone, at
temperature one: an estimate of the entropy of its belief. It tells backbones with real local geometry (2.2 nats) from
broken ones (2.8); it is not designability, which needs a predictor. At the temperature 0.1 of designs it would not
even do that: on coordinates that say nothing the network repeats a few letters, and is sure of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from fewstep.protocol import Batch, Key, Metric, Score
from fewstep.runs import bootstrap
from fewstep_protein.folding.mpnn import FIRST, InverseFolder, load, problem
from fewstep_protein.structures.files import real_chains

GUESS = math.log(20)
"""Nats per residue of a guess among twenty: what a chain gets that the network cannot read."""
TEMPERATURE = 1.0
"""At which the sequences are drawn."""
MPNN_NLL = "mpnn_nll"


def own_nll(inverse: InverseFolder, chains: Sequence[Tensor], key: Key = FIRST, per: int = 1) -> Tensor:
    """(B,) mean nats per residue of ``per`` sequences of each chain's own, float64.

    Chains that cannot be read (not finite, shorter than five residues) count like a guess.
    """
    found = torch.full((len(chains),), GUESS, dtype=torch.float64)
    readable = [i for i, chain in enumerate(chains) if not problem(chain)]
    made = inverse.sample([chains[i] for i in readable], per, TEMPERATURE, key, names=readable)
    for i, designs in zip(readable, made, strict=True):
        found[i] = sum(one.nll for one in designs) / per
    return found


def column(path: Path | None = None, per: int = 1) -> Callable[[Sequence[Tensor]], dict[str, Tensor]]:
    """A measure for a table of designs: chains -> ``{"mpnn_nll": (B,)}``.

    Raises:
        FewstepError: there are no weights; now, not when a table is half made.
    """
    inverse = load(path)
    return lambda chains: {MPNN_NLL: own_nll(inverse, chains, per=per)}


def metric(path: Path | None = None) -> Metric:
    """The same over the chains of an evaluation, with its interval; weights are read when it is first asked."""
    known = lru_cache(maxsize=1)(lambda: load(path))

    def measure(x: Tensor, batch: Batch, key: Key) -> Score:
        return bootstrap(own_nll(known(), real_chains(x, batch.mask), key.at("sequences")), key)

    about = "ProteinMPNN's nats per residue for a sequence of its own; not designability"
    return Metric(MPNN_NLL, "lower", measure, "nats", about)
