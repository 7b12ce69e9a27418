"""Unbroken segments of real chains: what is shipped or harvested, where it is from, and how it is split.

Coordinates are nanometers, centered over the CA atoms of a segment.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewstep.config import Settings, setting
from fewstep.errors import FewstepError
from fewstep_protein.structures.labels import Vocabulary

STEP = 0.001
"""Nanometers per stored integer."""
BOND_RANGE = (0.3, 0.5)
"""Mean CA-CA distance in nanometers of anything that is a chain in nanometers."""
SHIPPED = "structures.npz"
"""The file beside this module; ``provenance.csv`` is its table."""


class DataConfig(Settings):
    """Which real structures a recipe learns from and is measured against."""

    path: str | None = setting(
        None, "structures that `fewstep protein harvest` wrote; none: those that are shipped"
    )


@dataclass(frozen=True)
class Structure:
    """One unbroken segment.

    Args:
        name: entry, chain and first residue.
        family: of similar sequences; a family is never on both sides of the split.
        coordinates: (N, 3) CA in nanometers.
        backbone: (N, 3, 3) N, CA and C in nanometers, about the same center; None if an atom is missing.
        sequence: one letter per residue.
        cluster: of similar folds; a cluster is never on both sides of the split.
        held_out: which side it is on.
        cath: class, or class, architecture and topology: "3", "1.10.8"; empty if unknown.
        labels: indices of the three levels in the file's vocabulary; 0 = unknown.
    """

    name: str
    family: int
    coordinates: Tensor
    backbone: Tensor | None = None
    sequence: str = ""
    cluster: int = 0
    held_out: bool = False
    cath: str = ""
    labels: tuple[int, int, int] = (0, 0, 0)


def structures(path: str | None = None) -> tuple[Structure, ...]:
    """All segments of a harvested file, or those that are shipped."""
    return load(path)


def split(held_out: bool, path: str | None = None) -> tuple[Structure, ...]:
    """Training or held-out segments; no cluster and no family of similar sequences is on both sides.

    Raises:
        FewstepError: the file has none on that side.
    """
    found = tuple(s for s in structures(path) if s.held_out == held_out)
    if not found:
        raise FewstepError(
            f"{path} has no {'held-out' if held_out else 'training'} segment",
            "segments on both sides",
            "harvest more structures: a few chains have too few different folds to hold some out",
        )
    return found


def vocabulary(path: str | None = None) -> Vocabulary:
    """What the labels of a file mean."""
    return Vocabulary.of(s.cath for s in structures(path))


def provenance() -> list[dict[str, str]]:
    """One row per shipped segment: entry, chain, first residue, length, where it was read from, sequence."""
    text = (files("fewstep_protein") / "structures" / "provenance.csv").read_text()
    return list(csv.DictReader(text.splitlines()))


@lru_cache(maxsize=4)
def load(path: str | None = None) -> tuple[Structure, ...]:
    """Segments of a file that ``fewstep protein harvest`` wrote; without a path, of the shipped one.

    Raises:
        FewstepError: no such file, not such a file, or coordinates in another unit.
    """
    if path is None:
        with as_file(files("fewstep_protein") / "structures" / SHIPPED) as shipped:
            return _unpacked(_arrays(shipped), SHIPPED)
    return _unpacked(_arrays(Path(path)), path)


def save(path: Path, found: Sequence[Structure]) -> None:
    """Write segments: int16 steps of 0.01 angstrom, each CA relative to the one before it, N and C relative to their CA.

    The file appears whole or not at all.
    """
    steps = [np.round(s.coordinates.double().numpy() / STEP).astype(np.int64) for s in found]
    arms = [
        np.round((s.backbone[:, ::2] - s.backbone[:, 1:2]).double().numpy() / STEP)
        for s in found
        if s.backbone is not None
    ]
    arrays = {
        "trace": np.concatenate([np.diff(s, axis=0, prepend=s[:1]) for s in steps]).astype(np.int16),
        "arms": np.concatenate([np.zeros((0, 2, 3)), *arms]).astype(np.int16),
        "has_backbone": np.array([s.backbone is not None for s in found]),
        "length": np.array([len(s) for s in steps], dtype=np.int32),
        "letters": np.frombuffer("".join(s.sequence for s in found).encode("ascii"), np.uint8),
        "name": np.array([s.name for s in found]),
        "family": np.array([s.family for s in found], dtype=np.int32),
        "cluster": np.array([s.cluster for s in found], dtype=np.int32),
        "held_out": np.array([s.held_out for s in found]),
        "cath": np.array([s.cath for s in found]),
    }
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as handle:
        np.savez_compressed(handle, **arrays)
    partial.replace(path)


def check_unit(traces: Sequence[Tensor], where: str) -> None:
    """Refuse chains in another unit: ten times too large or small, a chain still looks like one.

    Raises:
        FewstepError: the mean CA-CA distance is not that of nanometers.
    """
    gaps = [(chain[1:] - chain[:-1]).norm(dim=-1) for chain in traces]
    mean = float(torch.cat(gaps).mean()) if gaps and sum(map(len, gaps)) else float("nan")
    if BOND_RANGE[0] < mean < BOND_RANGE[1]:
        return
    slips = {"angstrom": 10.0, "nanometers divided by ten": 0.1}
    near = [unit for unit, size in slips.items() if BOND_RANGE[0] < mean / size < BOND_RANGE[1]]
    raise FewstepError(
        f"{where}: neighboring CA atoms are {mean:.3g} nm apart on average",
        f"{BOND_RANGE[0]} to {BOND_RANGE[1]} nm, as in every protein",
        f"these look like {near[0]}; convert them"
        if near
        else "check that these are CA atoms in chain order",
    )


def _arrays(path: Path) -> dict[str, Any]:
    """What a file holds.

    Raises:
        FewstepError: it cannot be read.
    """
    if not path.is_file():
        raise FewstepError(
            f"there is no structure file {path}", "a file of fewstep protein harvest", "check the path"
        )
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (ValueError, OSError, KeyError, EOFError) as error:
        raise FewstepError(
            f"{path} cannot be read: {error}", "a file of fewstep protein harvest", "harvest again"
        ) from error


KEYS = {
    "trace": 2, "arms": 3, "has_backbone": 1, "length": 1, "letters": 1,
    "name": 1, "family": 1, "cluster": 1, "held_out": 1, "cath": 1,
}  # fmt: skip
"""Arrays of a file and their dimensions."""


def check_shapes(stored: dict[str, Any], where: str) -> None:
    """All arrays must be there and fit together.

    Raises:
        FewstepError: they do not; tells everything at once.
    """
    wrong = [f"no {key}" for key in KEYS if key not in stored]
    wrong += [
        f"{key} of shape {stored[key].shape}"
        for key, n in KEYS.items()
        if key in stored and stored[key].ndim != n
    ]
    if not wrong:
        count, residues = len(stored["length"]), int(stored["length"].sum())
        whole = (
            int(stored["length"][stored["has_backbone"]].sum())
            if len(stored["has_backbone"]) == count
            else -1
        )
        sizes = dict.fromkeys(("name", "family", "cluster", "held_out", "cath", "has_backbone"), count)
        sizes |= {"trace": residues, "letters": residues, "arms": whole}
        wrong += [f"{len(stored[k])} rows of {k}, not {n}" for k, n in sizes.items() if len(stored[k]) != n]
    if wrong:
        raise FewstepError(
            f"{where} is no file of structures: {', '.join(wrong)}",
            f"arrays {', '.join(KEYS)}",
            "harvest again with fewstep protein harvest",
        )


def _unpacked(stored: dict[str, Any], where: str) -> tuple[Structure, ...]:
    check_shapes(stored, where)
    ends = [0, *np.cumsum(stored["length"]).tolist()]
    arms = iter(np.split(stored["arms"], np.cumsum(stored["length"][stored["has_backbone"]])))
    known = Vocabulary.of(map(str, stored["cath"]))
    letters = stored["letters"].tobytes().decode("ascii")
    found = []
    for i, (start, end) in enumerate(pairwise(ends)):
        trace = np.cumsum(stored["trace"][start:end].astype(np.int64), axis=0) * STEP
        trace -= trace.mean(0)
        backbone = None
        if stored["has_backbone"][i]:
            amine, carbonyl = (next(arms) * STEP + trace[:, None]).transpose(1, 0, 2)
            backbone = torch.from_numpy(np.stack([amine, trace, carbonyl], 1)).float()
        cath = str(stored["cath"][i])
        found.append(
            Structure(
                str(stored["name"][i]),
                int(stored["family"][i]),
                torch.from_numpy(trace).float(),
                backbone,
                letters[start:end],
                int(stored["cluster"][i]),
                bool(stored["held_out"][i]),
                cath,
                known.indices(cath),
            )
        )
    check_unit([s.coordinates for s in found], where)
    return tuple(found)
