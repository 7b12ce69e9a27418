"""Reading PDB and mmCIF files: every oddity is dealt with as it is said to be, and counted."""

from __future__ import annotations

import gzip
from pathlib import Path

import gemmi
import numpy as np
import pytest

from fewstep_protein.structures import reading
from fewstep_protein.structures.reading import Finding, Reading, read_file


def backbone(count: int, at: float = 0.0) -> np.ndarray:
    """(count, 3, 3) an alpha helix along z with ideal distances, in angstrom."""
    turn, rise = np.radians(100.0) * np.arange(count), 1.5 * np.arange(count) + at
    atoms = [(1.55, -27.0, -0.9), (2.28, 0.0, 0.0), (1.68, 26.0, 1.1)]
    return np.stack(
        [
            np.stack([r * np.cos(turn + np.radians(a)), r * np.sin(turn + np.radians(a)), rise + z], 1)
            for r, a, z in atoms
        ],
        1,
    )


def atom(serial: int, name: str, residue: str, number: str, place: np.ndarray, **more: str) -> str:
    """An ATOM record; ``number`` is four digits and an insertion code."""
    record, alternative = more.get("record", "ATOM  "), more.get("alternative", " ")
    occupancy, chain, element = more.get("occupancy", "1.00"), more.get("chain", "A"), name[0]
    x, y, z = place
    return (
        f"{record}{serial:5d}  {name:<3s}{alternative}{residue:>3s} {chain}{number:>5s}   "
        f"{x:8.3f}{y:8.3f}{z:8.3f}{occupancy:>6s}  0.00          {element:>2s}"
    )


def chain(
    places: np.ndarray, residue: str = "ALA", first: int = 1, chain: str = "A", scale: float = 1.0
) -> list[str]:
    """ATOM records of a whole backbone."""
    return [
        atom(3 * i + k + 1, name, residue, f"{first + i:4d} ", places[i, k] * scale, chain=chain)
        for i in range(len(places))
        for k, name in enumerate(("N", "CA", "C"))
    ]


HEADER = f"{'HEADER    TEST PROTEIN':<62}1ABC"


def read(folder: Path, lines: list[str], name: str = "some.pdb", **options: bool) -> Reading:
    """What is read from a file of these lines."""
    path = folder / name
    path.write_text("\n".join([*lines, "END", ""]))
    return read_file(path, 8, **options)


def counted(found: Reading, what: str) -> int:
    """How often something was met."""
    return sum(finding.count for finding in found.findings if finding.what == what)


def test_an_unbroken_chain_is_one_segment_with_its_whole_backbone(tmp_path: Path) -> None:
    found = read(tmp_path, [HEADER, *chain(backbone(12))])
    (segment,) = found.segments
    assert (found.entry, segment.chain, segment.first, segment.sequence) == ("1abc", "A", "1", "A" * 12)
    assert segment.whole
    assert not segment.cut
    np.testing.assert_allclose(segment.backbone, backbone(12), atol=6e-4)
    assert found.findings == []


