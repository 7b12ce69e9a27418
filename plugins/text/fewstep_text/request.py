"""What contenders are asked: how a text begins, how long it becomes, in how many calls."""

from __future__ import annotations

import torch

from fewstep.errors import FewstepError
from fewstep.protocol import Batch
from fewstep_text.tokenizer import Tokenizer


def prefix_batch(tokenizer: Tokenizer, text: str, length: int, number: int) -> Batch:
    """``number`` rows of ``length`` tokens that begin with ``text``; the rest is hidden.

    Args:
        tokenizer: text to ids.
        text: kept as it is, its case folded to the alphabet's.
        length: tokens of a row, prefix included.
        number: rows.

    Raises:
        FewstepError: no row or token is asked for, the prefix fills the row, or holds unknown characters.
    """
    if number < 1 or length < 1:
        raise FewstepError(
            f"asked for {number} texts of {length} tokens", "at least one of each", "raise --num or --length"
        )
    begin = tokenizer.encode(text)
    if len(begin) >= length:
        raise FewstepError(
            f"the prefix has {len(begin)} tokens and the whole text should have {length}: nothing is left to write",
            f"a prefix of at most {length - 1} tokens",
            "shorten --text or raise the length",
        )
    prefix = torch.full((number, length), tokenizer.size, dtype=torch.int64)
    prefix[:, : len(begin)] = torch.tensor(begin, dtype=torch.int64)
    return Batch(like=torch.zeros_like(prefix), extra={"prefix": prefix})


def between(fewest: int, most: int) -> list[int]:
    """Doublings of the student's calls below the teacher's: where the teacher's curve of quality is measured.

    >>> between(2, 16)
    [4, 8]
    """
    found = []
    while fewest * 2 < most:
        fewest *= 2
        found.append(fewest)
    return found
