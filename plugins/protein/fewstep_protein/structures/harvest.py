"""Real structures for training: read, choose, split and save. What ``fewstep protein harvest`` does.

Read ``harvest``: files to records, records to a choice, the choice to both sides of a split, one file.
"""

from __future__ import annotations

import base64
import csv
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fewstep.errors import FewstepError
from fewstep.runs.folder import check_place, claimed, writing
from fewstep_protein.structures.clusters import (
    REDUNDANT,
    Comparing,
    Fold,
    clusters,
    families,
    held_out,
    shuffled,
    without_repeats,
)
from fewstep_protein.structures.ledger import read_ledger, remembered
from fewstep_protein.structures.origins import LEFT, Origin, origins
from fewstep_protein.structures.promod import is_database, read_database
from fewstep_protein.structures.reading import REFUSALS, RULES, SHORTEST, Reading, read_file

if TYPE_CHECKING:
    from fewstep.engine import Watch
    from fewstep_protein.structures.segments import Structure

REPEAT = f"shares more than {REDUNDANT:.0%} of its 5-mers with a longer segment"
NOT_WHOLE = "chain that is cut, or has no whole backbone (--whole)"
NOT_CHOSEN = "more than were asked for, or of another length (--keep)"
KNOWN_FAMILY = "candidate to be held out of a family that is trained on"
KNOWN_FOLD = "candidate to be held out with the fold of a training segment"
CHOICES = (REPEAT, NOT_WHOLE, NOT_CHOSEN, KNOWN_FAMILY, KNOWN_FOLD)
"""Why a segment that was read well is not in the file."""
STEP = 0.01
"""Angstrom per stored integer."""
MISSING = -(2**31)
"""Where an atom is missing."""


@dataclass(frozen=True)
class Keep:
    """So many segments at most, of lengths in a range."""

    low: int
    high: int
    number: int

    @staticmethod
    def parse(text: str) -> Keep:
        """``50-128:1000``.

        Raises:
            FewstepError: anything else.
        """
        try:
            lengths, number = text.split(":")
            low, high = lengths.split("-")
            found = Keep(int(low), int(high), int(number))
        except ValueError:
            found = Keep(1, 0, 0)
        if not (1 <= found.low <= found.high and found.number >= 1):
            raise FewstepError(f"--keep {text}", "lengths and a number", "for instance --keep 50-128:1000")
        return found


@dataclass(frozen=True)
class Asked:
    """What a harvest is to do.

    Args:
        places: files, folders, archives, ``package:NAME``.
        shortest: residues of the shortest segment.
        keep: how many segments of which lengths; empty keeps all.
        share: of the segments that are candidates to be held out.
        named_only: leave out files that state no PDB id.
        whole: leave out chains with breaks or without N and C.
        cath: C.A.T by "entry_chain", from CATH's domain list; chains that are not in it get a computed class.
        all_clusters: also find the clusters of the training side, which takes up to N^2 / 2 alignments.
        workers: processes.
    """

    places: Sequence[str]
    shortest: int = SHORTEST
    keep: Sequence[Keep] = ()
    share: float = 0.2
    named_only: bool = False
    whole: bool = False
    cath: Mapping[str, str] = field(default_factory=dict)
    all_clusters: bool = False
    workers: int = 1


@dataclass(frozen=True)
class Record:
    """A segment with where it is from."""

    entry: str
    chain: str
    first: str
    sequence: str
    backbone: np.ndarray
    whole: bool
    cut: bool
    method: str
    resolution: float
    package: str
    file: str

    @property
    def name(self) -> str:
        """Entry, chain and first residue."""
        return f"{self.entry}_{self.chain}_{self.first}"


