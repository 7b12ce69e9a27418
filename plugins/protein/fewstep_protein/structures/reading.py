"""Unbroken segments of the proteins in a PDB or mmCIF file, and what was refused or mended on the way.

Files are read by gemmi. Coordinates are angstrom here. Nothing is dropped in silence: every oddity is a ``Finding``.
"""

from __future__ import annotations

import gzip
import os
import re
import stat
import zlib
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

import gemmi
import numpy as np

LINKED = (3.5, 4.1)
"""CA-CA distances that count as one unbroken chain; a cis peptide (2.9) ends a segment."""
SHORTEST = 24
"""Residues of the shortest segment that is kept."""
WHOLE = {"N-CA": (1.35, 1.57), "CA-C": (1.42, 1.64), "C-N": (1.20, 1.45)}
"""Distances of a backbone that can be used; 1.46, 1.53 and 1.33 are ideal."""
GZIP = b"\x1f\x8b"
"""How compressed files begin; some archives ship plain text under a .gz name."""
SUFFIXES = re.compile(r"\.(pdb|ent|cif|mmcif|pdbx)(\.gz)?$", re.IGNORECASE)
"""Names of structure files."""

RULES = 3
"""To be raised whenever a file may give something else than before, so that no harvest goes on with what was kept."""
DAMAGED = (RuntimeError, ValueError, LookupError, OSError, EOFError, zlib.error, MemoryError)
"""What reading a damaged file raises."""

UNREADABLE = "cannot be read"
ANONYMOUS = "states no PDB id"
NO_PROTEIN = "no atom of a protein in it"
NOT_NUMBERS = "coordinates are not numbers"
IN_NANOMETERS = "CA atoms 0.3 to 0.5 angstrom apart: coordinates look like nanometers"
TOO_LARGE = "CA atoms 30 to 50 angstrom apart: coordinates look ten times too large"
NUCLEIC = "chain of nucleic acid"
UNKNOWN = "residue that is no known L-amino acid: the chain is cut there"
NO_CA = "residue without CA: the chain is cut there"
SHORT = "segment that is too short"
REFUSALS = (
    UNREADABLE,
    ANONYMOUS,
    NO_PROTEIN,
    NOT_NUMBERS,
    IN_NANOMETERS,
    TOO_LARGE,
    NUCLEIC,
    UNKNOWN,
    NO_CA,
    SHORT,
)
"""What leaves something of a file out."""

BREAK = "break: the chain is cut where CA atoms are not 3.5 to 4.1 angstrom apart"
ALTERNATIVE = "residue in alternative places: the one of highest occupancy, then the first"
MODIFIED = "modified residue: read as the amino acid it was made from"
INSERTED = "residue with an insertion code: kept in file order"
MODELS = "further model: the first that has atoms is read"
WATER = "water"
LIGAND = "ligand or ion"
CA_ONLY = "segment without whole backbone: only its CA is kept"


class Finding(NamedTuple):
    """Something about a file: the chain or nothing, one of the sentences above, and how often."""

    chain: str
    what: str
    count: int
    detail: str = ""


@dataclass(frozen=True)
class Segment:
    """An unbroken run of residues.

    Args:
        chain: as the file names it.
        first: number and insertion code of the first residue.
        sequence: one letter per residue.
        backbone: (N, 3, 3) N, CA and C in angstrom; N and C are NaN where ``whole`` is False.
        whole: whether all residues have N, CA and C at the distances of a peptide.
        cut: whether its chain gave other pieces too, however short.
    """

    chain: str
    first: str
    sequence: str
    backbone: np.ndarray
    whole: bool
    cut: bool


@dataclass(frozen=True)
class Reading:
    """What a file gave.

    Args:
        entry: PDB id in lower case, or the file's own name where that is allowed; empty if refused.
        method: as the file states it.
        resolution: angstrom; 0 if the file states none.
        passing: whether the system failed, not the file: it may be read another time.
    """

    entry: str = ""
    method: str = ""
    resolution: float = 0.0
    segments: list[Segment] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    passing: bool = False


def read_file(path: Path, shortest: int = SHORTEST, named_only: bool = False) -> Reading:
    """Segments of the first model that has atoms; a file that gives none says why.

    Args:
        path: a PDB or mmCIF file, gzipped or not, whatever its name says.
        shortest: residues of the shortest segment.
        named_only: refuse files that do not state a PDB id.
    """
    try:
        return _read(path, shortest, named_only)
    except DAMAGED as error:
        passing = isinstance(error, OSError | MemoryError) and not isinstance(error, gzip.BadGzipFile)
        return Reading(findings=[Finding("", UNREADABLE, 1, in_one_line(error))], passing=passing)


