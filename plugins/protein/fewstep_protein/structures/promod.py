"""Chains of ProMod3's structural database: the file ``structure_db.dat`` that Debian's ``promod3-data`` installs.

It holds the backbones of about 20,000 entries of the Protein Data Bank, cut into unbroken pieces, among the profiles that
homology modelling needs. The layout was read off the file: a header; a table with, per piece, entry, chain, first
residue among all, number of residues, number of the first residue and an origin; then, each preceded by its length in
eight bytes, one letter per residue and twelve 16-bit steps of 0.01 angstrom per residue (N, CA, C, O).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fewstep.errors import FewstepError

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


@dataclass(frozen=True)
class Piece:
    """An unbroken piece of a chain: backbone (N, 3, 3) as N, CA, C in angstrom."""

    entry: str
    chain: str
    first: int
    sequence: str
    backbone: np.ndarray


def is_database(path: Path) -> bool:
    """Whether a file begins like one."""
    with path.open("rb") as handle:
        return path.suffix == ".dat" and handle.read(4) == struct.pack("<I", MAGIC)


def read_database(path: Path) -> Iterator[Piece]:
    """All pieces, in the order of the file.

    Raises:
        FewstepError: the file does not have the layout that this module reads.
    """
    raw = path.read_bytes()
    try:
        rows, end = _table(raw)
        total = rows[-1][2] + rows[-1][3]
        letters = _counted(raw, end, total)
        places = _counted(raw, letters + total, total)
        steps = np.frombuffer(raw, "<u2", total * ATOMS * 3, places).reshape(total, ATOMS, 3)
    except (struct.error, ValueError, IndexError, UnicodeDecodeError) as error:
        raise FewstepError(
            f"{path} is no structural database as this program knows it: {error}",
            "structure_db.dat of promod3-data 3.2.1",
            "install that version, or leave the file out",
        ) from error
    for entry, chain, at, size, first in rows:
        sequence = raw[letters + at : letters + at + size].decode("ascii")
        yield Piece(entry.lower(), chain, first, sequence, steps[at : at + size, :3].astype(np.float64) * STEP)


def _table(raw: bytes) -> tuple[list[tuple[str, str, int, int, int]], int]:
    """(entry, chain, place, size, first residue) of every piece, and where the table ends."""
    rows: list[tuple[str, str, int, int, int]] = []
    at, expected = TABLE, 0
    while struct.unpack_from("<I", raw, at)[0] == 4:
        entry, after = _text(raw, at)
        chain, after = _text(raw, after)
        place, size, first, *_ = ROW.unpack_from(raw, after)
        if place != expected:
            raise ValueError(f"piece {len(rows)} begins at residue {place}, not {expected}")
        rows.append((entry, chain, place, size, first))
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
