"""Exact distances between the law of a few-step sampler and the chain."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from fewstep.protocol import Batch, Key, Metric, Score, Tree
from fewstep.testing.markov import divergence, entropy
from fewstep_text.markov.chain import Chain, law_of


def chain_metrics(chain: Chain) -> tuple[Metric, ...]:
    """KL both ways, and the variety of neighboring letters."""
    return (
        Metric(
            "forward_kl",
            "lower",
            _exact(chain, lambda q: divergence(chain.law, q)),
            "nats",
            "KL(chain | sampler), exact: what the sampler misses",
        ),
        Metric(
            "reverse_kl",
            "lower",
            _exact(chain, lambda q: divergence(q, chain.law)),
            "nats",
            "KL(sampler | chain), exact: what the sampler makes up",
        ),
        Metric(
            "pair_entropy_gap",
            "lower",
            _exact(chain, lambda q: abs(pair_entropy(q, chain) - pair_entropy(chain.law, chain))),
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


def _exact(chain: Chain, number: Callable[[Tensor], float]) -> Callable[[Tree, Batch, Key], Score]:
    """A number of the sampler's law; it has no sampling error, so its interval is a point."""

    def measure(x: Tree, batch: Batch, key: Key) -> Score:
        value = number(law_of(x, chain.process))
        return Score(value, value, value, len(chain.law))

    return measure