@dataclass
class Account:
    """What was met: rows of (file, chain, what, count, detail), and how much was read.

    Args:
        files: all that were given.
        fresh: those that this call read; the others were known.
        seconds: it took to read them.
        read: segments in all files.
        rows: findings.
    """

    files: int = 0
    fresh: int = 0
    seconds: float = 0.0
    read: int = 0
    rows: list[tuple[str, str, str, int, str]] = field(default_factory=list)

    def choose(self, what: str, records: Iterable[Record]) -> None:
        """Note why some records are not used."""
        self.rows += [(f"{r.package}/{r.file}", r.chain, what, 1, r.name) for r in records]

    def table(self) -> list[tuple[str, int, int]]:
        """(what, how often, in how many files), most frequent first."""
        counts: Counter[str] = Counter()
        files: dict[str, set[str]] = defaultdict(set)
        for file, _, what, count, _ in self.rows:
            counts[what] += count
            files[what].add(file)
        return [(what, count, len(files[what])) for what, count in counts.most_common()]


def harvest(asked: Asked, out: Path, watch: Watch | None = None) -> tuple[list[Structure], Account]:
    """Read all files, choose, split, and write ``out`` with its tables beside it.

    Whatever took time is kept in ``<out>.work`` and not done again: a killed harvest goes on, and new files cost their
    own reading and comparing only.

    Raises:
        FewstepError: ``out`` is no .npz or cannot be written, another process writes it, nothing to read, or nothing
            that can be used.
    """
    if out.suffix != ".npz":
        raise FewstepError(f"--out {out}", "a file .npz; tables are written beside it", f"--out {out}.npz")
    work = out.with_name(out.name + ".work")
    for file in (out, work / "files.jsonl"):
        check_place(file)
    with claimed(work):
        return _harvest(asked, out, work, watch)


def _harvest(asked: Asked, out: Path, work: Path, watch: Watch | None) -> tuple[list[Structure], Account]:
    from fewstep_protein.structures.segments import save

    found = origins(asked.places, work / "unpacked", [work, *written_to(out)])
    account = Account(rows=found.left)
    records = read_all(found.files, asked, work, account, watch)
    chosen = choose(records, asked, account)
    if not chosen:
        with writing(refusals_of(out)):
            write_refusals(refusals_of(out), account)
        raise FewstepError(
            f"{account.files} files gave no segment that can be used",
            f"unbroken proteins of at least {asked.shortest} residues",
            f"see the reasons in {refusals_of(out)}: " + "; ".join(what for what, *_ in account.table()[:5]),
        )
    structures = split(chosen, asked, work, account, watch)
    kept = [chosen[structure.name] for structure in structures]
    with writing(out):
        save(out, structures)
        write_provenance(out.with_suffix(".csv"), kept)
        write_refusals(refusals_of(out), account)
    return structures, account


def written_to(out: Path) -> list[Path]:
    """The file and its tables, and what a killed harvest left of them."""
    files = (out, out.with_suffix(".csv"), refusals_of(out))
    return [*files, *(file.with_name(f".{file.name}.partial") for file in files)]


def refusals_of(out: Path) -> Path:
    """The table of what a harvest left out."""
    return out.with_suffix(".refused.csv")


def read_all(
    files: Sequence[Origin], asked: Asked, work: Path, account: Account, watch: Watch | None
) -> list[Record]:
    """Segments of all files, in the order of the files."""
    account.files = len(files)
    databases = [origin for origin in files if is_database(origin.path)]
    single = [origin for origin in files if origin not in databases]
    tasks = {
        f"{origin.key} {asked.shortest} {asked.named_only} {RULES}": (
            str(origin.path),
            asked.shortest,
            asked.named_only,
        )
        for origin in single
    }
    ledger, begun = work / "files.jsonl", time.monotonic()
    account.fresh = len(tasks.keys() - read_ledger(ledger, _lasts).keys())
    done = remembered(tasks, _packed, ledger, asked.workers, watch, lasts=_lasts)
    account.seconds = time.monotonic() - begun
    readings = [(origin, unpacked(found)) for origin, found in zip(single, done.values(), strict=True)]
    readings += [
        (origin, reading) for origin in databases for reading in read_database(origin.path, asked.shortest)
    ]
    records = []
    for origin, reading in readings:
        where = f"{origin.package}/{origin.file}"
        account.rows += [(where, f.chain, f.what, f.count, f.detail) for f in reading.findings]
        records += _records(origin, reading)
    account.read = len(records)
    return named_apart(records)


