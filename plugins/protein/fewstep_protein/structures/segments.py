"""Unbroken segments of real CA chains: what is shipped, where it is from, and how it is split.

Coordinates are nanometers, centered over real residues.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files

import numpy as np
import torch
from torch import Tensor

STEP = 0.001
"""Nanometers per stored integer."""
HELD_OUT = 5
"""Every fifth family is held out."""


@dataclass(frozen=True)
class Structure:
    """One unbroken segment: where it is from, its family, and CA coordinates (N, 3) in nanometers."""

    name: str
    family: int
    coordinates: Tensor


@lru_cache(maxsize=1)
def structures() -> tuple[Structure, ...]:
    """All committed segments (see ``structures/harvest.py`` and ``structures/provenance.csv``)."""
    folder = files("fewstep_protein") / "structures"
    with as_file(folder / "structures.npz") as path, np.load(path, allow_pickle=False) as stored:
        steps, lengths, family = stored["steps"], stored["length"], stored["family"]
    names = [f"{row['pdb']}_{row['chain']}_{row['first_residue']}" for row in provenance()]
    pieces = torch.from_numpy(steps.astype(np.float32) * STEP).split(lengths.tolist())
    return tuple(Structure(n, int(f), p) for n, f, p in zip(names, family, pieces, strict=True))


def provenance() -> list[dict[str, str]]:
    """One row per segment: PDB id, chain, first residue, length, package and file it was read from, sequence."""
    text = (files("fewstep_protein") / "structures" / "provenance.csv").read_text()
    return list(csv.DictReader(text.splitlines()))


def split(held_out: bool) -> tuple[Structure, ...]:
    """Training or held-out segments; a family of similar sequences is never on both sides."""
    return tuple(s for s in structures() if (s.family % HELD_OUT == 0) == held_out)
