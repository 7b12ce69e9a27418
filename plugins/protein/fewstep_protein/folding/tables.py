"""What a designer takes home: FASTA with scores and provenance in its headers, and two CSV tables."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fewstep.runs.folder import RunFolder
from fewstep_protein.folding.campaign import Asked
from fewstep_protein.folding.consistency import Consistency
from fewstep_protein.folding.reading import Backbone

Designs = Sequence[Sequence[Mapping[str, Any]]]
"""``sequence`` and ``nll`` of every design of every backbone."""


def write_tables(
    out: Path, asked: Asked, backbones: Sequence[Backbone], designs: Designs, found: Consistency | None
) -> list[Path]:
    """``designs.fasta``, ``designs.csv`` with a row for each sequence, and ``designs-backbones.csv``."""
    rows = sequence_rows(backbones, designs, found)
    texts = {
        out.name: fasta(rows, asked),
        f"{out.stem}.csv": as_csv(rows),
        f"{out.stem}-backbones.csv": as_csv(backbone_rows(backbones, designs, found)),
    }
    folder = RunFolder(out.parent)
    return [folder.write(name, text) for name, text in texts.items()]


def sequence_rows(
    backbones: Sequence[Backbone], designs: Designs, found: Consistency | None
) -> list[dict[str, Any]]:
    """A row for each sequence."""
    rows, named = [], any(one.native for one in backbones)
    for i, (one, made) in enumerate(zip(backbones, designs, strict=True)):
        for number, each in enumerate(made):
            row = {"backbone": one.name, "number": number, "length": len(one.chain), "nll": each["nll"]}
            if named:
                row["recovery"] = recovery(one.native, each["sequence"])
            if found is not None:
                row |= {
                    "rmsd": float(found.rmsd[i, number]),
                    "tm": float(found.tm[i, number]),
                    "plddt": float(found.plddt[i, number]),
                }
            rows.append({**row, "sequence": each["sequence"], "file": str(one.file)})
    return rows


def backbone_rows(
    backbones: Sequence[Backbone], designs: Designs, found: Consistency | None
) -> list[dict[str, Any]]:
    """A row for each backbone, the best first: by scRMSD where there is one, by its sequences' likelihood otherwise."""
    rows: list[dict[str, Any]] = []
    named = any(one.native for one in backbones)
    for i, (one, made) in enumerate(zip(backbones, designs, strict=True)):
        nll = [each["nll"] for each in made]
        best = min(range(len(made)), key=lambda j: nll[j])
        row = {"backbone": one.name, "length": len(one.chain), "nll": sum(nll) / len(nll)}
        if named:
            row["recovery"] = sum(recovery(one.native, each["sequence"]) for each in made) / len(made)
        if found is not None:
            best = int(found.rmsd[i].argmin())
            row |= {
                "scrmsd": float(found.scrmsd[i]),
                "sctm": float(found.sctm[i]),
                "plddt": float(found.plddt[i, best]),
            }
        rows.append({**row, "best": best, "sequence": made[best]["sequence"], "file": str(one.file)})
    return sorted(rows, key=lambda row: row.get("scrmsd", row["nll"]))


def recovery(native: str, sequence: str) -> float:
    """Share of the amino acids that a file names which a design repeats; not a number where it names none."""
    if not native:
        return math.nan
    known = [(a, b) for a, b in zip(native, sequence, strict=True) if a != "X"]
    return sum(a == b for a, b in known) / len(known)


def fasta(rows: Sequence[Mapping[str, Any]], asked: Asked) -> str:
    """Entries with what is known of each after its name."""
    origin = f"weights={asked.weights} temperature={asked.temperature:g} seed={asked.seed}"
    lines = []
    for row in rows:
        scores = " ".join(
            f"{name}={row[name]:.4g}"
            for name in ("nll", "recovery", "rmsd", "tm", "plddt")
            if name in row and not math.isnan(row[name])
        )
        lines += [f">{row['backbone']}_{row['number']} {scores} {origin}", str(row["sequence"])]
    return "\n".join([*lines, ""])


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of one kind; numbers with five digits, an empty cell for what is not a number."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(rows[0])
    table.writerows([_cell(value) for value in row.values()] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.5g}"
    return str(value)