def named_apart(records: Iterable[Record]) -> list[Record]:
    """The same records, where a name stands for one sequence: others of that name are of entry~2, entry~3, ...

    Predictions are often all called ranked_0.pdb, each in a folder of its own.
    """
    known: dict[str, dict[str, int]] = defaultdict(dict)
    found = []
    for record in records:
        number = known[record.name].setdefault(record.sequence, 1 + len(known[record.name]))
        found.append(record if number == 1 else replace(record, entry=f"{record.entry}~{number}"))
    return found


def _records(origin: Origin, reading: Reading) -> list[Record]:
    return [
        Record(
            reading.entry,
            segment.chain,
            segment.first,
            segment.sequence,
            segment.backbone,
            segment.whole,
            segment.cut,
            reading.method,
            reading.resolution,
            origin.package,
            origin.file,
        )
        for segment in reading.segments
    ]


def _packed(path: str, shortest: int, named_only: bool) -> dict[str, Any]:
    """What a file gave, as JSON can hold it: coordinates are int32 steps of 0.01 angstrom."""
    from dataclasses import asdict

    found = asdict(read_file(Path(path), shortest, named_only))
    for segment in found["segments"]:
        steps = np.nan_to_num(np.round(segment["backbone"] / STEP), nan=MISSING).astype("<i4")
        segment["backbone"] = base64.b64encode(zlib.compress(steps.tobytes())).decode("ascii")
    return found


def unpacked(found: dict[str, Any]) -> Reading:
    """The reading that ``_packed`` packed."""
    from fewstep_protein.structures.reading import Finding, Segment

    segments = []
    for segment in found["segments"]:
        steps = np.frombuffer(zlib.decompress(base64.b64decode(segment["backbone"])), "<i4").reshape(-1, 3, 3)
        backbone = np.where(steps == MISSING, np.nan, steps * STEP)
        segments.append(Segment(**{**segment, "backbone": backbone}))
    return Reading(
        found["entry"],
        found["method"],
        found["resolution"],
        segments,
        [Finding(*row) for row in found["findings"]],
        found["passing"],
    )


def _lasts(found: Any) -> bool:
    """Whether what a file gave can be kept: it is whole, and no failure that may pass."""
    try:
        return not unpacked(found).passing
    except (ValueError, LookupError, TypeError, zlib.error):
        return False


def choose(records: Sequence[Record], asked: Asked, account: Account) -> dict[str, Record]:
    """The records to use by name, in an order that has nothing to do with them, without repeats."""
    fit = [r for r in records if r.whole and not r.cut] if asked.whole else list(records)
    account.choose(NOT_WHOLE, [r for r in records if not (r.whole and not r.cut)] if asked.whole else [])
    by_name: dict[str, Record] = {}
    for record in fit:
        by_name.setdefault(record.name, record)
    ranges = asked.keep or [Keep(1, 10**9, 10**9)]
    names = [
        name
        for keep in ranges
        for name in shuffled(n for n, r in by_name.items() if keep.low <= len(r.sequence) <= keep.high)[
            : keep.number
        ]
    ]
    names = list(dict.fromkeys(names))
    account.choose(NOT_CHOSEN, [by_name[name] for name in sorted(set(by_name) - set(names))])
    kept = {names[i] for i in without_repeats([by_name[name].sequence for name in names])}
    repeated = [record for record in fit if record is not by_name[record.name]]
    account.choose(REPEAT, [*(by_name[name] for name in names if name not in kept), *repeated])
    return {name: by_name[name] for name in names if name in kept}