def in_one_line(error: Exception) -> str:
    """What went wrong, without the name of the file, which stands beside it."""
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(told.split())[:200] or type(error).__name__


def _read(path: Path, shortest: int, named_only: bool) -> Reading:
    structure, text = parse(path)
    entry = entry_id(path.name, structure, text)
    if entry is None and named_only:
        return Reading(findings=[Finding("", ANONYMOUS, 1)])
    name = entry or SUFFIXES.sub("", readable(path.name))
    segments, findings = _first_model(structure, shortest)
    method = dict(structure.info).get("_exptl.method", "")
    return Reading(name, method.lower(), round(structure.resolution, 2), segments, findings)


def readable(name: str) -> str:
    """A name as tables can hold it: bytes that are no UTF-8 become question marks."""
    return os.fsencode(name).decode("utf-8", "replace")


def parse(path: Path) -> tuple[gemmi.Structure, str]:
    """The structure and the text of a file.

    Raises:
        ValueError, RuntimeError: it cannot be parsed.
        OSError, EOFError: it cannot be read or unpacked.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("a pipe or a device, not a file")
    raw = path.read_bytes()
    raw = gzip.decompress(raw) if raw.startswith(GZIP) else raw
    text = raw.removeprefix(BOM_UTF8).decode("latin-1")
    is_mmcif = re.match(r"(\s|#.*\n)*data_", text, re.IGNORECASE)
    if is_mmcif:
        return gemmi.read_structure_string(text, format=gemmi.CoorFormat.Mmcif), text
    return gemmi.read_pdb_string(text), text


def entry_id(name: str, structure: gemmi.Structure, text: str) -> str | None:
    """The PDB id that a file states, in lower case: mmCIF ``_entry.id``, HEADER, or a name such as pdb1ubi.ent.gz."""
    stated = dict(structure.info).get("_entry.id", "")
    header = re.search(r"^HEADER.{56}(\w{4})\s*$", text[:2000], re.MULTILINE)
    named = re.match(r"^(?:pdb|mmcif_)?([1-9]\w{3})(?:\.|_chimerax\.)[a-z.]+$", name, re.IGNORECASE)
    for found in (stated, header[1] if header else "", named[1] if named else ""):
        # Four digits would be a number, not an id; those with letters begin with 1 to 9.
        if re.fullmatch(r"[1-9](?=\w*[A-Za-z])[A-Za-z0-9]{3}", found):
            return found.lower()
    return None


def _first_model(structure: gemmi.Structure, shortest: int) -> tuple[list[Segment], list[Finding]]:
    models = [model for model in structure if len(model)]
    findings = [Finding("", MODELS, len(models) - 1)] if len(models) > 1 else []
    segments: list[Segment] = []
    for chain in models[0] if models else ():
        found, more = read_chain(chain, shortest)
        segments += found
        findings += more
    if not segments and not any(finding.what in REFUSALS for finding in findings):
        findings.append(Finding("", NO_PROTEIN, 1))
    return segments, findings


class Residue(NamedTuple):
    """One residue of a protein: letter, number with insertion code, and places (3, 3) of N, CA, C (NaN if missing)."""

    letter: str
    number: str
    places: np.ndarray


def read_chain(chain: gemmi.Chain, shortest: int) -> tuple[list[Segment], list[Finding]]:
    """Unbroken segments of one chain."""
    counted: Counter[str] = Counter()
    residues: list[Residue | None] = []
    nucleic = 0
    for _, group in groupby(chain, lambda residue: str(residue.seqid)):
        kinds = [(residue, gemmi.find_tabulated_residue(residue.name)) for residue in group]
        nucleic += any(kind.is_nucleic_acid() for _, kind in kinds)
        residues += _read_residue([residue for residue, _ in kinds], counted)
    if nucleic:
        counted[NUCLEIC] = 1
    runs: list[list[Residue]] = []
    for is_residue, run in groupby(residues, lambda residue: residue is not None):
        if is_residue:
            runs += linked_runs([residue for residue in run if residue is not None], counted)
    segments = segments_of(chain.name, runs, shortest, counted)
    return segments, findings_of(chain.name, counted)


def findings_of(chain: str, counted: Counter[str]) -> list[Finding]:
    """What was counted in a chain."""
    return [Finding(chain, what, count) for what, count in counted.items() if count]


def _read_residue(forms: Sequence[gemmi.Residue], counted: Counter[str]) -> list[Residue | None]:
    """The residue at one number, or None where the chain must be cut; nothing for what is no part of a chain."""
    peptides = [form for form in forms if _is_peptide(form)]
    if not peptides:
        kind = gemmi.find_tabulated_residue(forms[0].name)
        if not kind.is_nucleic_acid():
            counted[WATER if kind.is_water() else LIGAND] += 1
        return []
    placed = [(atom, form) for form in peptides for atom in form if atom.name == "CA"]
    known = [(atom, form) for atom, form in placed if _letter(form) is not None]
    if not known:
        counted[UNKNOWN if placed else NO_CA] += 1
        return [None]
    # max keeps the first of equals: highest occupancy, then file order.
    alpha, form = max(known, key=lambda pair: pair[0].occ)
    places = np.full((3, 3), np.nan)
    for row, name in enumerate(("N", "CA", "C")):
        atom = alpha if name == "CA" else _atom(form, name, alpha.altloc)
        if atom is not None:
            places[row] = atom.pos.tolist()
    counted[ALTERNATIVE] += len(placed) > 1
    counted[MODIFIED] += not gemmi.find_tabulated_residue(form.name).is_standard()
    counted[INSERTED] += form.seqid.icode != " "
    return [Residue(_letter(form) or "", str(form.seqid), places)]


def _is_peptide(residue: gemmi.Residue) -> bool:
    """An amino acid, or something unknown that has the atoms of one."""
    kind = gemmi.find_tabulated_residue(residue.name)
    if kind.is_amino_acid():
        return True
    names = {atom.name for atom in residue}
    return not kind.found() and {"N", "CA", "C"} <= names


def _letter(residue: gemmi.Residue) -> str | None:
    """One of the twenty letters, also for a residue made from one of them (MSE: M); None for anything else."""
    kind = gemmi.find_tabulated_residue(residue.name)
    letter = kind.one_letter_code.upper()
    is_left_handed = kind.kind == gemmi.ResidueKind.AA
    return letter if is_left_handed and letter in "ACDEFGHIKLMNPQRSTVWY" else None


def _atom(residue: gemmi.Residue, name: str, altloc: str) -> gemmi.Atom | None:
    """The atom that goes with a CA at ``altloc``: in the same alternative, in none, or of highest occupancy."""
    found = [atom for atom in residue if atom.name == name]
    order = {altloc: 2, "\0": 1}
    return max(found, key=lambda atom: (order.get(atom.altloc, 0), atom.occ), default=None)


def linked_runs(residues: Sequence[Residue], counted: Counter[str]) -> list[list[Residue]]:
    """Cut where neighbors are not linked; nothing, if these are no coordinates in angstrom."""
    places = np.stack([residue.places[1] for residue in residues])
    gaps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    if not _finite(places, counted) or _slip(gaps, counted):
        return []
    cuts = np.flatnonzero((gaps < LINKED[0]) | (gaps > LINKED[1])) + 1
    counted[BREAK] += len(cuts)
    return [list(residues[start:end]) for start, end in pairwise([0, *cuts.tolist(), len(residues)])]


def _slip(gaps: np.ndarray, counted: Counter[str]) -> bool:
    """Whether distances are those of a chain in another unit."""
    middle = float(np.median(gaps)) if len(gaps) else 0.0
    found = IN_NANOMETERS if 0.3 < middle < 0.5 else TOO_LARGE if 30 < middle < 50 else ""
    counted[found] += bool(found)
    return bool(found)


def _finite(places: np.ndarray, counted: Counter[str]) -> bool:
    """Whether all CA have numbers."""
    finite = bool(np.isfinite(places).all())
    counted[NOT_NUMBERS] += not finite
    return finite


def segments_of(
    chain: str, runs: Sequence[Sequence[Residue]], shortest: int, counted: Counter[str]
) -> list[Segment]:
    """Those runs of a chain that are long enough."""
    long = [run for run in runs if len(run) >= shortest]
    counted[SHORT] += len(runs) - len(long)
    return [_segment(chain, run, len(runs) > 1, counted) for run in long]


def _segment(chain: str, run: Sequence[Residue], cut: bool, counted: Counter[str]) -> Segment:
    places = np.stack([residue.places for residue in run])
    whole = is_whole(places)
    counted[CA_ONLY] += not whole
    kept = places if whole else np.where(np.array([False, True, False])[:, None], places, np.nan)
    return Segment(chain, run[0].number, "".join(residue.letter for residue in run), kept, whole, cut)


def is_whole(backbone: np.ndarray) -> bool:
    """Whether a backbone (N, 3, 3) in angstrom has every N and C, at the distances of a peptide."""
    if not np.isfinite(backbone).all():
        return False
    amine, alpha, carbonyl = backbone.transpose(1, 0, 2)
    pairs = {"N-CA": amine - alpha, "CA-C": carbonyl - alpha, "C-N": amine[1:] - carbonyl[:-1]}
    lengths = {name: np.linalg.norm(pair, axis=-1) for name, pair in pairs.items()}
    return all(bool(((d > WHOLE[name][0]) & (d < WHOLE[name][1])).all()) for name, d in lengths.items())
