"""From text to phones: what may be said, the alphabet, and espeak-ng's pronunciation as two rows of integers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.errors import FewstepError
from fewstep_audio.speech.espeak import Request, Speech, speak

PAUSE = "_"
ALPHABET = (
    *(
        PAUSE,
        "aɪ",
        "aɪə",
        "aɪɚ",
        "aʊ",
        "b",
        "d",
        "dʒ",
        "eɪ",
        "f",
        "h",
        "i",
        "iə",
        "iː",
        "j",
        "k",
        "l",
        "m",
        "n",
    ),
    *("n̩", "oʊ", "p", "s", "t", "tʃ", "uː", "v", "w", "z", "æ", "ð", "ŋ", "ɐ", "ɑː", "ɑːɹ", "ɔ", "ɔɪ", "ɔː"),
    *(
        "ɔːɹ",
        "ə",
        "əl",
        "ɚ",
        "ɛ",
        "ɛɹ",
        "ɜː",
        "ɡ",
        "ɪ",
        "ɪɹ",
        "ɹ",
        "ɾ",
        "ʃ",
        "ʊ",
        "ʊɹ",
        "ʌ",
        "ʒ",
        "ʔ",
        "θ",
        "ᵻ",
    ),
)
"""Sounds of espeak-ng's American English. Number 0 is padding, so a phone's number is one more than its place here."""

NUMBER = {phone: place + 1 for place, phone in enumerate(ALPHABET)}
STRESSES = 3
"""0 none, 1 secondary, 2 primary."""

LONGEST_TEXT = 300
SPOKEN = re.compile(r"[A-Za-z0-9 .,;:!?'\"()\-]")
COINS = {"$": "dollars", "£": "pounds", "€": "euros"}
SIGNS = str.maketrans({"%": " percent", "&": " and "})
"""What stands in English prose beside letters, as it is read."""


@dataclass(frozen=True)
class Pronunciation:
    """How a text sounds.

    Args:
        phones: (P,) int64, numbers of the alphabet.
        stress: (P,) int64.
    """

    phones: Tensor
    stress: Tensor


def check_text(text: str, longest: int | None = LONGEST_TEXT) -> str:
    """The text in one line, with plain quotation marks and dashes, letters without accents, and sums of money in words.

    Args:
        text: English.
        longest: characters that may be said at once; None = any number.

    Raises:
        ValueError: it is empty, too long, or holds characters that English speech does not know.
    """
    plain = _plain(text)
    if not re.search(r"[A-Za-z0-9]", plain):
        raise ValueError(f"there is nothing to say in {text!r}; expected English words")
    if longest is not None and len(plain) > longest:
        raise ValueError(
            f"the text has {len(plain)} characters; say at most {longest} at a time, or stream it"
        )
    strange = sorted({character for character in plain if not SPOKEN.match(character)})
    if strange:
        raise ValueError(
            f"unknown characters {' '.join(map(repr, strange))}; expected English letters, digits and . , ; : ! ? ' \" ( ) -"
        )
    return plain


def _plain(text: str) -> str:
    """One line of the characters that are spoken, as far as they stand for others: "naïve", "$5.50", "5 %"."""
    told = unicodedata.normalize("NFKD", text.translate(str.maketrans("‘’“”–—", "''\"\"--")))
    told = "".join(character for character in told if not unicodedata.combining(character))
    told = re.sub(
        r"([$£€])\s?(\d+(?:,\d{3})*)(?:\.(\d\d)\b)?", lambda sum_: _in_words(*sum_.groups(default="")), told
    )
    return " ".join(told.translate(SIGNS).split())


def _in_words(coin: str, whole: str, parts: str) -> str:
    """A sum as it is read: "5 dollars 50"."""
    name = COINS[coin] if whole != "1" else COINS[coin][:-1]
    return f"{whole} {name}" + (f" {int(parts)}" if parts.strip("0") else "")


def pronounce(texts: Sequence[str]) -> list[Pronunciation]:
    """The pronunciation of each text, in the neutral voice.

    Raises:
        ValueError: as ``check_text``.
        FewstepError: espeak-ng is not there, or uses a sound outside the alphabet.
    """
    return [spelled(speech)[0] for speech in speak([Request(check_text(text)) for text in texts])]


def spelled(speech: Speech) -> tuple[Pronunciation, Tensor]:
    """Phones of a speech with pauses that follow each other joined, and (P,) first sample of each.

    Raises:
        FewstepError: for a sound outside the alphabet.
    """
    names = [name.lstrip("ˈˌ") or PAUSE for name in speech.phones]
    unknown = sorted(set(names) - set(ALPHABET))
    if unknown:
        raise FewstepError(
            f"sounds outside the alphabet: {' '.join(f'/{name}/' for name in unknown)}",
            "American English",
            "write foreign words as they sound",
        )
    kept = [i for i, name in enumerate(names) if not (name == PAUSE and i and names[i - 1] == PAUSE)]
    stress = [" ˌˈ".find(speech.phones[i][:1] or " ") for i in kept]
    told = Pronunciation(
        torch.tensor([NUMBER[names[i]] for i in kept]), torch.tensor([max(0, level) for level in stress])
    )
    return told, torch.from_numpy(speech.starts[kept])
