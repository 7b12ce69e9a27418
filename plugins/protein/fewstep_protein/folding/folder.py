"""Structure predictors that the user supplies: a Python function, or a command that reads FASTA and writes structures.

None is shipped and none is known by name: ESMFold, Boltz, ColabFold and OpenFold all fit one of the two.
"""

from __future__ import annotations

import hashlib
import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import gemmi
import torch
from torch import Tensor

from fewstep.errors import FewstepError
from fewstep.plugins.specs import resolve
from fewstep.runs.folder import writing
from fewstep_protein.structures import geometry
from fewstep_protein.structures.files import ANGSTROM

BONDS = (0.3, 0.5)
"""Nanometers within which the mean CA-CA distance of a prediction lies; outside, its unit is another."""
SUFFIXES = (".pdb", ".cif")
NAME = 17
"""Letters of the name of an entry."""
TOLD_LINES = 12
"""Last lines of a failed command's output that are shown."""


@dataclass(frozen=True)
class Folded:
    """A predicted structure.

    Args:
        coordinates: (n, 3) of CA, nanometers.
        plddt: (n,) confidence from 0 to 100; None if the predictor tells none.
    """

    coordinates: Tensor
    plddt: Tensor | None = None

    @property
    def confidence(self) -> float:
        """Mean pLDDT; not a number if there is none."""
        return float("nan") if self.plddt is None else float(self.plddt.double().mean())


class Folder(Protocol):
    """Sequences -> predicted structures, in their order."""

    def __call__(self, sequences: Sequence[str]) -> Sequence[Folded]:
        """Fold all of them."""
        ...


@dataclass(frozen=True)
class FunctionFolder:
    """A function that folds one sequence at a time.

    Args:
        fold: sequence -> (CA coordinates (n, 3) in nanometers, pLDDT per residue from 0 to 100 or None).
        name: as errors call it.
    """

    fold: Callable[[str], tuple[Any, Any]]
    name: str = "the folder"

    def __call__(self, sequences: Sequence[str]) -> list[Folded]:
        """Fold all of them.

        Raises:
            FewstepError: it gave something else than was agreed.
        """
        return [self._one(sequence) for sequence in sequences]

    def _one(self, sequence: str) -> Folded:
        answer = self.fold(sequence)
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            raise FewstepError(
                f"{self.name} gave a {type(answer).__name__}",
                "a pair: CA coordinates (n, 3) in nanometers, and pLDDT (n,) from 0 to 100 or None",
                "return both",
            )
        places, plddt = answer
        confidence = None if plddt is None else torch.as_tensor(plddt, dtype=torch.float64).cpu().flatten()
        return checked(
            Folded(torch.as_tensor(places, dtype=torch.float64).cpu(), confidence), sequence, self.name
        )


