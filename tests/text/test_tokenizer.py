"""Text to ids and back."""

from __future__ import annotations

import pytest

from fewstep.errors import FewstepError
from fewstep_text.tokenizer import HIDDEN, byte_pairs, characters, fold

WORDS = "the object of the class is the object that the class made. " * 20


def test_characters_come_back_as_they_went_in() -> None:
    tokenizer = characters()
    assert tokenizer.decode(tokenizer.encode("a plain line, with a stop.")) == "a plain line, with a stop."


def test_every_character_is_one_token_in_the_order_of_the_alphabet() -> None:
    assert characters("abc ").encode("c ba") == [2, 3, 1, 0]


def test_case_and_accents_are_folded() -> None:
    assert fold("Naïve Café") == "naive cafe"


def test_unknown_characters_are_listed_by_name() -> None:
    with pytest.raises(FewstepError, match=r"'=' \(equals sign\).*'✓' \(check mark\)"):
        characters().encode("x = ✓")


def test_the_hidden_token_prints_as_a_dot() -> None:
    assert characters("ab").pieces([0, 2, 1]) == ["a", HIDDEN, "b"]


def test_byte_pairs_shorten_text_and_lose_nothing() -> None:
    tokenizer = byte_pairs(WORDS, 60)
    ids = tokenizer.encode("the class is the object.")
    assert len(ids) < 12
    assert tokenizer.decode(ids) == "the class is the object."


def test_byte_pairs_write_words_that_they_never_saw() -> None:
    tokenizer = byte_pairs(WORDS, 60)
    assert tokenizer.decode(tokenizer.encode("zyx, wq")) == "zyx, wq"


def test_a_vocabulary_smaller_than_the_alphabet_is_refused() -> None:
    with pytest.raises(FewstepError, match="smaller than the alphabet"):
        byte_pairs(WORDS, 10)


@pytest.mark.parametrize("alphabet", ["", "a", "aa"])
def test_an_alphabet_needs_two_different_characters(alphabet: str) -> None:
    with pytest.raises(FewstepError, match="is no alphabet"):
        characters(alphabet)
