"""The n-gram judge against what can be counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fewstep_text.judge import NGrams, codes, divergence, entropy, histogram


def test_a_unigram_judge_is_witten_bell_by_hand() -> None:
    """Tokens 0 0 0 1 of 3: p(0) = (3 + 2/3) / 6, p(1) = (1 + 2/3) / 6, p(2) = (2/3) / 6."""
    judge = NGrams(np.array([0, 0, 0, 1]), 3, 1)
    expected = -np.log(np.array([[11 / 18, 5 / 18, 2 / 18]]))
    np.testing.assert_allclose(judge.nll(np.array([[0, 1, 2]])), expected, rtol=1e-12)


def test_a_bigram_judge_is_witten_bell_by_hand() -> None:
    """Of 0 1 0 1 0: after 0 only 1, twice: p(1 | 0) = (2 + p(1)) / 3 with p(1) = (2 + 2/2) / 7."""
    judge = NGrams(np.array([0, 1, 0, 1, 0]), 2, 2)
    assert judge.nll(np.array([[0, 1]]))[0, 1] == pytest.approx(-math.log((2 + 3 / 7) / 3))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_next_token_probabilities_sum_to_one(order: int) -> None:
    stream = np.random.default_rng(0).integers(0, 5, 200)
    judge = NGrams(stream, 5, order)
    rows = np.array([[1, 4, 2, token] for token in range(5)])
    assert np.exp(-judge.nll(rows)[:, -1]).sum() == pytest.approx(1.0, abs=1e-12)


def test_the_judge_prefers_the_language_that_it_read() -> None:
    stream = np.tile(np.arange(6), 50)
    judge = NGrams(stream, 6, 3)
    assert judge.nll(stream[None, :12])[0, 3:].mean() < 0.2
    assert judge.nll(stream[None, 11::-1])[0, 3:].mean() > 2.0


def test_an_order_beyond_sixty_two_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="62 bits"):
        NGrams(np.arange(100), 4096, 6)


def test_codes_are_the_digits_of_their_tokens() -> None:
    assert codes(np.array([[1, 2, 3]]), 2, 10).tolist() == [[12, 23]]


def test_divergence_is_zero_for_equals_and_ln_2_for_strangers() -> None:
    p, q = {0: 0.5, 1: 0.5}, {2: 1.0}
    assert divergence(p, p) == 0.0
    assert divergence(p, q) == pytest.approx(math.log(2))


def test_the_entropy_of_four_equal_shares_is_ln_4() -> None:
    assert entropy(histogram(np.array([[0, 1, 2, 3]]), 1, 4)) == pytest.approx(math.log(4))
