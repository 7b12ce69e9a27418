"""What is measured: letters and pairs of neighbors against a known law, and guards against collapse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.protocol import Batch, Key, Metric, Score
from fewstep.runs import bootstrap
from fewstep_protein.sequence_didi import guards
from fewstep_protein.sequence_didi.alphabet import HIDDEN, rows_of
from fewstep_protein.sequence_didi.chains import Chain

RESAMPLES = 100
"""Bootstrap resamples of statistics of all letters together."""
COMPARED = 64
"""Sequences whose nearest relative is sought: each one is laid along the whole training set."""


@dataclass(frozen=True)
class Reference:
    """What sequences are compared with.

    Args:
        pairs: (20, 20) probabilities of neighbors, float64, none of them zero.
        chain: the law itself, where there is one; None = real proteins.
        training: the sequences that were learned from; empty where the law is known.
    """

    pairs: Tensor
    chain: Chain | None = None
    training: tuple[Tensor, ...] = ()

    @property
    def letters(self) -> Tensor:
        """(20,) probabilities of letters."""
        return self.pairs.sum(1)


def sequence_metrics(reference: Reference) -> tuple[Metric, ...]:
    """Pairs and composition, the chain's own surprise or the nearest real protein, guards."""
    known, chain = reference.pairs.flatten(), reference.chain
    source = "real proteins'" if chain is None else "the chain's"
    metrics = [
        Metric(
            "pair_kl",
            "lower",
            _of_counts(pair_counts, lambda n: divergence(n / n.sum(), known)),
            "nats",
            f"KL(pairs of neighbors | {source}): what is made up. N exact pairs give up to 399 / (2 N)",
        ),
        Metric(
            "pair_missing",
            "lower",
            _of_counts(pair_counts, lambda n: divergence(known, (n + 0.5) / (n + 0.5).sum())),
            "nats",
            f"KL({source} pairs | pairs of neighbors, half a count added to each): what is missing",
        ),
        Metric(
            "composition_kl",
            "lower",
            _of_counts(letter_counts, lambda n: divergence(n / n.sum(), reference.letters)),
            "nats",
            f"KL(letters | {source})",
        ),
        _per_sequence("entropy", "higher", "nats", "of the letters of one sequence; few letters have little"),
        _per_sequence("longest_run", "lower", "residues", "most equal letters in a row, mean over sequences"),
        _per_sequence("distinct_words", "higher", "", "share of different 3-letter words in a sequence"),
        Metric("diversity", "higher", _diversity, "", "1 - mean identity of two sequences"),
    ]
    if chain is not None:
        metrics.append(
            Metric(
                "surprise",
                "lower",
                lambda x, _, key: bootstrap(surprise(chain, x), key),
                "nats/residue",
                f"-log p of the exact chain; its own sequences have {chain.entropy_rate:.3f} and a little more",
            )
        )
    if reference.training:
        metrics.append(
            Metric(
                "nearest_identity",
                "lower",
                lambda x, batch, key: bootstrap(
                    guards.nearest_identities(rows_of(x[:COMPARED], _first(batch)), reference.training), key
                ),
                "",
                f"largest share of equal letters with a stretch of a training protein, first {COMPARED} sequences",
            )
        )
    return tuple(metrics)


def pair_counts(row: Tensor) -> Tensor:
    """(400,) how often each pair of neighbors occurs."""
    return torch.bincount(row[:-1] * HIDDEN + row[1:], minlength=HIDDEN**2).double()


def letter_counts(row: Tensor) -> Tensor:
    """(20,) how often each letter occurs."""
    return torch.bincount(row, minlength=HIDDEN).double()


def divergence(p: Tensor, q: Tensor) -> float:
    """KL(p | q) in nats; q is positive wherever p is."""
    return float((torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum())


def surprise(chain: Chain, x: Tensor) -> Tensor:
    """(B,) -log p(x) per residue under a chain, exact.

    Args:
        chain: the law.
        x: (B, L) ids.
    """
    first = chain.stationary[x[:, 0]].log()
    return -(first + chain.transition[x[:, :-1], x[:, 1:]].log().sum(1)) / x.shape[1]


def _of_counts(
    counted: Callable[[Tensor], Tensor], number: Callable[[Tensor], float]
) -> Callable[[Tensor, Batch, Key], Score]:
    """A number of all sequences' counts together, with 1.96 bootstrap standard errors to both sides.

    Resampling whole sequences repeats some and so adds bias of its own: percentiles would lie to one side of the value,
    the spread does not.
    """

    def measure(x: Tensor, batch: Batch, key: Key) -> Score:
        table = torch.stack([counted(row) for row in rows_of(x, batch.mask)])
        value = number(table.sum(0))
        drawn = key.at("bootstrap").whole().integers((RESAMPLES, len(table)), len(table))
        again = torch.tensor([number(table[rows].sum(0)) for rows in drawn])
        error = 1.96 * float(again.std())
        return Score(value, value - error, value + error, len(table))

    return measure


def _per_sequence(name: str, better: str, unit: str, description: str) -> Metric:
    def measure(x: Tensor, batch: Batch, key: Key) -> Score:
        return bootstrap(guards.describe(rows_of(x, batch.mask))[name], key)

    return Metric(name, better, measure, unit, description)  # type: ignore[arg-type]


def _diversity(x: Tensor, batch: Batch, key: Key) -> Score:
    """A closed form of all pairs; its interval by leaving out each tenth of the sequences in turn (jackknife)."""
    found: Sequence[Tensor] = rows_of(x, batch.mask)
    value = 1 - guards.mean_identity(found)
    blocks = min(10, len(found) // 2)
    if blocks < 2:
        return Score(value, value, value, len(found))
    left = torch.tensor(
        [
            1 - guards.mean_identity([r for i, r in enumerate(found) if i % blocks != block])
            for block in range(blocks)
        ]
    )
    error = 1.96 * float(((blocks - 1) / blocks * (left - left.mean()).square().sum()).sqrt())
    return Score(value, value - error, value + error, len(found))


def _first(batch: Batch) -> Tensor | None:
    return None if batch.mask is None else batch.mask[:COMPARED]
