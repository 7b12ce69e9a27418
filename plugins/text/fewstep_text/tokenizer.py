"""From text to token ids and back: single characters, or a small byte-pair vocabulary trained on the corpus itself."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tokenizers import Regex
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.trainers import BpeTrainer

from fewstep.errors import FewstepError
from fewstep_text.alphabet import ALPHABET

HIDDEN = "·"
"""How a token that is not shown yet is printed."""


@dataclass(frozen=True)
class Tokenizer:
    """A fixed vocabulary whose tokens, put one after the other, are the text.

    Args:
        backend: JSON of a ``tokenizers`` tokenizer; kept as text so that the value is hashable and can be saved.
        alphabet: the characters that it knows.
    """

    backend: str
    alphabet: str

    @property
    def size(self) -> int:
        """V, the number of tokens, the hidden one not counted."""
        return self._loaded.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Ids of a text; letters are folded to the case of the alphabet first.

        Raises:
            FewstepError: listing the characters that the tokenizer does not know.
        """
        folded = fold(text, self.alphabet)
        unknown = sorted(set(folded) - set(self.alphabet))
        if unknown:
            raise FewstepError(
                f"the tokenizer does not know {', '.join(map(_named, unknown))}",
                f"text made of {self.alphabet!r}; upper case is folded",
                "leave them out, or train on an alphabet that holds them",
            )
        return list(self._loaded.encode(folded).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; the hidden token and whatever lies beyond the vocabulary print as a dot in mid-line."""
        return "".join(self.pieces(ids))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The text of each id."""
        return [HIDDEN if (piece := self._loaded.id_to_token(int(i))) is None else piece for i in ids]

    @cached_property
    def _loaded(self) -> Backend:
        return Backend.from_str(self.backend)


def characters(alphabet: str = ALPHABET) -> Tokenizer:
    """One token per character, in the order of the alphabet.

    Raises:
        FewstepError: fewer than two characters, or one of them twice.
    """
    if len(alphabet) < 2 or len(set(alphabet)) != len(alphabet):
        raise FewstepError(
            f"data.alphabet = {alphabet!r} is no alphabet", "two or more different characters", "correct it"
        )
    model = WordLevel({character: i for i, character in enumerate(alphabet)}, unk_token=alphabet[0])
    backend = Backend(model)
    backend.pre_tokenizer = Split(Regex(r"[\s\S]"), "isolated")
    return Tokenizer(backend.to_str(), alphabet)


def byte_pairs(text: str, size: int, alphabet: str = ALPHABET) -> Tokenizer:
    """Byte-pair merges learned from ``text`` (Sennrich et al. 2016), a word carrying the space before it.

    Args:
        text: what the merges are learned from, already clean.
        size: V; at least the alphabet.
        alphabet: always part of the vocabulary, so that every text over it can be written.

    Raises:
        FewstepError: the vocabulary is smaller than the alphabet.
    """
    if size < len(alphabet):
        raise FewstepError(
            f"data.vocabulary = {size} is smaller than the alphabet of {len(alphabet)} characters",
            f"0 (characters) or at least {len(alphabet)}",
            "raise data.vocabulary",
        )
    backend = Backend(BPE())
    backend.pre_tokenizer = Split(Regex(" ?[^ ]+| "), "isolated")
    trainer = BpeTrainer(vocab_size=size, initial_alphabet=list(alphabet), show_progress=False)
    backend.train_from_iterator([text], trainer)
    return Tokenizer(backend.to_str(), alphabet)


def fold(text: str, alphabet: str = ALPHABET) -> str:
    """Accents and case taken away from the characters that the alphabet only has in their plain form."""
    return "".join(character if character in alphabet else _plain(character) for character in text)


def _plain(character: str) -> str:
    bare = unicodedata.normalize("NFKD", character)
    return "".join(c for c in bare if not unicodedata.combining(c)).lower()


def _named(character: str) -> str:
    name = unicodedata.name(character, "")
    return f"{character!r} ({name.lower()})" if name else repr(character)
