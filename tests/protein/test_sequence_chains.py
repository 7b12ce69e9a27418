"""Chains over the amino acids: closed forms against one another, and what samplers of them must and cannot reach."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fewstep.processes import Masked
from fewstep.protocol import Batch, Cond, Denoiser, Key
from fewstep.samplers import ancestral
from fewstep.testing.markov import divergence as kl
from fewstep.testing.markov import sequence_law
from fewstep_protein.sequence_didi.alphabet import HIDDEN
from fewstep_protein.sequence_didi.chains import (
    Chain,
    ChainSource,
    ExactNet,
    dirichlet_chain,
    sharpened_chain,
)
from fewstep_protein.sequence_didi.metrics import divergence, pair_counts, surprise

CHAIN = dirichlet_chain(0)


def teacher(chain: Chain = CHAIN) -> Denoiser:
    return Denoiser(ExactNet(chain), Masked(HIDDEN), "logits")


def unmasked(count: int, length: int, steps: int) -> Tensor:
    model, x = teacher(), torch.full((count, length), HIDDEN)
    states = list(ancestral(model, x, model.process.grid(steps), Cond(), key=Key(5)))
    return states[-1].x


def pair_kl(x: Tensor, chain: Chain = CHAIN) -> float:
    counts = torch.stack([pair_counts(row) for row in x]).sum(0)
    return divergence(counts / counts.sum(), chain.pairs.flatten())


def test_the_dirichlet_chain_of_seed_0_has_the_known_information_and_entropy() -> None:
    entropy = -float(torch.special.xlogy(CHAIN.stationary, CHAIN.stationary).sum())
    assert pytest.approx(0.977, abs=5e-4) == CHAIN.information
    assert pytest.approx(2.885, abs=5e-4) == entropy
    assert pytest.approx(entropy - CHAIN.information) == CHAIN.entropy_rate


def test_a_hidden_letter_depends_on_its_nearest_visible_neighbors_alone() -> None:
    x = torch.tensor([[3, HIDDEN, HIDDEN, HIDDEN, 7, 11]])
    found = torch.softmax(ExactNet(CHAIN)(x, torch.ones(1), Cond())[0].double(), -1)
    powers = [torch.linalg.matrix_power(CHAIN.transition, n) for n in range(5)]
    for place in (1, 2, 3):
        joint = powers[place][3] * powers[4 - place][:, 7]
        torch.testing.assert_close(found[place], joint / joint.sum(), atol=1e-6, rtol=1e-5)


def test_before_anything_is_visible_every_letter_has_the_stationary_law() -> None:
    found = torch.softmax(ExactNet(CHAIN)(torch.full((1, 9), HIDDEN), torch.ones(1), Cond()).double(), -1)
    torch.testing.assert_close(found[0], CHAIN.stationary.expand(9, -1), atol=1e-6, rtol=1e-5)


def test_padding_is_unseen_and_not_a_letter() -> None:
    x = torch.tensor([[4, HIDDEN, HIDDEN, 9, HIDDEN]])
    padded = torch.cat([x, torch.zeros(1, 3, dtype=torch.int64)], 1)
    mask = torch.arange(8)[None] < 5
    alone, beside = (
        ExactNet(CHAIN)(s, torch.ones(1), c) for s, c in ((x, Cond()), (padded, Cond(mask=mask)))
    )
    torch.testing.assert_close(alone, beside[:, :5])


def test_independent_letters_miss_exactly_the_information_of_every_bond() -> None:
    small = Chain(CHAIN.transition[:4, :4] / CHAIN.transition[:4, :4].sum(1, keepdim=True))
    model = ExactNet(small)
    model.chain.process = Masked(4)
    law = sequence_law(model.chain, 5)
    independent = small.stationary
    for _ in range(4):
        independent = torch.outer(independent, small.stationary).flatten()
    assert kl(law, independent) == pytest.approx(4 * small.information, abs=1e-10)


def test_exact_sequences_reach_the_bias_of_counting_and_one_call_misses_the_information() -> None:
    exact = CHAIN.draw(1500, 32, Key(1))
    floor = 399 / (2 * exact[:, 1:].numel())
    assert pair_kl(exact) < 1.5 * floor
    assert float(surprise(CHAIN, exact).mean()) == pytest.approx(
        CHAIN.entropy_rate + CHAIN.information / 32, abs=0.02
    )
    assert pair_kl(unmasked(500, 32, 1)) > CHAIN.information


def test_more_calls_of_the_exact_teacher_bring_pairs_nearer_to_the_chain() -> None:
    found = [pair_kl(unmasked(200, 20, steps)) for steps in (1, 2, 4, 16)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.1 * found[0]


def test_a_higher_power_makes_neighbors_of_counted_letters_tell_each_other_more() -> None:
    counts = torch.from_numpy(np.random.RandomState(3).poisson(300, (20, 20)))
    told = [sharpened_chain(counts, power).information for power in (1.0, 4.0, 8.0)]
    assert told[0] < told[1] < told[2]
    torch.testing.assert_close(sharpened_chain(counts, 8.0).transition.sum(1), torch.ones(20).double())


def test_a_batch_of_a_chain_depends_on_its_number_and_key_alone() -> None:
    source = ChainSource(CHAIN, 12, 8)
    again: Batch = source.batch(3, Key(2))
    assert torch.equal(source.batch(3, Key(2)).x, again.x)
    assert not torch.equal(source.batch(4, Key(2)).x, again.x)
    halves = [source.batch(3, Key(2, shard=(rank, 2))).x for rank in (0, 1)]
    assert torch.equal(torch.cat(halves), again.x)
