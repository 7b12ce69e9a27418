"""Sequences as files: FASTA that says where each one is from, and a table of guards."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from fewstep.protocol import Batch, Campaign, Drawn
from fewstep.runs.folder import RunFolder
from fewstep_protein.designs.filters import missed
from fewstep_protein.sequence_didi import guards
from fewstep_protein.sequence_didi.alphabet import decode, rows_of
from fewstep_protein.sequence_didi.request import SequenceRequest, portion

WIDTH = 60
"""Letters of a line of FASTA."""
TOLD = ("recipe", "run", "contender", "calls", "seed", "version")
"""What a header says of where a sequence is from, beside its teacher and what was fixed."""

Training = Sequence[Tensor]


def write_sequences(x: Tensor, batch: Batch, folder: Path, *, teacher: str, training: Training) -> list[Path]:
    """``sequences.fasta`` and ``sequences.csv``.

    Args:
        x: (B, L) ids.
        batch: what they answer; its mask says where they are real.
        folder: made if it is absent.
        teacher: what the student learned from.
        training: sequences to compare with; empty = no such column.
    """
    about = {"recipe": "protein/sequence-didi", "teacher": teacher}
    found = rows_of(x, batch.mask)
    return save(folder, records(SequenceRequest(), found, range(len(found)), about, training))


def sequence_campaign(teacher: str, training: Training) -> Campaign:
    """What ``fewstep sample`` does for a generator of sequences; arguments as in :func:`write_sequences`."""
    write = partial(_write, teacher, training)
    return Campaign(
        portion, write, lambda _, folder, found: save(folder, found), reasons=missed, unit="sequence"
    )


def _write(
    teacher: str,
    training: Training,
    options: SequenceRequest,
    drawn: Drawn,
    folder: Path,
    numbers: Sequence[int],
    about: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Records only: both files are written once, at the end."""
    origin = {**{name: about[name] for name in TOLD}, "teacher": teacher}
    if options.fixed:
        origin["fixed"] = options.fixed
    return records(options, rows_of(drawn.x, drawn.batch.mask), numbers, origin, training)


def records(
    asked: SequenceRequest,
    found: Sequence[Tensor],
    numbers: Sequence[int],
    about: Mapping[str, Any],
    training: Training,
) -> list[dict[str, Any]]:
    """A record for each sequence: letters, guards, verdict, origin."""
    columns = guards.describe(found)
    if training:
        columns["nearest_identity"] = guards.nearest_identities(found, training)
    made = []
    for i, (row, number) in enumerate(zip(found, numbers, strict=True)):
        measured = {name: float(values[i]) for name, values in columns.items()}
        made.append(
            {
                "name": f"sequence_{number:06d}",
                "sequence": decode(row.tolist()),
                "reason": ", ".join(failures(asked, measured)),
                "numbers": measured,
                "about": dict(about),
            }
        )
    return made


def failures(asked: SequenceRequest, numbers: Mapping[str, float]) -> list[str]:
    """Why a sequence does not pass; empty if it does."""
    reasons = []
    if asked.max_run and numbers["longest_run"] > asked.max_run:
        reasons.append(f"run of {numbers['longest_run']:.0f}")
    if numbers["entropy"] < asked.min_entropy:
        reasons.append(f"entropy {numbers['entropy']:.2f}")
    return reasons


def save(folder: Path, found: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Both files; each replaces an older one at once. FASTA has those that pass, the table has all."""
    folder.mkdir(parents=True, exist_ok=True)
    place = RunFolder(folder)
    return [place.write("sequences.fasta", as_fasta(found)), place.write("sequences.csv", as_csv(found))]


def as_fasta(found: Sequence[Mapping[str, Any]]) -> str:
    """Name, length and origin in the header; words with spaces are quoted."""
    return "".join(_entry(record) for record in found if not record["reason"])


def _entry(record: Mapping[str, Any]) -> str:
    letters = record["sequence"]
    told = {"length": len(letters), **record["about"]}
    words = " ".join(f"{name}={_word(value)}" for name, value in told.items())
    lines = "\n".join(letters[i : i + WIDTH] for i in range(0, len(letters), WIDTH))
    return f">{record['name']} {words}\n{lines}\n"


def as_csv(found: Sequence[Mapping[str, Any]]) -> str:
    """One line for each sequence: name, verdict, guards, letters, origin."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    numbers, about = (list(found[0][part]) if found else [] for part in ("numbers", "about"))
    lines.writerow(["name", "passed", "reason", *numbers, "sequence", *about])
    for record in found:
        values = [f"{record['numbers'][name]:.6g}" for name in numbers]
        lines.writerow(
            [
                record["name"],
                int(not record["reason"]),
                record["reason"],
                *values,
                record["sequence"],
                *(record["about"][name] for name in about),
            ]
        )
    return text.getvalue()


def _word(value: Any) -> str:
    text = str(value)
    return json.dumps(text) if any(letter.isspace() for letter in text) else text
