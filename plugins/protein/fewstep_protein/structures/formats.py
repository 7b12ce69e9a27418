"""Chains as the text of PDB and mmCIF files: wwPDB format 3.3, PDBx/mmCIF dictionary 5. Angstrom.

Lines are formatted here, a whole chain at a time: a campaign writes thousands of files, and a library that makes an
object of every atom takes ten times as long.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Any

import gemmi
from torch import Tensor

from fewstep.errors import FewstepError

ANGSTROM = 10.0
"""Angstrom per nanometer."""
MOST = 9999
"""A PDB file numbers residues with four digits."""
FARTHEST = 999.0
"""Angstrom; its coordinates have room for a sign, three digits, and three decimals."""
ATOMS = {1: ("CA",), 3: ("N", "CA", "C"), 4: ("N", "CA", "C", "O")}
"""Atoms of a residue, by how many are given."""
SHORTEST_STRETCH = 3
"""Residues of a helix or strand that is worth a record."""
RESIDUE = "GLY"
"""A chain without a sequence has no side chains, so every residue is written as the one that has none."""


@dataclass(frozen=True)
class Model:
    """A chain as files hold it.

    Args:
        places: (n, 3) of CA, or (n, A, 3) of N, CA, C and, with A = 4, O; nanometers.
        name: of the entry.
        sequence: one-letter codes; "" if nobody designed one.
        confidence: (n,) what the B-factor column says; 0 where it is left out.
        structure: H, E or C for each residue: helices and strands, which viewers cannot find without N, C and O.
        about: provenance, written as remarks and into a category of our own.

    Raises:
        FewstepError: coordinates that no column holds, or parts that do not fit together.
    """

    places: Tensor
    name: str
    sequence: str = ""
    confidence: Tensor | None = None
    structure: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no file can hold."""
        count, far = len(self.places), _farthest(self.places)
        if not (1 <= count <= MOST and far < FARTHEST):
            raise FewstepError(
                f"{self.name}: {count} residues, coordinates up to {far:.0f} angstrom",
                f"1 to {MOST} residues, finite coordinates below {FARTHEST:g} angstrom",
                "train longer, or ask for shorter chains",
            )
        if self.places.ndim == 3 and self.places.shape[1] not in ATOMS:
            raise FewstepError(
                f"{self.name}: {self.places.shape[1]} atoms per residue", "1, or 3 or 4 for N, CA, C and O"
            )
        unknown = sorted({letter for letter in self.sequence if _residue(letter) is None})
        if unknown or len(self.sequence) not in (0, count):
            raise FewstepError(
                f"{self.name}: a sequence of {len(self.sequence)} letters, unknown: {''.join(unknown) or 'none'}",
                f"{count} amino acids as one-letter codes",
            )

    @property
    def atoms(self) -> tuple[str, ...]:
        """Names of a residue's atoms."""
        return ATOMS[1 if self.places.ndim == 2 else self.places.shape[1]]

    @property
    def residues(self) -> list[str]:
        """(n) three-letter names."""
        return [str(_residue(letter)) for letter in self.sequence] or [RESIDUE] * len(self.places)

    def stretches(self, letter: str) -> list[tuple[int, int]]:
        """(first, last) residue number of every helix ("H") or strand ("E")."""
        found, start = [], 1
        for kind, group in itertools.groupby(self.structure):
            stop = start + len(list(group))
            if kind == letter and stop - start >= SHORTEST_STRETCH:
                found.append((start, stop - 1))
            start = stop
        return found

    def rows(self) -> list[tuple[int, str, str, int, float, float, float, float]]:
        """(serial, atom, residue, its number, x, y, z in angstrom, B-factor) of every atom."""
        count, per = len(self.places), len(self.atoms)
        places = (self.places.detach().double().reshape(count * per, 3) * ANGSTROM).tolist()
        factor = [0.0] * count if self.confidence is None else self.confidence.tolist()
        names = self.residues
        return [
            (i + 1, self.atoms[i % per], names[i // per], i // per + 1, x, y, z, factor[i // per])
            for i, (x, y, z) in enumerate(places)
        ]


def pdb(models: Sequence[Model]) -> str:
    """The text of a PDB file with one chain A; several models stand between MODEL and ENDMDL.

    CA atoms that follow one another are joined by CONECT records, without which viewers draw no trace through atoms
    3.8 angstrom apart. Provenance stands in REMARK 6, free text by the format's own rules.
    """
    first, several = models[0], len(models) > 1
    lines = [f"TITLE     {first.name[:70]}"]
    lines += [f"REMARK   6 {line}" for line in _about_lines(first.about)]
    lines += [] if several else [*_pdb_helices(first), *_pdb_strands(first)]
    for number, model in enumerate(models, 1):
        body = _pdb_atoms(model)
        lines += [f"MODEL     {number:4d}", body, "ENDMDL"] if several else [body]
    longest = max(models, key=lambda model: len(model.places))
    if longest.atoms == ATOMS[1]:
        lines += [f"CONECT{i:5d}{i + 1:5d}" for i in range(1, len(longest.places))]
    return "\n".join([*lines, "END", ""])


def _pdb_helices(model: Model) -> Iterator[str]:
    names = model.residues
    for number, (first, last) in enumerate(model.stretches("H"), 1):
        ends = f"{names[first - 1]} A {first:4d}  {names[last - 1]} A {last:4d}"
        yield f"HELIX  {number:3d} {number:3d} {ends}  1{'':30s} {last - first + 1:5d}"


def _pdb_strands(model: Model) -> Iterator[str]:
    """Each strand as a sheet of its own: which strands lie side by side is not claimed."""
    names = model.residues
    for number, (first, last) in enumerate(model.stretches("E"), 1):
        ends = f"{names[first - 1]} A{first:4d}  {names[last - 1]} A{last:4d}"
        yield f"SHEET    1 {number:3d} 1 {ends}  0"


def _pdb_atoms(model: Model) -> str:
    rows = model.rows()
    line = "ATOM  %5d  %-3s %s A%4d    %8.3f%8.3f%8.3f  1.00%6.2f           %s"
    text = [line % (*row, row[1][0]) for row in rows]
    _, _, residue, number, *_ = rows[-1]
    return "\n".join([*text, f"TER   {len(rows) + 1:5d}      {residue} A{number:4d}"])


def mmcif(models: Sequence[Model]) -> str:
    """The text of an mmCIF file: one polymer in chain A, with the same atoms, models and provenance as the PDB file.

    Provenance stands in the category ``_fewstep``. The bonds of a CA trace are left out: readers that follow the
    polymer need none, and there is no word for a line between atoms that are not bonded.
    """
    first = models[0]
    longest = max(models, key=lambda model: len(model.places))
    letters = longest.sequence or "G" * len(longest.places)
    items = [(f"_fewstep.{_item(name)}", _quoted(value)) for name, value in first.about.items()]
    sequence = "\n".join(wrap(letters, 80))
    return "\n".join(
        [
            f"data_{_item(first.name)}\n#",
            f"_entry.id {_item(first.name)}",
            f"_struct.title {_quoted(first.name)}",
            *(f"{name} {value}" for name, value in items),
            "#\n_entity.id 1\n_entity.type polymer\n_entity.src_method syn\n_entity.pdbx_description 'protein backbone'",
            "#\n_entity_poly.entity_id 1\n_entity_poly.type polypeptide(L)\n_entity_poly.pdbx_strand_id A",
            f"_entity_poly.pdbx_seq_one_letter_code_can\n;{sequence}\n;",
            "#\nloop_\n_entity_poly_seq.entity_id\n_entity_poly_seq.num\n_entity_poly_seq.mon_id",
            *(f"1 {number} {name}" for number, name in enumerate(longest.residues, 1)),
            "#\n_struct_asym.id A\n_struct_asym.entity_id 1",
            *([] if len(models) > 1 else [*_cif_helices(first), *_cif_strands(first)]),
            *_loop("_atom_site", _COLUMNS),
            *(
                _cif_atoms(model, number, before)
                for number, (model, before) in enumerate(_counted(models), 1)
            ),
            "#\n",
        ]
    )


_COLUMNS = (
    *("group_PDB", "id", "type_symbol", "label_atom_id", "label_alt_id", "label_comp_id", "label_asym_id"),
    *("label_entity_id", "label_seq_id", "pdbx_PDB_ins_code", "Cartn_x", "Cartn_y", "Cartn_z", "occupancy"),
    *("B_iso_or_equiv", "auth_seq_id", "auth_comp_id", "auth_asym_id", "auth_atom_id", "pdbx_PDB_model_num"),
)


def _loop(category: str, columns: Sequence[str]) -> list[str]:
    return ["#\nloop_", *(f"{category}.{column}" for column in columns)]


_ENDS = [
    f"{end}_{of}_{part}"
    for of in ("label", "auth")
    for end in ("beg", "end")
    for part in ("comp_id", "asym_id", "seq_id")
]


def _cif_ends(model: Model, first: int, last: int) -> str:
    ends = f"{model.residues[first - 1]} A {first} {model.residues[last - 1]} A {last}"
    return f"{ends} {ends}"


def _cif_helices(model: Model) -> Iterator[str]:
    found = model.stretches("H")
    if found:
        yield "#\n_struct_conf_type.id HELX_P"
        yield from _loop("_struct_conf", ["conf_type_id", "id", "pdbx_PDB_helix_class", *_ENDS])
    for number, (first, last) in enumerate(found, 1):
        yield f"HELX_P H{number} 1 {_cif_ends(model, first, last)}"


def _cif_strands(model: Model) -> Iterator[str]:
    found = model.stretches("E")
    if found:
        yield from _loop("_struct_sheet_range", ["sheet_id", "id", *_ENDS])
    for number, (first, last) in enumerate(found, 1):
        yield f"E{number} 1 {_cif_ends(model, first, last)}"


def _cif_atoms(model: Model, number: int, before: int) -> str:
    line = f"ATOM %d %s %s . %s A 1 %d ? %.3f %.3f %.3f 1.00 %.2f %d %s A %s {number}"
    return "\n".join(
        line % (before + serial, atom[0], atom, residue, place, x, y, z, factor, place, residue, atom)
        for serial, atom, residue, place, x, y, z, factor in model.rows()
    )


def _counted(models: Sequence[Model]) -> list[tuple[Model, int]]:
    """Each model with the number of atoms before it: in mmCIF a serial number is unique in the file."""
    sizes = [len(model.places) * len(model.atoms) for model in models[:-1]]
    return list(zip(models, itertools.accumulate(sizes, initial=0), strict=True))


def _farthest(places: Tensor) -> float:
    """Largest coordinate in angstrom; infinite where one is not a number."""
    return float(places.detach().abs().nan_to_num(float("inf")).max()) * ANGSTROM if places.numel() else 0.0


def _residue(letter: str) -> str | None:
    return gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA) or None


def _about_lines(about: Mapping[str, Any]) -> list[str]:
    """Provenance in the 69 columns that a remark has."""
    lines = [wrap(f"{name}: {value}", 69, subsequent_indent="  ") for name, value in about.items()]
    return [line for found in lines for line in found]


def _item(name: str) -> str:
    """A name that mmCIF takes without quotes."""
    return "".join(letter if letter.isalnum() or letter in "_-." else "_" for letter in name)


def _quoted(value: Any) -> str:
    text: str = gemmi.cif.quote(str(value))
    return text if not text.startswith(";") else f"\n{text}"
