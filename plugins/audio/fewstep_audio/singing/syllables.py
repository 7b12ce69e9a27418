"""Syllables of a pronunciation: one vowel each, with the consonants that English lets begin it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from fewstep_audio.speech.phones import ALPHABET, NUMBER, PAUSE, Pronunciation

NUCLEI = frozenset(NUMBER[phone] for phone in ALPHABET if phone[0] in "aæeiouɐɑɔəɚɛɜɪʊʌᵻ" or phone == "n̩")
"""Phones that carry a syllable."""

UNVOICED = frozenset(NUMBER[phone] for phone in ("f", "h", "k", "p", "s", "t", "tʃ", "ʃ", "ʔ", "θ", PAUSE))

_SINGLE = {(phone,) for phone in ALPHABET if NUMBER[phone] not in NUCLEI and phone not in ("ŋ", PAUSE)}
_PAIRS = (
    {(first, "ɹ") for first in ("p", "b", "t", "d", "k", "ɡ", "f", "θ", "ʃ")}
    | {(first, "l") for first in ("p", "b", "k", "ɡ", "f", "s")}
    | {(first, "w") for first in ("t", "d", "k", "ɡ", "s", "θ")}
    | {(first, "j") for first in ("p", "b", "k", "f", "h", "m", "v")}
    | {("s", second) for second in ("p", "t", "k", "m", "n")}
)
_TRIPLES = {("s", *pair) for pair in _PAIRS if pair[0] in ("p", "t", "k")}
ONSETS = _SINGLE | _PAIRS | _TRIPLES
"""What may begin an English syllable."""


@dataclass(frozen=True)
class Syllable:
    """Places in a pronunciation.

    Args:
        onset: consonants before the vowel.
        nucleus: the vowel.
        coda: consonants after it.
    """

    onset: tuple[int, ...]
    nucleus: int
    coda: tuple[int, ...]


def syllables(said: Pronunciation) -> list[Syllable]:
    """One for each vowel, consonants between two going to the second as far as English allows; pauses are left out.

    Raises:
        ValueError: there is no vowel.
    """
    phones = said.phones.tolist()
    places = [i for i, phone in enumerate(phones) if ALPHABET[phone - 1] != PAUSE]
    vowels = [k for k, i in enumerate(places) if phones[i] in NUCLEI]
    if not vowels:
        raise ValueError("there is no vowel to sing")
    begins = [0]
    for before, after in pairwise(vowels):
        names = [ALPHABET[phones[places[k]] - 1] for k in range(before + 1, after)]
        begins.append(after - _longest_onset(names))
    ends = [*begins[1:], len(places)]
    return [
        Syllable(tuple(places[begin:vowel]), places[vowel], tuple(places[vowel + 1 : end]))
        for begin, vowel, end in zip(begins, vowels, ends, strict=True)
    ]


def _longest_onset(names: list[str]) -> int:
    return next(count for count in range(len(names), -1, -1) if not count or tuple(names[-count:]) in ONSETS)


def shown(said: Pronunciation) -> str:
    """The syllables as a reader may count them: "ðə ɹɪ vɚ"."""
    names = [ALPHABET[phone - 1] for phone in said.phones.tolist()]
    return " ".join(
        "".join(names[i] for i in (*one.onset, one.nucleus, *one.coda)) for one in syllables(said)
    )
