"""Amino acids as token ids, in the order in which ESM-2 and DPLM count them.

Ids 0 to 19 are the letters of :data:`LETTERS`, id 20 is the hidden token of the process. Padding has no id: it lies
outside the mask and is filled with 0. Whoever adds 4 to an id has the id of the same letter in ESM's 33 tokens.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from fewstep.errors import FewstepError

LETTERS = "LAGVSERTIDPKQNFYMHWC"
"""The 20 standard amino acids, in ESM's order."""
HIDDEN = len(LETTERS)
"""Id of the hidden token."""
NUMBER = {letter: number for number, letter in enumerate(LETTERS)}


def encode(text: str) -> Tensor:
    """(L,) ids of one-letter codes, lower case folded.

    Raises:
        FewstepError: a letter that is none of the 20.
    """
    strange = sorted({letter for letter in text.upper() if letter not in NUMBER})
    if strange:
        raise FewstepError(
            f"{text!r} holds {', '.join(strange)}",
            f"one-letter codes of the 20 standard amino acids: {''.join(sorted(LETTERS))}",
            "leave out unknown and modified residues (X, B, Z, U, O)",
        )
    return torch.tensor([NUMBER[letter] for letter in text.upper()], dtype=torch.int64)


def decode(ids: Iterable[int]) -> str:
    """One-letter codes; a hidden token is ``_``."""
    return "".join(LETTERS[i] if i < HIDDEN else "_" for i in ids)


def rows_of(x: Tensor, mask: Tensor | None) -> list[Tensor]:
    """The sequences (n_i,) of a batch of ids (B, L) without their padding."""
    if mask is None:
        return list(x)
    return [row[keep] for row, keep in zip(x, mask.bool(), strict=True)]
