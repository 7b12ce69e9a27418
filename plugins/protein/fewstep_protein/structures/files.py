"""Chains as PDB and mmCIF files through Biopython, and back. Files are in angstrom, tensors in nanometers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from Bio.PDB.mmcifio import MMCIFIO
from Bio.PDB.MMCIFParser import MMCIFParser
from Bio.PDB.PDBExceptions import PDBConstructionException
from Bio.PDB.PDBIO import PDBIO
from Bio.PDB.PDBParser import PDBParser
from Bio.PDB.Structure import Structure
from Bio.PDB.StructureBuilder import StructureBuilder
from torch import Tensor

from fewstep.errors import FewstepError
from fewstep.protocol import Batch

ANGSTROM = 10.0
"""Angstrom per nanometer."""
MOST_RESIDUES = 9999
"""A PDB file numbers residues with four digits."""
RESIDUE = "GLY"
"""A CA trace has no side chains, so every residue is written as the one that has none."""


def write_chains(x: Tensor, batch: Batch, folder: Path) -> list[Path]:
    """One PDB and one mmCIF file per chain: backbone_000.pdb, backbone_000.cif, ...

    Args:
        x: (B, N, 3) coordinates in nanometers.
        batch: its mask (B, N, 1) says which residues are real.
        folder: where to write; made if absent.

    Raises:
        FewstepError: coordinates that no file can hold.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for i, chain in enumerate(real_chains(x, batch.mask)):
        structure = to_structure(chain, f"backbone_{i:03d}")
        written += [write_pdb(structure, folder / f"backbone_{i:03d}.pdb")]
        written += [write_mmcif(structure, folder / f"backbone_{i:03d}.cif")]
    return written


def real_chains(x: Tensor, mask: Tensor | None) -> list[Tensor]:
    """Each chain without its padding, (n, 3) on the CPU."""
    flat = x.detach().float().cpu()
    if mask is None:
        return list(flat)
    return [chain[real[:, 0].bool()] for chain, real in zip(flat, mask.cpu(), strict=True)]


def to_structure(chain: Tensor, name: str) -> Structure:
    """A Biopython structure with one model, chain A and one CA per residue.

    Raises:
        FewstepError: not finite, too long, or too far from the origin for the columns of the format.
    """
    places = chain.double().numpy() * ANGSTROM
    if not np.isfinite(places).all() or np.abs(places).max(initial=0.0) > 9999 or len(places) > MOST_RESIDUES:
        raise FewstepError(
            f"{name}: {len(places)} residues, coordinates up to {np.abs(places).max(initial=0.0):.0f} angstrom",
            f"finite coordinates below 9999 angstrom and at most {MOST_RESIDUES} residues",
            "train longer, or ask for shorter chains",
        )
    builder = StructureBuilder()
    builder.init_structure(name)
    builder.init_model(0)
    builder.init_chain("A")
    builder.init_seg("    ")
    for number, place in enumerate(places, 1):
        builder.init_residue(RESIDUE, " ", number, " ")
        builder.init_atom("CA", place, 0.0, 1.0, " ", " CA ", number, "C")
    found: Structure = builder.get_structure()
    return found


def write_pdb(structure: Structure, path: Path) -> Path:
    """A PDB file, with CONECT records so that viewers draw a trace through atoms 3.8 angstrom apart."""
    writer = PDBIO()
    writer.set_structure(structure)
    writer.save(str(path), preserve_atom_numbering=True)
    lines = [line for line in path.read_text().splitlines() if not line.startswith("END")]
    count = sum(1 for _ in structure.get_atoms())
    lines += [f"CONECT{number:5d}{number + 1:5d}" for number in range(1, count)]
    path.write_text("\n".join([*lines, "END", ""]))
    return path


def write_mmcif(structure: Structure, path: Path) -> Path:
    """An mmCIF file."""
    writer = MMCIFIO()
    writer.set_structure(structure)
    writer.save(str(path))
    return path


def read_chain(path: Path) -> Tensor:
    """(N, 3) CA coordinates in nanometers of the first model of a PDB or mmCIF file, in file order.

    Raises:
        FewstepError: no such file, or no CA atom in it.
    """
    if not path.is_file():
        raise FewstepError(f"there is no structure file {path}", "a .pdb or .cif file", "check the path")
    parser = MMCIFParser(QUIET=True) if path.suffix == ".cif" else PDBParser(QUIET=True)
    try:
        model = next(iter(parser.get_structure(path.stem, str(path))), None)
    except (PDBConstructionException, ValueError, KeyError) as error:
        raise FewstepError(
            f"{path} cannot be read: {error}", "a PDB or mmCIF file", "download it again"
        ) from error
    places = [atom.coord for atom in model.get_atoms() if atom.name == "CA"] if model is not None else []
    if not places:
        raise FewstepError(f"{path} holds no CA atom", "a protein structure", "choose another file")
    return torch.from_numpy(np.asarray(places, dtype=np.float64) / ANGSTROM).float()


def chain_points(chains: Sequence[Tensor]) -> list[list[list[float]]]:
    """Coordinates in angstrom rounded to 0.01, for a viewer."""
    return [[[round(v * ANGSTROM, 2) for v in place] for place in chain.tolist()] for chain in chains]