def split(
    chosen: Mapping[str, Record], asked: Asked, work: Path, account: Account, watch: Watch | None
) -> list[Structure]:
    """Training and held-out structures: no pair across has one family or one fold."""
    family = dict(zip(chosen, families([record.sequence for record in chosen.values()]), strict=True))
    training, candidates = sides(chosen, asked)
    known = {family[name] for name in training}
    account.choose(KNOWN_FAMILY, [chosen[name] for name in candidates if family[name] in known])
    candidates = [name for name in candidates if family[name] not in known]
    content = contents(chosen)
    folds = {name: Fold(trace_of(record), content[name]) for name, record in chosen.items()}
    comparing = Comparing(folds, work, asked.workers, watch)
    apart = held_out(candidates, training, comparing)
    account.choose(KNOWN_FOLD, [chosen[name] for name in candidates if name not in set(apart)])
    cluster = clusters(apart, family, comparing)
    first = 1 + max(cluster.values(), default=-1)
    alike = clusters if asked.all_clusters else _by_family
    more = alike(training, family, comparing)
    cluster |= {name: first + number for name, number in more.items()}
    return [
        structure_of(chosen[name], family[name], cluster[name], name in set(apart), asked.cath, content[name])
        for name in [*training, *apart]
    ]


def _by_family(names: Sequence[str], family: Mapping[str, int], comparing: Comparing) -> dict[str, int]:
    """What stands for clusters where folds are not compared."""
    return {name: family[name] for name in names}


def sides(chosen: Mapping[str, Record], asked: Asked) -> tuple[list[str], list[str]]:
    """(training, candidates): the last ``share`` of each range of lengths are candidates."""
    training: list[str] = []
    candidates: list[str] = []
    for keep in asked.keep or [Keep(1, 10**9, 10**9)]:
        here = [n for n, r in chosen.items() if keep.low <= len(r.sequence) <= keep.high]
        at = round(len(here) * (1 - asked.share))
        training += here[:at]
        candidates += here[at:]
    return list(dict.fromkeys(training)), [n for n in dict.fromkeys(candidates) if n not in set(training)]


def trace_of(record: Record) -> np.ndarray:
    """CA (N, 3) in angstrom."""
    return np.ascontiguousarray(record.backbone[:, 1])


def contents(chosen: Mapping[str, Record]) -> dict[str, np.ndarray]:
    """(3,) residues of each record in helix, strand and coil, by P-SEA."""
    import torch

    from fewstep_protein.metrics.secondary import secondary_structure

    traces = [torch.from_numpy(trace_of(record) / 10) for record in chosen.values()]
    codes = secondary_structure(traces)
    return {name: np.bincount(code.numpy(), minlength=3) for name, code in zip(chosen, codes, strict=True)}


def structure_of(
    record: Record, family: int, cluster: int, is_held_out: bool, cath: Mapping[str, str], content: np.ndarray
) -> Structure:
    """A record as it is stored: centered, in nanometers, with its label."""
    import torch

    from fewstep_protein.structures.labels import class_of
    from fewstep_protein.structures.segments import Structure

    backbone = torch.from_numpy((record.backbone - trace_of(record).mean(0)) / 10)
    helix, strand, _ = (content / content.sum()).tolist()
    return Structure(
        record.name,
        family,
        backbone[:, 1],
        backbone if record.whole else None,
        record.sequence,
        cluster,
        is_held_out,
        cath.get(f"{record.entry}_{record.chain}") or class_of(helix, strand),
    )


PROVENANCE = (
    "pdb",
    "chain",
    "first_residue",
    "length",
    "method",
    "resolution",
    "package",
    "file",
    "sequence",
)


def write_provenance(path: Path, records: Iterable[Record]) -> None:
    """One row per segment, in the order of the file of coordinates."""
    rows = [
        (
            r.entry,
            r.chain,
            r.first,
            len(r.sequence),
            r.method,
            r.resolution or "",
            r.package,
            r.file,
            r.sequence,
        )
        for r in records
    ]
    _write_table(path, PROVENANCE, rows)


def write_refusals(path: Path, account: Account) -> None:
    """One row per finding: what was refused, and what was met and mended."""
    rows = [
        (
            file,
            chain,
            what,
            "refused" if what in REFUSALS else "not used" if what in (*CHOICES, *LEFT) else "mended",
            n,
            detail,
        )
        for file, chain, what, n, detail in account.rows
    ]
    _write_table(path, ("file", "chain", "what", "outcome", "count", "detail"), rows)


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", newline="", encoding="utf-8") as handle:
        table = csv.writer(handle, lineterminator="\n")
        table.writerow(header)
        table.writerows(rows)
    partial.replace(path)
