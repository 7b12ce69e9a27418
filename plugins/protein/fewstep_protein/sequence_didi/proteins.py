"""Real sequences: those of the shipped segments, split by family, as windows and as references for what is made."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from fewstep.errors import FewstepError
from fewstep.protocol import Batch, Key
from fewstep_protein.sequence_didi.alphabet import HIDDEN, LETTERS, encode
from fewstep_protein.structures import segments


@lru_cache(maxsize=4)
def sequences(held_out: bool, path: str | None = None) -> tuple[Tensor, ...]:
    """Ids (n_i,) of the training or held-out segments, cut where a residue is none of the 20."""
    texts = [segment.sequence for segment in segments.split(held_out, path)]
    return tuple(encode(piece) for text in texts for piece in _known(text))


def counted_pairs(found: tuple[Tensor, ...]) -> Tensor:
    """(20, 20) how often each letter follows each other one."""
    table = torch.zeros(HIDDEN * HIDDEN, dtype=torch.float64)
    for row in found:
        table += torch.bincount(row[:-1] * HIDDEN + row[1:], minlength=HIDDEN * HIDDEN)
    return table.reshape(HIDDEN, HIDDEN)


@dataclass(frozen=True)
class SequenceWindows:
    """Random windows x (B, length) of real sequences; every possible window is equally likely.

    Raises:
        FewstepError: no sequence is as long as a window.
    """

    found: tuple[Tensor, ...]
    length: int
    size: int

    def __post_init__(self) -> None:
        """Refuse impossible windows before training."""
        longest = max((len(row) for row in self.found), default=0)
        if longest < self.length:
            raise FewstepError(
                f"no real sequence has {self.length} residues; the longest here has {longest}",
                "windows that fit into a sequence",
                f"-s length={longest}",
            )

    def batch(self, index: int, key: Key) -> Batch:
        """Ids, all of them real."""
        every = _windows(self.found, self.length)
        x = every[key.at("windows", index).integers((key.share(self.size),), len(every))]
        return Batch(like=torch.zeros_like(x), x=x)


def _windows(found: tuple[Tensor, ...], length: int) -> Tensor:
    """(W, length) all windows, as views of the sequences put one after the other."""
    return torch.cat([row.unfold(0, length, 1) for row in found if len(row) >= length])


def _known(text: str) -> list[str]:
    """The stretches of standard residues in a sequence."""
    spaced = "".join(letter if letter in LETTERS else " " for letter in text.upper())
    return spaced.split()