def test_mmcif_and_gzip_give_what_the_pdb_file_gives(tmp_path: Path) -> None:
    plain = read(tmp_path, [HEADER, *chain(backbone(12))])
    structure = gemmi.read_pdb(str(tmp_path / "some.pdb"))
    structure.setup_entities()
    text = structure.make_mmcif_document().as_string()
    (tmp_path / "some.cif").write_text(text)
    (tmp_path / "some.cif.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "misnamed.pdb.gz").write_text(text)
    (tmp_path / "marked.cif").write_text(text, encoding="utf-8-sig")
    for name in ("some.cif", "some.cif.gz", "misnamed.pdb.gz", "marked.cif"):
        found = read_file(tmp_path / name, 8)
        assert found.entry == "1abc"
        assert found.segments[0].sequence == plain.segments[0].sequence
        np.testing.assert_allclose(found.segments[0].backbone, plain.segments[0].backbone, atol=1e-3)


def test_a_chain_is_cut_at_a_break_and_short_pieces_are_counted(tmp_path: Path) -> None:
    lines = [*chain(backbone(12)), *chain(backbone(10, 60.0), first=20), *chain(backbone(3, 120.0), first=40)]
    found = read(tmp_path, [HEADER, *lines])
    assert [(s.first, len(s.sequence), s.cut) for s in found.segments] == [("1", 12, True), ("20", 10, True)]
    assert counted(found, reading.BREAK) == 2
    assert counted(found, reading.SHORT) == 1


def test_of_alternative_places_the_fullest_is_taken_and_then_the_first(tmp_path: Path) -> None:
    places = backbone(12)
    lines = chain(places)
    for index, occupancies in ((4, ("0.40", "0.60")), (7, ("0.50", "0.50"))):
        lines[3 * index + 1] = "\n".join(
            atom(
                100,
                "CA",
                "ALA",
                f"{index + 1:4d} ",
                places[index, 1] + shift,
                alternative=name,
                occupancy=share,
            )
            for name, share, shift in zip("AB", occupancies, (0.0, 0.1), strict=True)
        )
    found = read(tmp_path, [HEADER, *lines])
    moved = found.segments[0].backbone[:, 1] - places[:, 1]
    assert np.flatnonzero(np.abs(moved).max(1) > 0.05).tolist() == [4]
    assert counted(found, reading.ALTERNATIVE) == 2


def test_n_and_c_come_from_the_alternative_of_their_ca(tmp_path: Path) -> None:
    places = backbone(12)
    lines = chain(places)
    for k, name in enumerate(("N", "CA", "C")):
        lines[15 + k] = "\n".join(
            atom(100, name, "ALA", "   6 ", places[5, k] + shift, alternative=letter, occupancy=share)
            for letter, share, shift in (("A", "0.45", 0.0), ("B", "0.55", 0.05))
        )
    found = read(tmp_path, [HEADER, *lines])
    np.testing.assert_allclose(found.segments[0].backbone[5], places[5] + 0.05, atol=1e-3)


def test_insertion_codes_keep_the_order_of_the_file(tmp_path: Path) -> None:
    lines = chain(backbone(12))
    for index, number in enumerate(("  52 ", "  52A", "  52B", "  53 ")):
        for k, name in enumerate(("N", "CA", "C")):
            lines[3 * index + k] = atom(1, name, "GLY", number, backbone(12)[index, k])
    found = read(tmp_path, [HEADER, *lines])
    assert (found.segments[0].first, found.segments[0].sequence) == ("52", "GGGG" + "A" * 8)
    assert counted(found, reading.INSERTED) == 2


def test_selenomethionine_is_methionine_and_what_is_unknown_cuts_the_chain(tmp_path: Path) -> None:
    lines = chain(backbone(30))
    for index, residue in ((3, "MSE"), (15, "UNK")):
        for k, name in enumerate(("N", "CA", "C")):
            lines[3 * index + k] = atom(
                1, name, residue, f"{index + 1:4d} ", backbone(30)[index, k], record="HETATM"
            )
    found = read(tmp_path, [HEADER, *lines])
    assert [s.sequence for s in found.segments] == ["AAAM" + "A" * 11, "A" * 14]
    assert counted(found, reading.MODIFIED) == 1
    assert counted(found, reading.UNKNOWN) == 1


def test_a_residue_without_ca_cuts_the_chain(tmp_path: Path) -> None:
    lines = chain(backbone(24))
    del lines[3 * 12 + 1]
    found = read(tmp_path, [HEADER, *lines])
    assert [len(s.sequence) for s in found.segments] == [12, 11]
    assert counted(found, reading.NO_CA) == 1


def test_without_every_n_and_c_only_ca_is_kept(tmp_path: Path) -> None:
    lines = chain(backbone(12))
    del lines[3 * 5]
    (segment,) = read(tmp_path, [HEADER, *lines]).segments
    assert not segment.whole
    assert np.isnan(segment.backbone[:, ::2]).all()
    assert np.isfinite(segment.backbone[:, 1]).all()
    only = read(tmp_path, [HEADER, *[line for line in lines if " CA " in line]])
    assert counted(only, reading.CA_ONLY) == 1
    assert len(only.segments[0].sequence) == 12


def test_n_and_c_at_impossible_distances_are_no_backbone(tmp_path: Path) -> None:
    places = backbone(12)
    places[5, 0] += 0.3
    assert not read(tmp_path, [HEADER, *chain(places)]).segments[0].whole


def test_of_an_ensemble_the_first_model_is_read_and_the_others_are_counted(tmp_path: Path) -> None:
    models = [["MODEL", *chain(backbone(12) + shift), "ENDMDL"] for shift in (0.0, 1.0, 2.0)]
    lines = [
        line.replace("MODEL", f"MODEL     {i + 1:4d}") if line == "MODEL" else line
        for i, model in enumerate(models)
        for line in model
    ]
    found = read(tmp_path, [HEADER, *lines])
    np.testing.assert_allclose(found.segments[0].backbone, backbone(12), atol=1e-3)
    assert counted(found, reading.MODELS) == 2
    found = read(tmp_path, [HEADER, "MODEL        0", "ENDMDL", *lines])
    np.testing.assert_allclose(found.segments[0].backbone, backbone(12), atol=1e-3)


def test_nucleic_acids_waters_and_ligands_are_no_protein(tmp_path: Path) -> None:
    base = [atom(1, "P", " DA", f"{i:4d} ", np.full(3, 3.0 * i), chain="B") for i in range(1, 13)]
    water = [
        atom(1, "O", "HOH", f"{i:4d} ", np.full(3, 3.0 * i), chain="W", record="HETATM") for i in (1, 2, 3)
    ]
    heme = [atom(1, "FE", "HEM", "   1 ", np.zeros(3), chain="H", record="HETATM")]
    found = read(tmp_path, [HEADER, *chain(backbone(12)), *base, *water, *heme])
    assert len(found.segments) == 1
    assert [counted(found, what) for what in (reading.NUCLEIC, reading.WATER, reading.LIGAND)] == [1, 3, 1]
    alone = read(tmp_path, [HEADER, *water])
    assert alone.findings[-1] == Finding("", reading.NO_PROTEIN, 1)


def test_a_calcium_ion_is_no_ca_atom(tmp_path: Path) -> None:
    ion = "HETATM  999 CA    CA A 201       1.000   2.000   3.000  1.00  0.00          CA"
    found = read(tmp_path, [HEADER, *chain(backbone(12)), ion])
    assert len(found.segments[0].sequence) == 12
    assert counted(found, reading.LIGAND) == 1


@pytest.mark.parametrize(("scale", "told"), [(0.1, reading.IN_NANOMETERS), (10.0, reading.TOO_LARGE)])
def test_a_slip_of_units_is_told_as_one(tmp_path: Path, scale: float, told: str) -> None:
    found = read(tmp_path, [HEADER, *chain(backbone(12), scale=scale)])
    assert not found.segments
    assert counted(found, told) == 1


def test_coordinates_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    lines = chain(backbone(12))
    lines[13] = lines[13][:30] + "     nan" + lines[13][38:]
    found = read(tmp_path, [HEADER, *lines])
    assert not found.segments
    assert counted(found, reading.NOT_NUMBERS) == 1


@pytest.mark.parametrize(
    "name", ["cut.pdb", "cut.cif", "cut.pdb.gz", "spoiled.pdb.gz", "empty.pdb", "noise.cif"]
)
def test_a_damaged_file_is_refused_with_a_reason_and_raises_nothing(tmp_path: Path, name: str) -> None:
    text = "\n".join([HEADER, *chain(backbone(12))])
    content = {
        "cut.pdb": text[:-60].encode(),
        "cut.cif": b"data_x\nloop_\n_atom_site.id\n_atom_site.Cart_x\n1 2 3",
        "cut.pdb.gz": gzip.compress(text.encode())[:-30],
        "spoiled.pdb.gz": (packed := gzip.compress(text.encode()))[:200] + b"\xff" * 40 + packed[240:],
        "empty.pdb": b"",
        "noise.cif": bytes(range(256)),
    }
    (tmp_path / name).write_bytes(content[name])
    found = read_file(tmp_path / name, 8)
    assert not found.segments
    assert [finding.what in (reading.UNREADABLE, reading.NO_PROTEIN) for finding in found.findings] == [True]
    assert not found.passing
    assert read_file(tmp_path / "nowhere.pdb").passing


def test_a_file_without_an_id_goes_by_its_name_unless_an_id_is_asked_for(tmp_path: Path) -> None:
    lines = chain(backbone(12))
    assert read(tmp_path, lines, "my design.pdb").entry == "my design"
    refused = read(tmp_path, lines, "my design.pdb", named_only=True)
    assert not refused.segments
    assert refused.findings == [Finding("", reading.ANONYMOUS, 1)]
    assert read(tmp_path, lines, "pdb1ubi.ent", named_only=True).entry == "1ubi"
    assert not read(tmp_path, lines, "2024.pdb", named_only=True).segments


def test_method_and_resolution_are_those_that_the_file_states(tmp_path: Path) -> None:
    stated = ["EXPDTA    X-RAY DIFFRACTION", "REMARK   2", "REMARK   2 RESOLUTION.    1.80 ANGSTROMS."]
    found = read(tmp_path, [HEADER, *stated, *chain(backbone(12))])
    assert (found.method, found.resolution) == ("x-ray diffraction", 1.8)
