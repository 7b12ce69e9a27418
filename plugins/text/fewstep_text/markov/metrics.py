"""Exact distances between the law of a few-step sampler and the chain."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from fewstep.protocol import Batch, Key, Metric, Score, Tree
from fewstep.testing.markov import divergence, entropy
from fewstep_text.markov.chain import Chain, law_of


def chain_metrics(chain: Chain) -> tuple[Metric, ...]:
    """KL both ways, and the variety of neighboring letters."""
    exact = partial(_exact, _once(partial(law_of, process=chain.process)), len(chain.law))
    return (
        Metric(
            "forward_kl",
            "lower",
            exact(lambda q: divergence(chain.law, q)),
            "nats",
            "KL(chain | sampler), exact: what the sampler misses",
        ),
        Metric(
            "reverse_kl",
            "lower",
            exact(lambda q: divergence(q, chain.law)),
            "nats",
            "KL(sampler | chain), exact: what the sampler makes up",
        ),
        Metric(
            "pair_entropy_gap",
            "lower",
            exact(lambda q: abs(pair_entropy(q, chain) - pair_entropy(chain.law, chain))),
            "nats",
            "how far the mean entropy of neighboring letters is from the chain's, exact; large for repetition",
        ),
    )


def pair_entropy(law: Tensor, chain: Chain) -> float:
    """Mean entropy (nats) of the joint law of two neighboring letters.

    Args:
        law: (V^L,) probabilities of all sequences.
        chain: says V and L.
    """
    joint = law.reshape((chain.vocabulary,) * chain.length)
    pairs = [(place, place + 1) for place in range(chain.length - 1)]
    found = [entropy(joint.sum([d for d in range(chain.length) if d not in pair])) for pair in pairs]
    return sum(found) / len(found)


def _once(law: Callable[[Tree], Tensor]) -> Callable[[Tree], Tensor]:
    """The law of the samples that were last asked about is kept: every metric asks about the same ones in turn."""
    kept: list[tuple[Tree, Tensor]] = []

    def known(x: Tree) -> Tensor:
        if not kept or kept[0][0] is not x:
            kept[:] = [(x, law(x))]
        return kept[0][1]

    return known


def _exact(
    law: Callable[[Tree], Tensor], size: int, number: Callable[[Tensor], float]
) -> Callable[[Tree, Batch, Key], Score]:
    """A number of the sampler's law over ``size`` sequences; it has no sampling error, so its interval is a point."""

    def measure(x: Tree, batch: Batch, key: Key) -> Score:
        value = number(law(x))
        return Score(value, value, value, size)

    return measure
