"""Word error rate: what is heard of clean and of spoiled speech, and what the grammar allows."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from fewstep.errors import FewstepError
from fewstep_audio.metrics.words import (
    Recognizer,
    edits,
    unspelled,
    word_error_rate,
    word_errors,
    word_pairs,
    words_of,
)
from fewstep_audio.speech.sentences import SENTENCES

pytest.importorskip("pocketsphinx", reason="word error rate needs fewstep[listening]")


@pytest.fixture(scope="module")
def hears() -> Recognizer:
    return Recognizer(SENTENCES)


def test_clean_speech_is_understood_and_noise_less_and_less(hears: Recognizer, sounds: Any) -> None:
    said = sounds.texts
    ladder = [
        word_error_rate(said, [hears(wave, sounds.rate) for wave in sounds.noisy(size)])
        for size in (0.0, 0.03, 0.1)
    ]
    assert ladder[0] <= 0.1
    assert sounds.rising(ladder)
    assert ladder[-1] > 0.6


def test_the_same_sound_gives_the_same_words_after_any_other(hears: Recognizer, sounds: Any) -> None:
    waves = sounds.noisy(0.03)
    forth = [hears(wave, sounds.rate) for wave in waves]
    assert [hears(wave, sounds.rate) for wave in waves[::-1]][::-1] == forth


def test_another_sentence_is_not_taken_for_the_expected_one(hears: Recognizer, sounds: Any) -> None:
    said = [one.text for one in sounds.utterances]
    assert (
        word_error_rate(said[1:] + said[:1], [hears(wave, sounds.rate) for wave in sounds.resynthesized])
        > 0.7
    )


def test_silence_says_nothing_that_is_right(hears: Recognizer) -> None:
    assert word_error_rate(["The cold rain fell."], [hears(torch.zeros(22050), 22050)]) >= 1.0


def test_every_word_of_the_package_is_in_the_dictionary() -> None:
    assert unspelled(SENTENCES) == set()


def test_all_words_that_cannot_be_spelled_are_told_at_once() -> None:
    with pytest.raises(FewstepError, match="glorbing, zwumf"):
        Recognizer(["The zwumf is glorbing."])


def test_a_missing_package_is_named_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(FewstepError, match=r"fewstep\[listening\]"):
        Recognizer(["A cat."])


def test_a_word_leads_to_all_words_that_ever_follow_it() -> None:
    first, last, arcs = word_pairs(["the cat sat", "the dog sat"])
    paths = {(arc[0], arc[1]): arc[2:] for arc in arcs}
    after_the = [told for (begin, _), told in paths.items() if begin == paths_to(arcs, "the")]
    assert sorted(after_the) == [(0.5, "cat"), (0.5, "dog")]
    assert any(arc[1] == last and len(arc) == 3 for arc in arcs)
    assert all(arc[3] == "the" for arc in arcs if arc[0] == first)


def paths_to(arcs: list, word: str) -> int:
    return next(arc[1] for arc in arcs if len(arc) == 4 and arc[3] == word)


@pytest.mark.parametrize(
    ("said", "heard", "count"),
    [("a b c", "a b c", 0), ("a b c", "a c", 1), ("a b c", "a x c d", 2), ("a b", "", 2), ("", "a", 1)],
)
def test_errors_are_the_fewest_edits(said: str, heard: str, count: int) -> None:
    assert edits(said.split(), heard.split()) == count


def test_the_rate_is_over_all_words_not_over_sentences() -> None:
    assert word_errors(["a b c", "d"], ["a b c", "x"]).tolist() == [[0, 3], [1, 1]]
    assert word_error_rate(["a b c", "d"], ["a b c", "x"]) == 0.25


def test_punctuation_and_case_are_no_words() -> None:
    assert words_of("Don’t stop -- it's 9 o'clock!") == ["don't", "stop", "it's", "9", "o'clock"]
