"""TM-scores, diversity by them, and novelty against a training set: each must be able to fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fewstep.protocol import Batch, Key, Score
from fewstep_protein.metrics import alignment, backbones, novelty
from fewstep_protein.metrics.alignment import clusters, groups, tm_score
from fewstep_protein.structures import segments, sources

TRAINING = [s.coordinates for s in segments.split(held_out=False)]
METRICS = {metric.name: metric for metric in backbones.backbone_metrics(TRAINING)}


@pytest.fixture(scope="module")
def real() -> Batch:
    return sources.Windows(segments.split(held_out=True), 24, 24, 36, 12).batch(0, Key(0))


def measure(name: str, x: Tensor, batch: Batch) -> Score:
    return METRICS[name].fn(x, batch, Key(1))


def turned(chain: Tensor) -> Tensor:
    """The chain, turned and moved."""
    turn, _ = torch.linalg.qr(Key(4).normal(torch.zeros(3, 3).double()))
    return chain.double() @ (turn * torch.linalg.det(turn)).T + 2.0


def test_a_chain_turned_and_moved_scores_one_with_itself() -> None:
    chain = TRAINING[0][:60]
    assert tm_score(chain, chain) == pytest.approx(1, abs=1e-6)
    assert tm_score(chain, turned(chain)) == pytest.approx(1, abs=1e-6)


def test_noise_on_a_chain_lowers_its_score_step_by_step() -> None:
    chain = TRAINING[0][:60]
    noise = Key(0).normal(chain)
    found = [tm_score(chain, chain + size * noise) for size in (0.0, 0.05, 0.15, 0.5)]
    assert found == sorted(found, reverse=True)
    assert found[1] > 0.9
    assert found[3] < 0.4


def test_a_part_of_a_chain_scores_one_and_the_order_does_not_matter() -> None:
    whole, part = TRAINING[0][:80], TRAINING[0][20:60]
    assert tm_score(whole, part) == pytest.approx(1, abs=1e-6)
    assert tm_score(part, whole) == pytest.approx(1, abs=1e-6)


def test_a_mirror_image_is_another_fold(helix: Callable[..., Tensor]) -> None:
    chain = TRAINING[0][:60]
    assert tm_score(chain, chain * torch.tensor([1.0, 1.0, -1.0])) < 0.5
    assert tm_score(helix(40), helix(40, -1)) < 0.5


def test_chains_that_cannot_be_aligned_are_refused() -> None:
    for bad in (TRAINING[0][:3], TRAINING[0][:40] * float("nan"), TRAINING[0][:40] * 1000):
        with pytest.raises(ValueError, match="can be aligned"):
            tm_score(bad, TRAINING[0])


def test_short_chains_are_scored_in_small_units_so_that_only_copies_look_alike() -> None:
    chain = TRAINING[0][:16]
    assert tm_score(chain, chain) == pytest.approx(1, abs=1e-6)
    assert tm_score(chain, chain + 0.1 * Key(0).normal(chain)) < 0.5


def test_greedy_clusters_are_those_of_a_table_worked_out_by_hand() -> None:
    # 0 and 1 are alike, 1 and 2 are alike, 0 and 2 are not: 0 takes 1, and 2 starts the second cluster.
    scores = torch.tensor([[1, 0.9, 0.1], [0.9, 1, 0.9], [0.1, 0.9, 1.0]])
    assert int(clusters(scores, torch.ones(3, dtype=torch.bool))) == 2
    without = torch.tensor([[False, True, True], [True, True, False]])
    assert clusters(scores, without).tolist() == [1, 1]


def test_groups_hold_about_equally_long_chains_and_cost_no_more_than_allowed() -> None:
    lengths = [40 + i for i in range(90)]
    found = groups(lengths)
    assert all(max(lengths[i] for i in row) - min(lengths[i] for i in row) < 12 for row in found)
    cost = sum(len(row) * (len(row) - 1) / 2 for row in found) * max(lengths) ** 2
    assert cost <= alignment.COST
    assert groups(lengths) == found
    assert [len(row) for row in groups([10, 20])] == [2]
    assert groups([10]) == ((0,),)


def test_copies_of_one_chain_are_not_diverse_and_real_chains_are(real: Batch) -> None:
    copies = real.x[:1].expand_as(real.x) + 0.002 * Key(2).normal(real.x)
    whole = Batch(like=real.like, x=real.x[:1].expand_as(real.x).contiguous())
    many, one = measure("pairwise_tm", real.x, real), measure("pairwise_tm", copies, whole)
    assert many.high < 0.5
    assert one.low > 0.95
    assert many.n == 24
    assert measure("clusters", real.x, real).value > 0.6
    assert measure("clusters", copies, whole).value < 0.2


def test_exploding_makes_no_sample_diverse_or_new(real: Batch) -> None:
    broken = real.x * float("nan")
    assert measure("pairwise_tm", broken, real).value == 1
    assert measure("clusters", broken, real).value <= 3 / 24
    assert measure("training_tm", broken, real).value == 1


def test_one_chain_is_not_diverse(real: Batch) -> None:
    alone = Batch(like=real.like[:1], x=real.x[:1], cond=type(real.cond)(mask=real.mask[:1]))
    assert measure("pairwise_tm", alone.x, alone).value == 1


def test_a_training_chain_is_found_again_from_any_side_and_held_out_ones_are_not(real: Batch) -> None:
    shown = [chain[5:37] for chain in TRAINING[:200:25]]
    assert novelty.nearest([turned(chain) for chain in shown], TRAINING).min() > 0.95
    assert measure("training_tm", real.x, real).value < 0.8


def test_superposing_without_gaps_is_the_distance_after_the_best_rotation() -> None:
    from Bio.SVDSuperimposer import SVDSuperimposer

    places, chain = TRAINING[0][:50], TRAINING[1][:20]
    found = novelty.superposed(places, turned(chain))
    assert bool(found[-19:].isinf().all())
    for start in (0, 17, 30):
        fit = SVDSuperimposer()
        fit.set(chain.numpy(), places[start : start + 20].numpy())
        fit.run()
        assert float(found[start].sqrt()) == pytest.approx(float(fit.get_rms()), rel=1e-3)
    assert float(novelty.superposed(turned(places[5:40]), places[12:32])[7].sqrt()) == pytest.approx(
        0, abs=3e-3
    )
    mirrored = places * torch.tensor([1.0, 1.0, -1.0])
    assert float(novelty.superposed(mirrored, places[12:32])[12].sqrt()) > 0.1


def test_a_sample_longer_than_every_training_chain_is_compared_with_the_longest() -> None:
    whole = TRAINING[0][:60]
    assert novelty.nearest_score(whole, [whole[:30], whole[:40]]) == pytest.approx(1, abs=1e-6)


def test_windows_like_others_have_their_lengths_and_lie_in_the_chains() -> None:
    found = novelty.windows_like([24, 30, 24, 9999], TRAINING, Key(0))
    assert [len(window) for window in found] == [24, 30, 24]
    # Single precision of chains up to 8 nanometers from the origin: within 0.3 angstrom.
    assert all(novelty.superposed(torch.cat(TRAINING), window).min() < 1e-3 for window in found)
