"""``fewstep protein harvest``: a file of real structures from PDB and mmCIF files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fewstep_protein.structures.harvest import Account
    from fewstep_protein.structures.segments import Structure


def harvest(
    places: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders, tar or zip archives, wheels, package:NAME, or structure_db.dat."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="File to write; tables are written beside it.")
    ] = Path("structures.npz"),
    shortest: Annotated[int, typer.Option(help="Residues of the shortest segment.", min=6)] = 24,
    keep: Annotated[
        list[str] | None, typer.Option(help="LOW-HIGH:NUMBER, so many of these lengths; may be repeated.")
    ] = None,
    share: Annotated[
        float,
        typer.Option(help="Share that may be held out; known folds among it are left out.", min=0, max=0.9),
    ] = 0.2,
    named_only: Annotated[
        bool, typer.Option("--named-only", help="Leave out files that state no PDB id.")
    ] = False,
    whole: Annotated[
        bool, typer.Option("--whole", help="Leave out chains with breaks, or without N and C.")
    ] = False,
    cath: Annotated[
        Path | None, typer.Option(help="cath-domain-list.txt, for class, architecture and topology.")
    ] = None,
    all_clusters: Annotated[
        bool, typer.Option("--all-clusters", help="Find clusters of folds in the training side too: slow.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Processes.", min=1, max=256)] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Read structures, cut them at breaks, hold out folds that training does not know, and write one file.

    A killed harvest goes on where it was; a recipe uses the file with -s data.path=FILE.npz.

    Examples: fewstep protein harvest my_pdbs/ --out mine.npz --workers 4 ·
    fewstep protein harvest package:biopython archive.tar.gz --named-only
    """
    from fewstep.runs.progress import shown
    from fewstep_protein.structures.harvest import Asked, Keep
    from fewstep_protein.structures.harvest import harvest as gather
    from fewstep_protein.structures.labels import read_domain_list

    asked = Asked(
        places,
        shortest,
        [Keep.parse(text) for text in keep or ()],
        share,
        named_only,
        whole,
        read_domain_list(cath) if cath else {},
        all_clusters,
        workers,
    )
    with shown(as_json) as (watch, _):
        structures, account = gather(asked, out, watch)
    _print(structures, account, out, as_json)


def summary(structures: Sequence[Structure], account: Account) -> dict[str, Any]:
    """What a harvest gave, as numbers."""
    sides = {
        side: [s for s in structures if s.held_out == held_out]
        for side, held_out in (("training", False), ("held_out", True))
    }
    return {
        "files": account.files,
        "files_read_now": account.fresh,
        "reading_seconds": round(account.seconds, 3),
        "segments_read": account.read,
        "entries": len({s.name.rsplit("_", 2)[0] for s in structures}),
        **{
            side: {
                "segments": len(found),
                "residues": sum(len(s.sequence) for s in found),
                "families": len({s.family for s in found}),
                "clusters": len({s.cluster for s in found}),
                "whole_backbones": sum(s.backbone is not None for s in found),
            }
            for side, found in sides.items()
        },
    }


def _print(structures: Sequence[Structure], account: Account, out: Path, as_json: bool) -> None:
    from fewstep.commands._output import show_json, show_table
    from fewstep_protein.structures.harvest import refusals_of

    facts = summary(structures, account)
    findings = account.table()
    if as_json:
        show_json(
            {**facts, "findings": [dict(zip(("what", "count", "files"), f, strict=True)) for f in findings]}
        )
        return
    show_table(
        "What was met", ("count", "files", ""), [(str(n), str(files), what) for what, n, files in findings]
    )
    sides = ("training", "held_out")
    rows = [(key, *(str(facts[side][key]) for side in sides)) for key in facts["training"]]
    show_table(
        f"{facts['files']} files, {facts['segments_read']} segments read",
        ("kept", "training", "held out"),
        rows,
    )
    if account.fresh:
        typer.echo(
            f"{account.fresh} files read in {account.seconds:.3g} s, {account.fresh / account.seconds:.3g} a second"
        )
    typer.echo(f"{out}  (rows: {out.with_suffix('.csv')}; what was left out: {refusals_of(out)})")
