"""What ``fewstep sample`` may be asked for, and the batch that answers it."""

from __future__ import annotations

from typing import Any, Self

import torch
from pydantic import field_validator, model_validator
from torch import Tensor

from fewstep.config import Settings, setting
from fewstep.errors import FewstepError
from fewstep.protocol import Batch, Cond, Key
from fewstep_protein.designs.request import read_lengths
from fewstep_protein.sequence_didi.alphabet import HIDDEN, encode
from fewstep_protein.structures.sources import growing, in_turn

RESIDUES = 2**17
"""Residues that are drawn at once: 20 probabilities each, some of them in double precision, take about 100 MB."""
PORTION = 256
"""Sequences that are drawn at once, at most."""


class SequenceRequest(Settings):
    """Lengths, fixed residues, and what a sequence must be like."""

    length: str = setting(
        "64", "residues: 60-120 is drawn evenly from that range, 60,80,100 are taken in turn", unit="residues"
    )
    fixed: str = setting(
        "",
        "residues that every sequence has, counted from 1: 1:M,10-14:GSGSG; all others are drawn around them",
    )
    max_run: int = setting(
        0, "sequences with a longer run of one letter do not pass; 0 = any", unit="residues", ge=0
    )
    min_entropy: float = setting(
        0.0, "sequences whose letters have less entropy do not pass", unit="nats", ge=0, le=3
    )

    @field_validator("length", mode="before")
    @classmethod
    def _as_text(cls, given: Any) -> Any:
        """A number and a list are as good as their text."""
        if isinstance(given, list | tuple):
            return ",".join(map(str, given))
        return str(given) if isinstance(given, int) and not isinstance(given, bool) else given

    @model_validator(mode="after")
    def _fits(self) -> Self:
        places, shortest = read_fixed(self.fixed), min(read_lengths(self.length))
        if places and max(places) > shortest:
            raise ValueError(
                f"residue {max(places)} is fixed, but a sequence may have only {shortest}; ask for longer ones"
            )
        if len(places) >= shortest:
            raise ValueError(f"all {shortest} residues are fixed, so nothing is left to draw")
        return self


def read_fixed(text: str) -> dict[int, int]:
    """Read "1:M,10-14:GSGSG" as place (from 1) -> id of its letter; "10:GSGSG" begins at 10.

    Raises:
        ValueError: all that is wrong with it.
    """
    found: dict[int, int] = {}
    wrong = []
    for part in (piece.strip() for piece in text.split(",") if piece.strip()):
        try:
            placed = _placed(part)
        except ValueError as error:
            wrong.append(str(error))
            continue
        twice = sorted(found.keys() & placed.keys())
        wrong += [f"residue {place} is fixed twice" for place in twice]
        found |= placed
    if wrong:
        raise ValueError(f"{'; '.join(wrong)}; write 1:M,10-14:GSGSG")
    return found


def _placed(part: str) -> dict[int, int]:
    where, colon, letters = (piece.strip() for piece in part.partition(":"))
    ends = [piece.strip() for piece in where.split("-")]
    if not (colon and letters and len(ends) <= 2 and all(end.isdecimal() and int(end) for end in ends)):
        raise ValueError(f"{part!r} is no place with letters")
    first, last = int(ends[0]), int(ends[-1])
    if len(ends) == 2 and last - first + 1 != len(letters):
        raise ValueError(f"{part!r} names {last - first + 1} places and {len(letters)} letters")
    try:
        ids = encode(letters).tolist()
    except FewstepError as error:
        raise ValueError(f"{part!r}: {error.what}") from error
    return {first + i: number for i, number in enumerate(ids)}


def request(asked: SequenceRequest, number: int, key: Key) -> Batch:
    """Sequences of the asked lengths, hidden but for what is fixed; padding is outside the mask.

    Args:
        asked: validated options.
        number: sequences.
        key: of the lengths.
    """
    lengths = read_lengths(asked.length)
    if isinstance(lengths, range):
        drawn = key.at("lengths").integers((number,), len(lengths)) + lengths.start
    else:
        drawn = torch.as_tensor(in_turn(lengths, number))
    return begun(drawn, read_fixed(asked.fixed))


def begun(lengths: Tensor, fixed: dict[int, int]) -> Batch:
    """The state from which sequences of these lengths (B,) are drawn."""
    mask = torch.arange(int(lengths.max()))[None] < lengths[:, None]
    prefix = torch.where(mask, HIDDEN, 0)
    for place, letter in fixed.items():
        prefix[:, place - 1] = letter
    return Batch(like=torch.zeros_like(prefix), cond=Cond(mask=mask), extra={"prefix": prefix})


def portion(asked: SequenceRequest, first: int) -> int:
    """How many sequences from number ``first`` on are drawn at once, in whole turns of a list of lengths."""
    lengths = read_lengths(asked.length)
    most = min(PORTION, RESIDUES // max(lengths))
    return growing(first, 1 if isinstance(lengths, range) else len(lengths), most)
