"""PDB, mmCIF and npz files hold what was written, whoever reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import biotite.structure.io.pdb as biotite_pdb
import biotite.structure.io.pdbx as biotite_pdbx
import gemmi
import numpy as np
import pytest
import torch
from Bio.PDB.MMCIFParser import MMCIFParser
from Bio.PDB.PDBParser import PDBParser

from fewstep.errors import FewstepError
from fewstep_protein.structures import files, segments, sources
from fewstep_protein.structures.formats import Model, mmcif, pdb


def written(folder: Path) -> tuple[list[Path], list[torch.Tensor]]:
    chains = [s.coordinates[:n] for s, n in zip(segments.structures()[:2], (20, 13), strict=True)]
    batch = sources.pad(chains, 20)
    return files.write_chains(batch.x, batch, folder), files.real_chains(batch.x, batch.mask)


class Read(NamedTuple):
    """What a library finds in a file: models of (chain, residue number, residue, atom, x, y, z, B-factor)."""

    models: list[list[tuple[str, int, str, str, float, float, float, float]]]


def by_biopython(path: Path) -> Read:
    parser = MMCIFParser(QUIET=True) if path.suffix == ".cif" else PDBParser(QUIET=True)
    return Read(
        [
            [
                (
                    a.get_parent().get_parent().id,
                    a.get_parent().id[1],
                    a.get_parent().resname,
                    a.name,
                    *map(float, a.coord),
                    a.bfactor,
                )
                for a in model.get_atoms()
            ]
            for model in parser.get_structure("x", str(path))
        ]
    )


def by_gemmi(path: Path) -> Read:
    return Read(
        [
            [
                (chain.name, residue.seqid.num, residue.name, a.name, *a.pos.tolist(), a.b_iso)
                for chain in model
                for residue in chain
                for a in residue
            ]
            for model in gemmi.read_structure(str(path))
        ]
    )


def by_biotite(path: Path) -> Read:
    if path.suffix == ".pdb":
        found = biotite_pdb.PDBFile.read(path).get_structure(extra_fields=["b_factor"])
    else:
        found = biotite_pdbx.get_structure(biotite_pdbx.CIFFile.read(path), extra_fields=["b_factor"])
    return Read(
        [
            [
                (a.chain_id, int(a.res_id), a.res_name, a.atom_name, *map(float, a.coord), float(a.b_factor))
                for a in model
            ]
            for model in found
        ]
    )


READERS = [by_biopython, by_gemmi, by_biotite]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["pdb", "cif"])
@pytest.mark.parametrize("atoms", [1, 3, 4])
def test_other_libraries_read_what_was_written(
    reader: Callable[[Path], Read], kind: str, atoms: int, tmp_path: Path
) -> None:
    chain = segments.structures()[0].coordinates[:24]
    places = chain if atoms == 1 else chain[:, None] + 0.1 * torch.randn(24, atoms, 3)
    model = Model(places, "x", "ACDEFGHIKLMNPQRSTVWYACDE", torch.arange(24) / 2, "C" * 24, {"run": "a'b \"c"})
    (path,) = files.save(model, tmp_path / "x", [kind])
    (found,) = reader(path).models
    assert {row[0] for row in found} == {"A"}
    assert [row[1] for row in found] == [i + 1 for i in range(24) for _ in range(atoms)]
    assert [row[2] for row in found[::atoms]][:4] == ["ALA", "CYS", "ASP", "GLU"]
    assert [row[3] for row in found[:atoms]] == list(model.atoms)
    torch.testing.assert_close(
        torch.tensor([row[4:7] for row in found]), 10 * places.reshape(-1, 3), atol=1e-3, rtol=0
    )
    assert [row[7] for row in found[::atoms]] == [i / 2 for i in range(24)]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("write", [pdb, mmcif])
def test_an_ensemble_is_read_as_models(
    reader: Callable[[Path], Read], write: Callable[[list[Model]], str], tmp_path: Path
) -> None:
    chains = [s.coordinates[:12] for s in segments.structures()[:3]]
    path = tmp_path / ("x.pdb" if write is pdb else "x.cif")
    path.write_text(write([Model(chain, "x") for chain in chains]))
    models = reader(path).models
    assert [len(model) for model in models] == [12, 12, 12]
    for model, chain in zip(models, chains, strict=True):
        torch.testing.assert_close(torch.tensor([row[4:7] for row in model]), 10 * chain, atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", ["pdb", "cif"])
def test_helices_and_strands_are_recorded_for_viewers(kind: str, tmp_path: Path) -> None:
    model = Model(segments.structures()[0].coordinates[:20], "x", structure="CHHHHHHCCCEEEEECCEEC")
    (path,) = files.save(model, tmp_path / "x", [kind])
    found = gemmi.read_structure(str(path))
    assert [(h.start.res_id.seqid.num, h.end.res_id.seqid.num) for h in found.helices] == [(2, 7)]
    strands = [strand for sheet in found.sheets for strand in sheet.strands]
    assert [(s.start.res_id.seqid.num, s.end.res_id.seqid.num) for s in strands] == [(11, 15)]


def test_an_mmcif_file_holds_a_polymer_with_its_sequence(tmp_path: Path) -> None:
    (path,) = files.save(Model(torch.randn(3, 3), "x", "AGC"), tmp_path / "x", ["cif"])
    (entity,) = gemmi.read_structure(str(path)).entities
    assert entity.entity_type == gemmi.EntityType.Polymer
    assert entity.full_sequence == ["ALA", "GLY", "CYS"]


def test_provenance_stands_in_every_file_and_lines_of_a_pdb_file_keep_to_80_columns(tmp_path: Path) -> None:
    about = {"run": "protein/sid-backbone/" + "x" * 90, "noise_scale": 0.6}
    old, new, arrays = files.save(Model(torch.randn(5, 3), "x", about=about), tmp_path / "x")
    assert "noise_scale: 0.6" in old.read_text()
    assert max(map(len, old.read_text().splitlines())) <= 80
    block = gemmi.cif.read(str(new)).sole_block()
    assert gemmi.cif.as_string(block.find_value("_fewstep.run")) == about["run"]
    with np.load(arrays, allow_pickle=False) as stored:
        assert json.loads(str(stored["about"])) == {"name": "x", "unit": "nm", **about}


def test_an_npz_file_holds_nanometers(tmp_path: Path) -> None:
    chain = segments.structures()[0].coordinates[:20]
    (path,) = files.save(Model(chain, "x"), tmp_path / "x", ["npz"])
    torch.testing.assert_close(files.read_chain(path), chain, atol=0, rtol=0)


def test_files_read_back_equal_to_their_three_decimals(tmp_path: Path) -> None:
    paths, chains = written(tmp_path)
    assert [path.suffix for path in paths] == [".pdb", ".cif"] * 2
    for path, chain in zip(paths, [chain for chain in chains for _ in range(2)], strict=True):
        torch.testing.assert_close(files.read_chain(path), chain, atol=5.1e-5, rtol=0)


def test_padding_is_not_written(tmp_path: Path) -> None:
    paths, _ = written(tmp_path)
    assert [len(files.read_chain(path)) for path in paths] == [20, 20, 13, 13]


def test_consecutive_atoms_are_connected_for_viewers(tmp_path: Path) -> None:
    paths, _ = written(tmp_path)
    lines = paths[2].read_text().splitlines()
    assert [line for line in lines if line.startswith("CONECT")][:2] == [
        "CONECT    1    2",
        "CONECT    2    3",
    ]
    assert sum(line.startswith("CONECT") for line in lines) == 12
    assert lines[-1] == "END"


def test_equal_chains_become_equal_files(tmp_path: Path) -> None:
    model = Model(segments.structures()[0].coordinates[:20], "x")
    first, second = files.save(model, tmp_path / "a"), files.save(model, tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.mark.parametrize(
    ("places", "changes", "told"),
    [
        (torch.full((8, 3), float("nan")), {}, "finite"),
        (torch.full((8, 3), 100.0), {}, "below 999"),
        (torch.zeros(0, 3), {}, "1 to 9999"),
        (torch.zeros(10_000, 3), {}, "1 to 9999"),
        (torch.zeros(8, 2, 3), {}, "2 atoms per residue"),
        (torch.zeros(8, 3), {"sequence": "AG"}, "8 amino acids"),
        (torch.zeros(2, 3), {"sequence": "A?"}, r"unknown: \?"),
    ],
)
def test_what_no_file_can_hold_is_refused(places: torch.Tensor, changes: dict[str, str], told: str) -> None:
    with pytest.raises(FewstepError, match=told):
        Model(places, "x", **changes)


def test_a_missing_structure_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FewstepError, match=r"absent\.pdb"):
        files.read_chain(tmp_path / "absent.pdb")


@pytest.mark.parametrize(
    "text",
    [
        "HETATM    1  O   HOH A   1       0.000   0.000   0.000  1.00  0.00           O\nEND\n",
        "not a file\n",
        "",
    ],
)
def test_a_file_without_ca_atoms_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "water.pdb"
    path.write_text(text)
    with pytest.raises(FewstepError, match=r"water\.pdb (holds no CA atom|cannot be read)"):
        files.read_chain(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.cif", b"data_x\nloop_\n_atom_site.id\n_atom_site.Cart_x\n1 2 3"),
        ("cut.pdb.gz", b"\x1f\x8b\x08\x00garbage"),
        ("text.npz", b"no archive"),
        ("cut.npz", b"PK\x03\x04 no archive either"),
        ("empty.npz", b""),
    ],
)
def test_a_spoiled_file_is_refused_by_name(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FewstepError, match=rf"{name}.* (cannot be read|holds no CA atom)"):
        files.read_chain(tmp_path / name)


def test_an_npz_file_that_is_no_design_is_refused_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", numbers=np.zeros(3))
    with pytest.raises(FewstepError, match=r"other\.npz cannot be read"):
        files.read_chain(tmp_path / "other.npz")
