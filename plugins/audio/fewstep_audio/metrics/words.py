"""Word error rate: a recognizer that knows only the words of given sentences writes down what it hears.

The recognizer is pocketsphinx with its own American English voice model and dictionary. Its grammar is closed: any
sequence in which each word follows one that it follows in the given sentences. So it cannot be helped by remembering
whole sentences, and is not lost among all words of English. Measured on resynthesized espeak-ng: a choice among
whole sentences hears everything right and still says 0.07 when spectrograms are smeared over 9 frames, where word pairs
say 0.16 (0.05 on the truth); a free loop over the words takes minutes for half a minute of speech.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep.errors import FewstepError
from fewstep_audio.metrics.optional import at_rate, needed

RATE = 16_000
"""Hz, of the recognizer's voice model."""

BEGIN, END = "<begin>", "<end>"


class Recognizer:
    """Writes down speech, in the words of the given sentences; the same sound gives the same words in any order.

    Args:
        sentences: the grammar is made of their pairs of neighboring words.

    Raises:
        FewstepError: pocketsphinx is not there, or its dictionary lacks a word; all that it lacks are told at once.
    """

    def __init__(self, sentences: Sequence[str]) -> None:
        """Loads in a tenth of a second."""
        unknown = sorted(unspelled(sentences))
        if unknown or not any(map(words_of, sentences)):
            raise FewstepError(
                f"the recognizer cannot spell {', '.join(unknown) or 'sentences without words'}",
                "words of the CMU dictionary, numbers written out",
                "use other words, or leave word error rate out",
            )
        sphinx = _sphinx()
        self.decoder = sphinx.Decoder(
            hmm=sphinx.get_model_path("en-us/en-us"),
            dict=str(_dictionary()),
            lm=None,
            samprate=RATE,
            loglevel="FATAL",
            cmn="batch",  # each sound is normalized by itself; "live" would remember the sounds before
            dither=True,  # digital silence has no logarithm
            seed=1,
        )
        first, last, arcs = word_pairs(sentences)
        self.decoder.add_fsg("pairs", self.decoder.create_fsg("pairs", first, last, arcs))
        self.decoder.activate_search("pairs")

    def __call__(self, wave: Tensor, rate: int) -> str:
        """(N,) samples in [-1, 1] -> lower-case words; "" where no sequence of words fits."""
        sound = at_rate(wave, rate, RATE).clamp(-1, 1)
        self.decoder.start_utt()
        self.decoder.process_raw((sound * 32767).short().cpu().numpy().tobytes(), full_utt=True)
        self.decoder.end_utt()
        found: Any = self.decoder.hyp()
        return "" if found is None else " ".join(words_of(re.sub(r"\(\d+\)", "", found.hypstr)))


def unspelled(sentences: Iterable[str]) -> set[str]:
    """Words of the sentences that the recognizer's dictionary lacks.

    Raises:
        FewstepError: pocketsphinx is not there.
    """
    return {word for sentence in sentences for word in words_of(sentence)} - _spellings()


@lru_cache(maxsize=1)
def _spellings() -> frozenset[str]:
    return frozenset(line.partition(" ")[0] for line in _dictionary().read_text().splitlines())


def _dictionary() -> Path:
    return Path(_sphinx().get_model_path("en-us/cmudict-en-us.dict"))


def _sphinx() -> Any:
    return needed("pocketsphinx", "word error rate")


def words_of(text: str) -> list[str]:
    """Lower-case words without punctuation."""
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)*", text.lower().replace("’", "'"))


def word_pairs(
    sentences: Iterable[str],
) -> tuple[int, int, list[tuple[int, int, float, str] | tuple[int, int, float]]]:
    """First state, last state, and arcs (from, to, probability, word): each word leads to all that ever follow it."""
    follows: dict[str, set[str]] = {BEGIN: set()}
    for sentence in sentences:
        row = [BEGIN, *words_of(sentence), END]
        for word, after in pairwise(row):
            follows.setdefault(word, set()).add(after)
    state = {word: number for number, word in enumerate([*follows, END])}
    arcs: list[Any] = []
    for word, ahead in follows.items():
        for one in sorted(ahead):
            said = () if one == END else (one,)
            arcs.append((state[word], state[one], 1 / len(ahead), *said))
    return state[BEGIN], state[END], arcs


def edits(said: Sequence[str], heard: Sequence[str]) -> int:
    """Fewest insertions, deletions and substitutions that make one list of words the other (Levenshtein 1966)."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        corner, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (word != other))
    return row[-1]


def word_errors(said: Sequence[str], heard: Sequence[str]) -> Tensor:
    """(B, 2) edits and reference words of each sentence, float64; WER is the sum of one over the sum of the other."""
    pairs = [(words_of(a), words_of(b)) for a, b in zip(said, heard, strict=True)]
    return torch.tensor([[edits(a, b), len(a)] for a, b in pairs], dtype=torch.float64)


def word_error_rate(said: Sequence[str], heard: Sequence[str]) -> float:
    """Edits per reference word over all sentences."""
    wrong, count = word_errors(said, heard).sum(0).tolist()
    return wrong / max(count, 1.0)
