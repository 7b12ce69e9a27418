"""Backbones that sequences are wanted for: files, folders of files, and what was drawn from a run."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
from torch import Tensor

from fewstep.errors import FewstepError
from fewstep_protein.folding.mpnn import problem
from fewstep_protein.structures.files import read_chain

KINDS = (".npz", ".cif", ".cif.gz", ".pdb", ".pdb.gz", ".ent")
"""Endings of structure files; of one backbone in several, the first kind is read: it is the most exact."""
ENSEMBLE = "ensemble"
"""Name of the file that repeats all designs of a campaign as models."""


@dataclass(frozen=True)
class Backbone:
    """A chain (n, 3) in nanometers, its name, its file, and the sequence that the file names; "" where it names none."""

    name: str
    file: Path
    chain: Tensor
    native: str = ""

    @property
    def digest(self) -> str:
        """Tells coordinates apart."""
        return hashlib.blake2b(self.chain.double().numpy().tobytes(), digest_size=8).hexdigest()


def read_backbones(what: Sequence[str], runs: Path) -> tuple[list[Backbone], list[str]]:
    """Every backbone that can be designed for, and why the others cannot.

    Args:
        what: structure files, folders of them, run folders, or names of recipes for their newest run.
        runs: where runs are kept.

    Raises:
        FewstepError: nothing can be read.
    """
    files = [file for one in what for file in files_of(one, runs)]
    names, found, refused = unique_names(files), [], []
    for name, file in zip(names, files, strict=True):
        try:
            chain = read_chain(file)
        except FewstepError as error:
            refused.append(error.what)
            continue
        why = problem(chain)
        if why:
            refused.append(f"{file}: {why}")
        else:
            found.append(Backbone(name, file, chain, named_sequence(file)))
    if not found:
        raise FewstepError(
            "\n".join(["no backbone can be read", *refused]), "PDB, mmCIF or npz files with CA atoms", ""
        )
    return found, refused


def named_sequence(file: Path) -> str:
    """One letter for each CA atom of a file that ``read_chain`` reads, X for what is none of the 20 amino acids.

    A file that names one kind of residue alone has no sequence: so are traces written that nobody designed one for.
    """
    if file.suffix == ".npz":
        with np.load(file, allow_pickle=False) as stored:
            found = str(stored["sequence"]) if "sequence" in stored else ""
    else:
        residues = (
            atom.residue.name for atom in gemmi.read_structure(str(file))[0].all() if _is_ca(atom.atom)
        )
        letters = (gemmi.find_tabulated_residue(name).one_letter_code.strip().upper() for name in residues)
        found = "".join(letter or "X" for letter in letters)
    return found if len(set(found) - {"X"}) > 1 else ""


def _is_ca(atom: gemmi.Atom) -> bool:
    return atom.name == "CA" and atom.element == gemmi.Element("C")


def files_of(what: str, runs: Path) -> list[Path]:
    """The structure files that a word stands for, each backbone once.

    Raises:
        FewstepError: there are none.
    """
    from fewstep.runs.folder import find_run

    path = Path(what)
    if path.is_file():
        return [path]
    if path.is_dir() and not (path / "run.json").is_file():
        found = in_folder(path)
    else:
        path = find_run(what, runs).path / "samples"
        found = [file for folder in sorted(path.glob("*/")) for file in in_folder(folder)]
    if not found:
        raise FewstepError(
            f"{path} holds no structure file",
            f"files that end in {', '.join(KINDS)}",
            f"fewstep sample {what} --num 100 --out designs",
        )
    return found


def in_folder(folder: Path) -> list[Path]:
    """Structure files of one folder: one for each name."""
    best: dict[str, Path] = {}
    for kind in reversed(KINDS):
        for file in folder.glob(f"*{kind}"):
            best[file.name.removesuffix(kind)] = file
    return [best[name] for name in sorted(best) if name != ENSEMBLE]


def unique_names(files: Iterable[Path]) -> list[str]:
    """Names without endings, with as many folders before them as tell them apart."""
    plain = [file.parent / file.name.split(".")[0] for file in files]
    seen = Counter("/".join(path.parts[-depth:]) for path in plain for depth in range(1, len(path.parts) + 1))
    return [_shortest(path, seen) for path in plain]


def _shortest(path: Path, seen: Mapping[str, int]) -> str:
    """The end of a path that is no other's; all of it if there is none."""
    ends = ("/".join(path.parts[-depth:]) for depth in range(1, len(path.parts) + 1))
    return next((end for end in ends if seen[end] == 1), "/".join(path.parts)).lstrip("/")
