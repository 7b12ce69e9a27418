"""The chain, and what is known of it and of any sampler over it without sampling error.

The samples of this recipe are mappings: "tokens" (B, L) for people, "beliefs" ((V + 1)^L, L, V) what the contender's
network says of *every* partly hidden sequence, and "steps" (B,) how many calls it makes. From the last two the law of
the sampler follows exactly, by the dynamic programme of :func:`fewstep.testing.markov.sampler_law`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fewstep.processes import Masked
from fewstep.protocol import Batch, Cond, Estimate, Key, Roles, Sampler, State, Step, Tree, rows
from fewstep.samplers import Sharpened, ancestral
from fewstep.testing.markov import MarkovTeacher, all_sequences, sampler_law, sequence_law


@dataclass(frozen=True)
class Chain:
    """A stationary Markov chain with Dirichlet rows.

    Args:
        vocabulary: V.
        length: L.
        concentration: of the Dirichlet law.
        seed: of its draw; the same numbers on every machine (NumPy's default generator).
    """

    vocabulary: int
    length: int
    concentration: float
    seed: int

    @cached_property
    def process(self) -> Masked:
        """Masked tokens."""
        return Masked(self.vocabulary)

    @cached_property
    def teacher(self) -> MarkovTeacher:
        """The exact denoiser."""
        ask = [self.concentration] * self.vocabulary
        drawn = np.random.default_rng(self.seed).dirichlet(ask, size=self.vocabulary)
        return MarkovTeacher(self.process, torch.from_numpy(drawn))

    @cached_property
    def law(self) -> Tensor:
        """(V^L,) exact probabilities of all sequences."""
        return sequence_law(self.teacher, self.length)

    @cached_property
    def table(self) -> tuple[Tensor, Tensor]:
        """All sequences (V^L, L), and the distribution function (V^L,) over them."""
        return all_sequences(self.vocabulary, self.length), self.law.cumsum(0)

    def draw(self, count: int, key: Key) -> Tensor:
        """(count, L) exact samples, by inverting the distribution function of the whole sequence."""
        sequences, up_to = self.table
        where = torch.searchsorted(up_to, key.uniform((count,)), right=True)
        return sequences[where.clamp(max=len(sequences) - 1)]


@dataclass(frozen=True)
class ChainSource:
    """Exact samples as batches."""

    chain: Chain
    size: int

    def batch(self, index: int, key: Key) -> Batch:
        """X (B, L)."""
        x = self.chain.draw(key.share(self.size), key.at("chain", index))
        return Batch(like=torch.zeros_like(x[:1]).expand_as(x), x=x)


@dataclass(frozen=True)
class Lookup:
    """A denoiser that answers from a table of beliefs about every state."""

    process: Masked
    beliefs: Tensor

    def __call__(self, xt: Tensor, t: Tensor, cond: Cond) -> Estimate:
        """Rows of the table."""
        digits = (self.process.vocabulary + 1) ** torch.arange(xt.shape[1] - 1, -1, -1)
        return Estimate(self.beliefs[(xt * digits).sum(1)])


def law_of(x: Tree, process: Masked) -> Tensor:
    """(V^L,) exact law of the contender that made these samples; their frequencies if all they are is tokens."""
    if isinstance(x, Tensor):
        return frequencies(x, process.vocabulary)
    return sampler_law(Lookup(process, x["beliefs"].double()), x["tokens"].shape[1], int(x["steps"][0]))


def frequencies(x: Tensor, vocabulary: int) -> Tensor:
    """(V^L,) shares of each sequence among samples (B, L), half a count added to every one (Jeffreys' prior)."""
    digits = vocabulary ** torch.arange(x.shape[1] - 1, -1, -1)
    counts = torch.bincount((x * digits).sum(1), minlength=vocabulary ** x.shape[1]).double() + 0.5
    return counts / counts.sum()


def with_beliefs(role: str, steps: int, length: int, sharpness: float = 1.0) -> Sampler:
    """A denoiser, or a student that is one, unmasking in ``steps`` calls, with its beliefs beside the samples.

    Asking for the beliefs is measuring, not sampling, so it goes past the counter of network calls.

    Args:
        role: shelf name.
        steps: network calls.
        length: L.
        sharpness: factor on the logits; far above 1 it is greedy decoding.
    """

    def draw(shelf: Roles, batch: Batch, step: Step) -> Iterator[State]:
        model = Sharpened(shelf[role], sharpness)
        beliefs = all_beliefs(model, length)
        steps_ = torch.full((rows(batch.like),), steps)
        x = torch.full_like(batch.like, model.process.hidden_token)
        x = torch.as_tensor(batch.extra.get("prefix", x))
        start = torch.ones(x.shape[0], dtype=torch.float64)
        yield State({"tokens": x, "beliefs": beliefs, "steps": steps_}, start)
        for state in ancestral(model, x, model.process.grid(steps), batch.cond, key=step.key.at("solver")):
            yield State({"tokens": state.x, "beliefs": beliefs, "steps": steps_}, state.t)

    return Sampler(draw, (role,))


def all_beliefs(model: Sharpened, length: int) -> Tensor:
    """((V + 1)^L, L, V) logits for every partly hidden sequence."""
    process: Masked = model.process
    states = all_sequences(process.vocabulary + 1, length)
    t = torch.ones(len(states), dtype=torch.float64)
    with torch.no_grad():
        # .forward, not a call: the hook that counts evaluations listens to calls.
        raw = model.net.forward(states, t.float(), Cond())
        return process.x0(raw, states, t) * model.sharpness
