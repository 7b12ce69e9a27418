"""Guards against collapse: what each one says of sequences that everybody can judge."""

from __future__ import annotations

import math

import pytest
import torch

from fewstep.protocol import Batch, Key
from fewstep_protein.sequence_didi import guards
from fewstep_protein.sequence_didi.alphabet import LETTERS, decode, encode
from fewstep_protein.sequence_didi.chains import dirichlet_chain
from fewstep_protein.sequence_didi.metrics import Reference, sequence_metrics

POLY = encode("A" * 32)
CHAIN = dirichlet_chain(0)


def test_letters_are_in_esms_order_and_survive_the_way_there_and_back() -> None:
    assert decode(range(20)) == LETTERS == "LAGVSERTIDPKQNFYMHWC"
    assert decode(encode("mkwvtf")) == "MKWVTF"


@pytest.mark.parametrize(
    ("text", "run"), [("", 0), ("A", 1), ("ACAC", 1), ("AAC", 2), ("CAAAAAG", 5), ("GCCC", 3)]
)
def test_the_longest_run_counts_equal_letters_in_a_row(text: str, run: int) -> None:
    assert guards.longest_run(encode(text)) == run


def test_entropy_is_zero_for_one_letter_and_ln_20_for_all() -> None:
    assert guards.entropy(guards.shares(POLY)) == 0
    assert guards.entropy(guards.shares(encode(LETTERS))) == pytest.approx(math.log(20))


def test_words_are_distinct_until_the_sequence_repeats_itself() -> None:
    assert guards.distinct_words(encode(LETTERS)) == 1
    assert guards.distinct_words(POLY) == pytest.approx(1 / 30)
    assert guards.distinct_words(encode("ACDACD")) == pytest.approx(3 / 4)


def test_identity_to_the_nearest_stretch_is_found_at_any_offset_and_not_across_proteins() -> None:
    training = (encode("MKTAYIAKQR"), encode("GGGGSSSS"))
    found = guards.nearest_identities(
        [encode("TAYIA"), encode("TAYLA"), encode("WWWWW"), encode("QRGG")], training
    )
    torch.testing.assert_close(found, torch.tensor([1.0, 0.8, 0.0, 0.5]))


def test_mean_identity_equals_the_mean_over_all_pairs() -> None:
    rows = torch.randint(0, 3, (7, 11), generator=torch.Generator().manual_seed(0))
    pairs = [float((rows[i] == rows[j]).double().mean()) for i in range(7) for j in range(7) if i != j]
    assert guards.mean_identity(list(rows)) == pytest.approx(sum(pairs) / len(pairs))


def test_a_sampler_that_writes_poly_alanine_fails_every_guard() -> None:
    real, collapsed = CHAIN.draw(24, 32, Key(0)), POLY.expand(24, -1)
    batch = Batch(like=real, x=real)
    for metric in sequence_metrics(Reference(CHAIN.pairs, CHAIN)):
        if metric.name == "surprise":
            continue
        good, bad = (metric.fn(x, batch, Key(1)).value for x in (real, collapsed))
        assert (bad > good) == (metric.better == "lower"), metric.name
        assert abs(bad - good) > 0.5, metric.name


def test_every_metric_has_an_interval_around_its_value() -> None:
    x = CHAIN.draw(20, 24, Key(0))
    for metric in sequence_metrics(Reference(CHAIN.pairs, CHAIN)):
        score = metric.fn(x, Batch(like=x, x=x), Key(1))
        assert score.low <= score.value <= score.high
        assert score.n == 20
