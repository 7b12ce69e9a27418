"""designs.csv for programs and designs.html for eyes: one file that sorts, filters and turns molecules offline."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from fewstep.runs.folder import RunFolder
from fewstep_protein.designs.filters import missed
from fewstep_protein.panels.molecules import script as viewer_script
from fewstep_protein.panels.traces import thumbnail

SHOWN = 2000
"""Rows of the page, those that pass first; the CSV file has all."""
HEADS = {
    "length": ("length", "residues"),
    "valid_bonds": ("valid", "share of CA-CA distances in 3.6 to 4.0 angstrom"),
    "clashes": ("clashes", "pairs closer than 3.8 angstrom, per residue"),
    "rg": ("Rg", "gyration radius in angstrom"),
    "rg_ratio": ("Rg ratio", "gyration radius over that of a compact chain of this length"),
    "helix": ("helix", "share of residues in helices by P-SEA"),
    "strand": ("strand", "share of residues in strands by P-SEA"),
    "right_handed": ("right-handed", "share of right-handed turns; empty without turns"),
    "bond_mean": ("bond", "mean CA-CA distance in angstrom"),
    "bond_std": ("bond spread", "standard deviation of the CA-CA distance in angstrom"),
    "contact_order": ("contact order", "mean separation of contacts within 8 angstrom, over the length"),
    "longest_contact": ("longest contact", "largest separation of a contact, over the length"),
    "mpnn_nll": ("MPNN nats", "ProteinMPNN's nats per residue for a sequence of its own; not designability"),
    "exploded": ("exploded", "1 if not finite or wider than 200 angstrom"),
}
"""Column -> its heading, and what it says."""
HIDDEN = ("exploded",)
"""Columns that only the CSV file has; the page says them as reasons."""


def write_table(
    folder: Path, records: Sequence[Mapping[str, Any]], cautions: Sequence[str] = ()
) -> list[Path]:
    """Both tables; each replaces an older one at once. The page begins with cautions."""
    place = RunFolder(folder)
    return [
        place.write("designs.csv", as_csv(records)),
        place.write("designs.html", as_page(records, cautions)),
    ]


def as_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """One line for each design: name, verdict, numbers, files, and where it is from, so that tables can be joined."""
    text = io.StringIO()
    numbers, about = _names(records, "numbers"), _names(records, "about")
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["name", "index", "passed", "reason", *numbers, "files", *about])
    for record in records:
        values = [record["numbers"].get(name) for name in numbers]
        lines.writerow(
            [
                record["name"],
                record["index"],
                int(record["passed"]),
                record["reason"],
                *("" if value is None else f"{value:.6g}" for value in values),
                " ".join(record["files"]),
                *(record["about"].get(name, "") for name in about),
            ]
        )
    return text.getvalue()


def as_page(records: Sequence[Mapping[str, Any]], cautions: Sequence[str] = ()) -> str:
    """The page: pictures, numbers, links; needs no network."""
    shown = sorted(records, key=lambda record: not record["passed"])[:SHOWN]
    columns = _ordered(name for name in _names(records, "numbers") if name not in HIDDEN)
    return _template().render(
        count=len(records),
        passed=sum(record["passed"] for record in records),
        shown=len(shown),
        lengths=_span(record["numbers"]["length"] for record in records),
        about=records[0]["about"] if records else {},
        cautions=cautions,
        refused=Counter(reason for record in records for reason in missed(record)).most_common(),
        columns=[(name, *HEADS.get(name, (name.replace("_", " "), name))) for name in columns],
        rows=[_row(record, columns) for record in shown],
        viewer=Markup(viewer_script()),
        script=Markup((files("fewstep_protein") / "designs" / "table.js").read_text(encoding="utf-8")),
    )


def _row(record: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    """What the template needs of a design."""
    label = f"{record['name']}, CA trace of {len(record['structure'])} residues"
    return {
        **record,
        "picture": Markup(thumbnail(record["trace"], record["structure"], label)),
        "trace": ",".join(map(str, record["trace"])),
        "cells": [(value, _short(value)) for value in map(record["numbers"].get, columns)],
    }


def _template() -> jinja2.Template:
    places = [
        jinja2.PackageLoader("fewstep_protein.designs", "."),
        jinja2.PackageLoader("fewstep.runs", "templates"),
    ]
    room = jinja2.Environment(
        loader=jinja2.ChoiceLoader(places), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return room.get_template("table.html.j2")


def _names(records: Sequence[Mapping[str, Any]], part: str) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in record[part]))


def _ordered(columns: Iterable[str]) -> list[str]:
    """As HEADS has them; those of other measures after them."""
    known = list(HEADS)
    return sorted(columns, key=lambda name: known.index(name) if name in known else len(known))


def _span(lengths: Iterable[float]) -> str:
    found = sorted(lengths)
    return f"{found[0]:.0f}" if found[0] == found[-1] else f"{found[0]:.0f} to {found[-1]:.0f}"


def _short(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value == int(value) and abs(value) > 1 else f"{value:.2f}"
