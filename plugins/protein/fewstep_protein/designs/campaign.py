"""Many designs in one folder: a row for each, files for those that pass, a table that sorts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from fewstep.errors import FewstepError
from fewstep.protocol import Campaign, Drawn
from fewstep_protein.designs.filters import failures, missed
from fewstep_protein.designs.request import BackboneRequest, alike, portion, sequence_scores
from fewstep_protein.designs.table import write_table
from fewstep_protein.folding.rebuild import rebuild
from fewstep_protein.metrics.chains import describe_all
from fewstep_protein.metrics.secondary import secondary_structure
from fewstep_protein.panels.traces import flat_trace, letters
from fewstep_protein.structures.files import read_chain, real_chains, save
from fewstep_protein.structures.formats import MOST, Model, mmcif, pdb

Measure = Callable[[Sequence[Tensor]], Mapping[str, Tensor]]
"""Chains (n, 3) in nanometers -> columns (B,); what a chain lacks is not a number."""

TOLD = ("run", "recipe", "contender", "calls", "seed", "version")
"""What every file says of where it is from, beside teacher, noise scale and number."""


def backbone_campaign(teacher: str, measures: Sequence[Measure] = (describe_all,)) -> Campaign:
    """What ``fewstep sample`` does for a generator of CA chains.

    Args:
        teacher: what the student learned from, as provenance says it.
        measures: each adds columns to the table, which filters read.
    """
    return Campaign(portion, partial(_write, teacher, measures), finish, alike, missed, unit="design")


def _write(
    teacher: str,
    measures: Sequence[Measure],
    options: BackboneRequest,
    drawn: Drawn,
    folder: Path,
    numbers: Sequence[int],
    about: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """A record for each chain; files of those that pass, or of all."""
    chains = real_chains(drawn.x, drawn.batch.mask)
    asked = (*measures, sequence_scores()) if options.scored else measures
    columns = {name: values for measure in asked for name, values in measure(chains).items()}
    origin = {**{name: about[name] for name in TOLD}, "teacher": teacher, "noise_scale": options.noise_scale}
    origin |= {"cath": options.cath} if options.cath else {}
    origin |= {"learned_lengths": f"{span[0]}-{span[-1]}"} if (span := options.learned) else {}
    records = []
    for i, (chain, codes, number) in enumerate(
        zip(chains, secondary_structure(chains), numbers, strict=True)
    ):
        name, structure = f"design_{number:06d}", letters(codes)
        measured = {column: _plain(values[i]) for column, values in columns.items()}
        reasons, whole = failures(options, measured), bool(chain.isfinite().all())
        wanted = options.kinds if options.all_files or not reasons else []
        model = partial(_model, options, chain, name, structure=structure, about={**origin, "index": number})
        records.append(
            {
                "name": name,
                "index": number,
                "passed": not reasons,
                "reason": ", ".join(reasons),
                "files": _saved(model, folder / name, wanted),
                "numbers": measured,
                "about": origin,
                "structure": structure if whole else "",
                "trace": flat_trace(chain) if whole else [],
            }
        )
    return records


def _model(options: BackboneRequest, chain: Tensor, name: str, **about: Any) -> Model:
    """The chain as files will hold it: its CA atoms, or with N, C and O around them."""
    return Model(rebuild(chain) if options.backbone else chain, name, **about)


def _saved(model: Callable[[], Model], stem: Path, kinds: Sequence[str]) -> list[str]:
    """Names of the files of one design; none if no file can hold it."""
    try:
        return [path.name for path in save(model(), stem, kinds)] if kinds else []
    except FewstepError:
        return []


def finish(options: BackboneRequest, folder: Path, records: Sequence[Mapping[str, Any]]) -> list[Path]:
    """designs.csv and designs.html; with ``ensemble`` all designs that pass as models of one file."""
    tables = write_table(folder, records, options.cautions)
    passing = [record for record in records if record["passed"] and record["files"]]
    if not options.ensemble or not passing:
        return tables
    models = [
        _model(options, read_chain(folder / record["files"][0]), "ensemble", about=record["about"])
        for record in islice(passing, MOST)
    ]
    for path, text in ((folder / "ensemble.pdb", pdb(models)), (folder / "ensemble.cif", mmcif(models))):
        draft = path.with_name(f".{path.name}.draft")
        draft.write_text(text, encoding="utf-8")
        tables.append(draft.replace(path))
    return tables


def _plain(value: Tensor) -> float | None:
    """A number that JSON knows."""
    number = float(value)
    return number if math.isfinite(number) else None
