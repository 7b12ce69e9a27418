"""Exact distances between the law of a few-step sampler and the chain."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from fewstep.protocol import Batch, Key, Metric, Score, Tree
from fewstep.testing.markov import divergence, entropy
from fewstep_text.markov.chain import Chain, law_of


def chain_metrics(chain: Chain) -> tuple[Metric, ...]:
    """KL both ways, and entropy as a share of the chain's own."""
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
            "entropy_share",
            "higher",
            _exact(chain, lambda q: entropy(q) / entropy(chain.law)),
            "",
            "entropy of the sampler over that of the chain, exact: below 1 it repeats itself",
        ),
    )


def _exact(chain: Chain, number: Callable[[Tensor], float]) -> Callable[[Tree, Batch, Key], Score]:
    """A number of the sampler's law; it has no sampling error, so its interval is a point."""

    def measure(x: Tree, batch: Batch, key: Key) -> Score:
        value = number(law_of(x, chain.process))
        return Score(value, value, value, len(chain.law))

    return measure
