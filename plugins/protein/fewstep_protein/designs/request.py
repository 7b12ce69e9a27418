"""What ``fewstep sample`` may be asked for, and the batch that answers it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar, Self

import torch
from pydantic import Field, create_model, field_validator, model_validator
from torch import Tensor

from fewstep.config import Settings, setting
from fewstep.errors import FewstepError
from fewstep.protocol import Batch, Key
from fewstep_protein.designs.filters import Filters
from fewstep_protein.folding.scores import column
from fewstep_protein.structures.files import KINDS
from fewstep_protein.structures.labels import LEVELS
from fewstep_protein.structures.segments import vocabulary
from fewstep_protein.structures.sources import SHORTEST_CHAIN, blank, growing, in_turn

LONGEST_CHAIN = 512
"""Residues; the memory of a network that looks at pairs grows with their square."""
PORTION = 64
"""Chains of one portion: what a kill may cost, how often progress is told, and among how many alike lengths are found."""
PAIRS = {"cpu": 2**16, "": 2**20}
"""Residue pairs that are drawn at once, by device: caches fill early; elsewhere memory does, 256 MB for 64 channels."""


class Wanted(Settings):
    """What is drawn, and what is written of it."""

    data: ClassVar[str | None] = None
    """File whose CATH codes are known; None is the shipped one."""
    learned: ClassVar[range | None] = None
    """Lengths that the generator was trained on; None = nobody says."""

    length: str = setting(
        "32",
        "residues: 60-120 is drawn evenly from that range, 60,80,100 are taken in turn",
        unit="residues",
    )
    noise_scale: float = setting(
        1.0,
        "factor on all noise; below 1 is colder: more helix, more compact, less diverse",
        gt=0,
        le=2,
        paper="Xie et al. 2025; on Gaussian data the same as a teacher's gamma of its square",
    )
    cath: str = setting(
        "", "CATH code such as 1, 3.40 or 3.40.x; none is asked for by default", paper="Orengo et al. 1997"
    )
    mpnn_nll: bool = setting(
        False, "also measure what ProteinMPNN thinks of sequences of its own; a tenth of a second a design"
    )
    files: str = setting(",".join(KINDS), f"kinds of files, from {', '.join(KINDS)}")
    all_files: bool = setting(False, "write files of designs that do not pass, too")
    backbone: bool = setting(
        False, "files hold N, C and O too, put where they lie in real chains around such CA atoms"
    )
    ensemble: bool = setting(
        False, "also write ensemble.pdb and ensemble.cif with all designs that pass as models"
    )

    @field_validator("length", "files", mode="before")
    @classmethod
    def _as_text(cls, given: Any) -> Any:
        """A number and a list are as good as their text."""
        if isinstance(given, list | tuple):
            return ",".join(map(str, given))
        return str(given) if isinstance(given, int) and not isinstance(given, bool) else given

    @field_validator("length")
    @classmethod
    def _readable(cls, given: str) -> str:
        read_lengths(given)
        return given.strip()

    @field_validator("files")
    @classmethod
    def _known(cls, given: str) -> str:
        names = [name.strip().lower() for name in given.split(",") if name.strip()]
        unknown = sorted(set(names) - set(KINDS))
        if unknown or not names:
            raise ValueError(f"files are some of {', '.join(KINDS)}; not {', '.join(unknown) or 'nothing'}")
        return ",".join(dict.fromkeys(names))

    @field_validator("cath")
    @classmethod
    def _in_vocabulary(cls, given: str) -> str:
        with _refused():
            vocabulary(cls.data).indices(given)
        return given

    @property
    def cautions(self) -> list[str]:
        """What is asked beyond the lengths that were learned, what to expect, and what to do."""
        lengths, learned = read_lengths(self.length), self.learned
        if learned is None or (min(lengths) in learned and max(lengths) in learned):
            return []
        below, above = min(lengths) < learned[0], max(lengths) > learned[-1]
        wider = f" -s shortest={min(lengths)}" * below + f" -s longest={max(lengths)}" * above
        return [
            f"chains of {self.length} residues are asked for, {learned[0]} to {learned[-1]} were learned: look at the "
            "columns clashes and rg_ratio, keep the good ones with --max-clashes 0.1 and --max-rg-ratio 1.4, or train on "
            f"such lengths: fewstep run with{wider}"
        ]

    @property
    def kinds(self) -> list[str]:
        """Kinds of files to write."""
        return self.files.split(",")


class BackboneRequest(Filters, Wanted):
    """What ``fewstep sample`` may be asked for: chains, and what they must be like to get files."""

    @model_validator(mode="after")
    def _weights(self) -> Self:
        """Missing weights are told before anything is drawn."""
        if self.scored:
            with _refused():
                sequence_scores()
        return self

    @property
    def scored(self) -> bool:
        """Whether sequences are asked about."""
        return self.mpnn_nll or self.max_mpnn_nll is not None


@lru_cache(maxsize=1)
def sequence_scores() -> Callable[[Sequence[Tensor]], Mapping[str, Tensor]]:
    """The column ``mpnn_nll``, its weights read once.

    Raises:
        FewstepError: there are none.
    """
    return column()


@contextmanager
def _refused() -> Iterator[None]:
    """An error for people as one of the settings, so that it is told with all others."""
    try:
        yield
    except FewstepError as error:
        raise ValueError(f"{error.what}; {error.todo or error.expected}") from error


def options(shortest: int, longest: int, data: str | None = None) -> type[BackboneRequest]:
    """The request of a generator that was trained on these lengths: they are what it draws when nothing is said.

    Args:
        shortest: residues of the shortest chain.
        longest: residues of the longest chain.
        data: file of the chains that it was trained on, whose CATH codes it knows.
    """
    about = BackboneRequest.model_fields["length"]
    field = Field(
        f"{shortest}-{longest}", description=about.description, json_schema_extra=about.json_schema_extra
    )
    made: type[BackboneRequest] = create_model(
        "BackboneRequest", __base__=BackboneRequest, __module__=__name__, length=(str, field)
    )
    made.data, made.learned = data, range(shortest, longest + 1)
    return made


def read_lengths(text: str) -> range | tuple[int, ...]:
    """Read "60-120" as a range (both ends included), "80" and "60,80,100" as numbers.

    Raises:
        ValueError: all that is wrong with it.
    """
    parts = [part.strip() for part in text.split(",")]
    pieces = [[piece.strip() for piece in part.split("-")] for part in parts]
    numbers = [int(piece) for found in pieces for piece in found if piece.isdecimal()]
    wrong = [f"{p!r} is no length" for p, found in zip(parts, pieces, strict=True) if not _is_length(found)]
    if len(parts) > 1 and any(len(found) == 2 for found in pieces if _is_length(found)):
        wrong.append("a range stands alone, a list holds numbers only")
    wrong += [
        f"{number} is not in {SHORTEST_CHAIN} to {LONGEST_CHAIN}"
        for number in numbers
        if not SHORTEST_CHAIN <= number <= LONGEST_CHAIN
    ]
    if len(pieces) == 1 and len(numbers) == 2 and numbers[0] > numbers[1]:
        wrong.append(f"{numbers[0]} is above {numbers[1]}")
    if wrong:
        raise ValueError(f"{'; '.join(wrong)}; write 80, 60-120, or 60,80,100")
    return range(numbers[0], numbers[1] + 1) if len(pieces[0]) == 2 else tuple(numbers)


def _is_length(pieces: list[str]) -> bool:
    return len(pieces) in (1, 2) and all(piece.isdecimal() for piece in pieces)


def request(asked: BackboneRequest, number: int, key: Key) -> Batch:
    """A request for chains of the asked lengths and labels, at the asked noise scale."""
    lengths = read_lengths(asked.length)
    if isinstance(lengths, range):
        drawn = key.at("lengths").integers((number,), len(lengths)) + lengths.start
    else:
        drawn = in_turn(lengths, number)
    batch = blank(torch.as_tensor(drawn))
    cond = batch.cond
    if asked.cath:
        labels = torch.tensor(vocabulary(asked.data).indices(asked.cath)).expand(number, LEVELS)
        cond = replace(cond, data={"cath": labels})
    return replace(batch, cond=cond, extra={"noise_scale": asked.noise_scale})


def portion(asked: BackboneRequest, first: int) -> int:
    """How many chains from number ``first`` on are recorded together: whole turns of a list of lengths."""
    lengths = read_lengths(asked.length)
    return growing(first, 1 if isinstance(lengths, range) else len(lengths), PORTION)


def alike(batch: Batch, device: str = "cpu") -> list[tuple[Tensor, Batch]]:
    """Rows whose lengths are near one another, longest first, with the padding that they need.

    Attention costs the square of the padded length. The parts follow from lengths and kind of device alone, so that a
    campaign that goes on draws what it would have drawn there.
    """
    lengths = batch.mask.sum((1, 2))
    order = lengths.argsort(descending=True, stable=True)
    pairs = PAIRS.get(torch.device(device).type, PAIRS[""])
    found: list[tuple[Tensor, Batch]] = []
    while len(order):
        width = int(lengths[order[0]])
        which, order = order.split([count := min(len(order), max(1, pairs // width**2)), len(order) - count])
        part = batch.take(which)
        cond = replace(part.cond, mask=part.mask[:, :width])
        found.append((which, replace(part, like=part.like[:, :width], cond=cond)))
    return found
