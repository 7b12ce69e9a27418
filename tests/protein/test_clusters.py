"""Repeats, families, clusters of folds and what may be held out, against cases whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fewstep_protein.structures import clusters, segments
from fewstep_protein.structures.clusters import Comparing, Fold


def sequence(seed: int, length: int = 60) -> str:
    """A random sequence."""
    return "".join(np.random.default_rng(seed).choice(list("ACDEFGHIKLMNPQRSTVWY"), length))


def test_the_longest_of_repeats_is_kept() -> None:
    long, other = sequence(0, 80), sequence(1)
    assert clusters.without_repeats([long[:60], other, long, long[20:]]) == [2, 1]
    assert clusters.without_repeats([other, other]) == [0]


def test_families_link_through_a_chain_that_shares_words_with_both() -> None:
    left, right = sequence(0), sequence(1)
    bridge = left[:20] + sequence(2, 30) + right[-20:]
    assert clusters.families([left, right, sequence(3)]) == [0, 1, 2]
    assert clusters.families([left, right, sequence(3), bridge]) == [0, 0, 1, 0]


def test_joined_numbers_components_by_first_appearance() -> None:
    assert clusters.joined(5, [(3, 1), (4, 3)]) == [0, 1, 2, 1, 1]


def fold(chain: np.ndarray) -> Fold:
    """A chain of which nothing is known but its places: all coil."""
    return Fold(np.ascontiguousarray(chain), np.array([0, 0, len(chain)]))


@pytest.fixture(scope="module")
def folds() -> dict[str, Fold]:
    """Two real chains, each with a turned, shaken and shortened copy."""
    shipped = sorted(segments.split(held_out=True), key=lambda s: len(s.coordinates))
    first, second = (s.coordinates.double().numpy() * 10 for s in (shipped[0], shipped[-1]))
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))

    def copy(chain: np.ndarray) -> np.ndarray:
        shaken = chain + np.random.default_rng(1).normal(scale=0.3, size=chain.shape)
        return (shaken @ turn.T + 50.0)[: len(chain) - 5]

    return {"a": fold(first), "a2": fold(copy(first)), "b": fold(second), "b2": fold(copy(second))}


def test_a_turned_copy_has_the_same_fold_and_its_mirror_image_has_not(folds: dict[str, Fold]) -> None:
    assert clusters.same_fold(folds["b"], folds["b2"])
    assert not clusters.same_fold(folds["a"], folds["b"])
    mirrored = fold(folds["b"].trace * np.array([1.0, 1.0, -1.0]))
    assert not clusters.same_fold(folds["b"], mirrored)


def test_chains_of_other_content_are_not_even_aligned(folds: dict[str, Fold]) -> None:
    helix = Fold(folds["b2"].trace, np.array([len(folds["b2"].trace), 0, 0]))
    assert not clusters.same_fold(folds["b"], helix)


def test_clusters_join_chains_of_one_fold_and_families_stay_whole(
    folds: dict[str, Fold], tmp_path: Path
) -> None:
    comparing = Comparing(folds, tmp_path)
    apart = clusters.clusters(folds, {"a": 0, "a2": 1, "b": 2, "b2": 3}, comparing, block=1)
    assert apart["a"] == apart["a2"] != apart["b"] == apart["b2"]
    whole = clusters.clusters(folds, {"a": 0, "a2": 1, "b": 1, "b2": 3}, comparing)
    assert len(set(whole.values())) == 1


def test_blocks_do_not_change_clusters(folds: dict[str, Fold], tmp_path: Path) -> None:
    family = {"a": 0, "a2": 1, "b": 2, "b2": 3}
    found = [
        clusters.clusters(folds, family, Comparing(folds, tmp_path / str(block)), block=block)
        for block in (1, 2, 64)
    ]
    assert found[0] == found[1] == found[2]


def test_a_candidate_whose_fold_is_trained_on_is_not_held_out(folds: dict[str, Fold], tmp_path: Path) -> None:
    assert clusters.held_out(["a2", "b"], ["a"], Comparing(folds, tmp_path)) == ["b"]
    assert clusters.held_out(["a2", "b"], ["a", "b2"], Comparing(folds, tmp_path)) == []


def test_the_shuffled_order_is_fixed_and_does_not_follow_names() -> None:
    names = [f"1a{i:02d}_A_1" for i in range(100)]
    order = clusters.shuffled(names)
    assert order == clusters.shuffled(reversed(names))
    places = np.array([names.index(name) for name in order])
    assert abs(np.corrcoef(places, np.arange(100))[0, 1]) < 0.3
