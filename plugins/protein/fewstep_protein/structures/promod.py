"""Chains of ProMod3's structural database: the file ``structure_db.dat`` that Debian's ``promod3-data`` installs.

It holds the backbones of about 20,000 entries of the Protein Data Bank, cut into unbroken pieces, among the profiles that
homology modelling needs. The layout was read off the file: a header; a table with, per piece, entry, chain, first
residue among all, number of residues, number of the first residue and an origin; then, each preceded by its length in
eight bytes, one letter per residue and twelve 16-bit steps of 0.01 angstrom per residue (N, CA, C, O).
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fewstep.errors import FewstepError
from fewstep_protein.structures.reading import (
    BREAK,
    Reading,
    Residue,
    findings_of,
    linked_runs,
    segments_of,
)

MAGIC = 1234
"""How the file begins."""
TABLE = 0x55
"""Where its table begins."""
ROW = struct.Struct("<IHHfff")
"""Place, size, first residue number, origin of the 16-bit steps."""
STEP = 0.01
"""Angstrom."""
ATOMS = 4
"""N, CA, C, O."""


def is_database(path: Path) -> bool:
    """Whether a file begins like one; nothing else is opened than what is named like one."""
    if path.suffix != ".dat" or not path.is_file() or not os.access(path, os.R_OK):
        return False
    with path.open("rb") as handle:
        return handle.read(4) == struct.pack("<I", MAGIC)


def read_database(path: Path, shortest: int) -> Iterator[Reading]:
    """What every chain gave, in the order of the file; its pieces are cut like chains of files.

    Raises:
        FewstepError: the file does not have the layout that this module reads.
    """
    raw = path.read_bytes()
    try:
        rows, end = _table(raw)
        total = rows[-1].place + rows[-1].size
        letters = _counted(raw, end, total)
        places = _counted(raw, letters + total, total)
        steps = np.frombuffer(raw, "<u2", total * ATOMS * 3, places).reshape(total, ATOMS, 3)
    except (struct.error, ValueError, IndexError, UnicodeDecodeError) as error:
        raise FewstepError(
            f"{path} is no structural database as this program knows it: {error}",
            "structure_db.dat of promod3-data 3.2.1",
            "install that version, or leave the file out",
        ) from error
    for (entry, chain), group in groupby(rows, lambda row: (row.entry, row.chain)):
        counted: Counter[str] = Counter()
        runs: list[list[Residue]] = []
        for row in group:
            here = slice(row.place, row.place + row.size)
            sequence = raw[letters + here.start : letters + here.stop].decode("ascii")
            backbone = steps[here, :3].astype(np.float64) * STEP
            numbers = range(row.first, row.first + row.size)
            counted[BREAK] += bool(runs)
            runs += linked_runs(list(map(Residue, sequence, map(str, numbers), backbone)), counted)
        segments = segments_of(chain, runs, shortest, counted)
        yield Reading(entry.lower(), segments=segments, findings=findings_of(chain, counted))


class Row(NamedTuple):
    """A piece: entry, chain, place of its first residue among all, residues, and the first one's number."""

    entry: str
    chain: str
    place: int
    size: int
    first: int


def _table(raw: bytes) -> tuple[list[Row], int]:
    """Every piece, and where the table ends."""
    rows: list[Row] = []
    at, expected = TABLE, 0
    while struct.unpack_from("<I", raw, at)[0] == 4:
        entry, after = _text(raw, at)
        chain, after = _text(raw, after)
        place, size, first, *_ = ROW.unpack_from(raw, after)
        if place != expected:
            raise ValueError(f"piece {len(rows)} begins at residue {place}, not {expected}")
        rows.append(Row(entry, chain, place, size, first))
        at, expected = after + ROW.size, place + size
    return rows, at


def _text(raw: bytes, at: int) -> tuple[str, int]:
    size = struct.unpack_from("<I", raw, at)[0]
    return raw[at + 4 : at + 4 + size].decode("ascii"), at + 4 + size


def _counted(raw: bytes, at: int, total: int) -> int:
    """Where ``total`` things begin, if so many are announced at ``at``."""
    count = struct.unpack_from("<Q", raw, at)[0]
    if count != total:
        raise ValueError(f"{count} residues where {total} are expected")
    return at + 8
