"""Chains as PDB, mmCIF and npz files, and back. PDB and mmCIF are in angstrom, tensors and npz files in nanometers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import gemmi
import numpy as np
import torch
from torch import Tensor

from fewstep.errors import FewstepError
from fewstep.protocol import Batch
from fewstep_protein.structures.formats import ANGSTROM, Model, mmcif, pdb

KINDS = ("pdb", "cif", "npz")
"""Suffixes of the files that hold a chain."""


def save(model: Model, stem: Path, kinds: Sequence[str] = KINDS) -> list[Path]:
    """``stem.pdb``, ``stem.cif`` and ``stem.npz``, or some of them."""
    made = []
    for kind in kinds:
        path = stem.with_name(f"{stem.name}.{kind}")
        if kind == "npz":
            _save_arrays(model, path)
        else:
            path.write_text(pdb([model]) if kind == "pdb" else mmcif([model]), encoding="utf-8")
        made.append(path)
    return made


def _save_arrays(model: Model, path: Path) -> None:
    """Coordinates in nanometers, atom names, sequence and provenance as JSON; opens without pickle."""
    confidence = {} if model.confidence is None else {"confidence": model.confidence.float().numpy()}
    np.savez(
        path,
        coordinates=model.places.detach().float().numpy(),
        atoms=np.array(model.atoms),
        sequence=np.array(model.sequence),
        about=np.array(json.dumps({"name": model.name, "unit": "nm", **model.about})),
        **confidence,
    )


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
    models = [Model(chain, f"backbone_{i:03d}") for i, chain in enumerate(real_chains(x, batch.mask))]
    return [path for model in models for path in save(model, folder / model.name, ("pdb", "cif"))]


def real_chains(x: Tensor, mask: Tensor | None) -> list[Tensor]:
    """Each chain without its padding, (n, 3) on the CPU."""
    flat = x.detach().float().cpu()
    if mask is None:
        return list(flat)
    return [chain[real[:, 0].bool()] for chain, real in zip(flat, mask.cpu(), strict=True)]


def read_chain(path: Path) -> Tensor:
    """(N, 3) CA coordinates in nanometers of the first model of a PDB, mmCIF or npz file, in file order.

    Raises:
        FewstepError: no such file, or no CA atom in it.
    """
    if not path.is_file():
        raise FewstepError(
            f"there is no structure file {path}", "a .pdb, .cif or .npz file", "check the path"
        )
    if path.suffix == ".npz":
        return _stored_chain(path)
    try:
        models = list(gemmi.read_structure(str(path)))
    # A table of atoms without coordinates is out of range.
    except (RuntimeError, ValueError, IndexError) as error:
        raise FewstepError(
            f"{path} cannot be read: {error}", "a PDB or mmCIF file", "download it again"
        ) from error
    places = [
        atom.pos.tolist()
        for chain in models[:1] and models[0]
        for residue in chain
        for atom in residue
        if atom.name == "CA" and atom.element == gemmi.Element("C")
    ]
    if not places:
        raise FewstepError(f"{path} holds no CA atom", "a protein structure", "choose another file")
    return torch.from_numpy(np.asarray(places, dtype=np.float64) / ANGSTROM).float()


def _stored_chain(path: Path) -> Tensor:
    """The chain of an npz file of designs.

    Raises:
        FewstepError: it is another file.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            found, atoms = torch.from_numpy(stored["coordinates"]), stored["atoms"].tolist()
            return found if found.ndim == 2 else found[:, atoms.index("CA")]
    except (ValueError, OSError, KeyError, EOFError, AttributeError, TypeError, BadZipFile) as error:
        raise FewstepError(
            f"{path} cannot be read: {error}", "a design as fewstep sample writes it", "choose another file"
        ) from error


def chain_points(chains: Sequence[Tensor]) -> list[list[list[float]]]:
    """Coordinates in angstrom rounded to 0.01, for a viewer."""
    return [[[round(v * ANGSTROM, 2) for v in place] for place in chain.tolist()] for chain in chains]