@dataclass(frozen=True)
class CommandFolder:
    """A command that reads a FASTA file and writes a PDB or mmCIF file for each of its entries.

    What it wrote is kept and never asked for twice, so a campaign that was cut short goes on.

    Args:
        command: with ``{fasta}`` and ``{out}`` where the file and the folder go; run without a shell.
        place: where sequences, structures and output are kept.
    """

    command: str
    place: Path

    def __post_init__(self) -> None:
        """Refuse a command that is told neither file nor folder."""
        lacking = [name for name in ("{fasta}", "{out}") if name not in self.command]
        if lacking:
            raise FewstepError(
                f"the folder's command has no {' and no '.join(lacking)}: {self.command}",
                "a command with {fasta} and {out} in it",
                '--folder-command "python esmfold.py {fasta} {out}"',
            )

    def __call__(self, sequences: Sequence[str]) -> list[Folded]:
        """Fold those that were not folded before, in one call of the command, and read all.

        Raises:
            FewstepError: the command failed, or wrote no usable structure for a sequence.
        """
        self.fold_missing(sequences)
        there = self._written()
        missing = [name for sequence in sequences if (name := entry(sequence)) not in there]
        if missing:
            raise FewstepError(
                f"the folder's command wrote nothing for {', '.join(missing[:5])}"
                + (f" and {len(missing) - 5} more" if len(missing) > 5 else ""),
                f"NAME.pdb, NAME_*.pdb or the same with .cif in {self.place}, for every NAME in its FASTA file",
                f"see {self.place / 'output.txt'}",
            )
        files = [(sequence, there[entry(sequence)]) for sequence in sequences]
        return [checked(read_prediction(file), sequence, str(file)) for sequence, file in files]

    def fold_missing(self, sequences: Sequence[str]) -> None:
        """Run the command for what has no structure yet.

        Raises:
            FewstepError: it failed.
        """
        there = self._written()
        lacking = [sequence for sequence in dict.fromkeys(sequences) if entry(sequence) not in there]
        if lacking:
            self._run(lacking)

    def _run(self, sequences: Sequence[str]) -> None:
        fasta, output = self.place / "sequences.fasta", self.place / "output.txt"
        with writing(self.place):
            self.place.mkdir(parents=True, exist_ok=True)
            fasta.write_text("".join(f">{entry(one)}\n{one}\n" for one in sequences), encoding="utf-8")
        words = [
            word.replace("{fasta}", str(fasta)).replace("{out}", str(self.place))
            for word in shlex.split(self.command)
        ]
        try:
            with output.open("w", encoding="utf-8") as file:
                code = subprocess.run(words, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
        except OSError as error:
            raise FewstepError(
                f"the folder's command does not start: {error}", "a program that is there", "check its path"
            ) from error
        if code:
            last = output.read_text(encoding="utf-8", errors="replace").splitlines()[-TOLD_LINES:]
            raise FewstepError(
                "\n".join([f"the folder's command ended with code {code}", *last]),
                "code 0",
                f"see {output}; what it folded is kept, and the same command goes on",
            )

    def _written(self) -> dict[str, Path]:
        """The structure of each entry; of several the first by name, which is the best by the customs of predictors."""
        found = [
            file
            for file in self.place.rglob("s*")
            if file.suffix in SUFFIXES and file.stem[NAME:][:1] in ("", "_")
        ]
        ranked = sorted(found, key=lambda file: (len(file.parts), file.name), reverse=True)
        return {file.stem[:NAME]: file for file in ranked}


def entry(sequence: str) -> str:
    """The name of a sequence in FASTA files: the same wherever it is folded, and no beginning of another's."""
    return "s" + hashlib.blake2b(sequence.encode(), digest_size=8).hexdigest()


def folder_from(target: str, command: str, place: Path) -> Folder | None:
    """The folder that a user named, or None.

    Args:
        target: ``module:callable`` of a function for one sequence.
        command: with ``{fasta}`` and ``{out}``.
        place: where a command keeps what it folds.

    Raises:
        FewstepError: both are named, or the function cannot be imported.
    """
    if target and command:
        raise FewstepError("two folders were named", "--folder or --folder-command", "leave one out")
    if command:
        return CommandFolder(command, place)
    if not target:
        return None
    try:
        fold = resolve(target)
    except Exception as error:  # the user's module may raise what it likes
        raise FewstepError(
            f"the folder {target!r} cannot be imported: {error}",
            "module:callable, importable from here",
            "set PYTHONPATH, or install the package that holds it",
        ) from error
    if not callable(fold):
        raise FewstepError(f"the folder {target!r} is no function", "module:callable", "name a function")
    return FunctionFolder(fold, target)


def read_prediction(file: Path) -> Folded:
    """CA atoms and B-factors of the first chain of a PDB or mmCIF file.

    Predictors write pLDDT as B-factor, from 0 to 100 or, some, from 0 to 1.

    Raises:
        FewstepError: it cannot be read.
    """
    try:
        chain = gemmi.read_structure(str(file))[0][0]
    except (RuntimeError, ValueError, IndexError) as error:
        raise FewstepError(
            f"{file} cannot be read: {error}", "a predicted structure", "fold again"
        ) from error
    atoms = [atom for residue in chain for atom in residue if atom.name == "CA"]
    places = torch.tensor([atom.pos.tolist() for atom in atoms], dtype=torch.float64).reshape(-1, 3)
    plddt = torch.tensor([atom.b_iso for atom in atoms], dtype=torch.float64)
    scale = 100.0 if len(plddt) and float(plddt.max()) <= 1.0 else 1.0
    return Folded(places / ANGSTROM, plddt * scale)


def checked(folded: Folded, sequence: str, name: str) -> Folded:
    """The same, if it is what was agreed.

    Raises:
        FewstepError: telling what it is instead.
    """
    places, plddt = folded.coordinates, folded.plddt
    wrong = ""
    if tuple(places.shape) != (len(sequence), 3):
        wrong = f"coordinates of shape {tuple(places.shape)} for {len(sequence)} residues"
    elif not bool(places.isfinite().all()):
        wrong = "coordinates that are not finite"
    elif not BONDS[0] < (bond := float(geometry.bonds(places).mean())) < BONDS[1]:
        wrong = f"CA atoms {bond:.2f} apart in the mean; nanometers are expected, so 0.38"
    elif plddt is not None and (len(plddt) != len(sequence) or not bool(plddt.isfinite().all())):
        wrong = f"{len(plddt)} values of pLDDT for {len(sequence)} residues"
    if wrong:
        raise FewstepError(
            f"{name} gave {wrong}", "a CA atom in nanometers for every residue", "mend the folder"
        )
    return folded
