"""Harvests: what is found, chosen, split, written, refused; what is not done twice."""

from __future__ import annotations

import csv
import errno
import gzip
import json
import os
import struct
import tarfile
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import gemmi
import numpy as np
import pytest

from fewstep.errors import FewstepError
from fewstep.runs.folder import claimed
from fewstep_protein.structures import clusters, reading, segments
from fewstep_protein.structures.harvest import CHOICES, Account, Asked, Keep, Record, choose, harvest
from fewstep_protein.structures.origins import LEFT, LINKED_FOLDER, NO_FILE, OTHER_KIND, WORK_FOLDER, origins
from fewstep_protein.structures.promod import read_database
from fewstep_protein.structures.reading import REFUSALS
from fewstep_protein.structures.segments import Structure

LETTERS = "ACDEFGHIKLMNPQRSTVWY"


def written(folder: Path, structure: Structure, name: str) -> Path:
    """A PDB file of a shipped segment."""
    path = folder / f"{name}.pdb"
    lines, serial = [], 0
    for i, places in enumerate(structure.backbone.double().numpy() * 10):
        for atom, (x, y, z) in zip(("N", "CA", "C"), places, strict=True):
            serial += 1
            residue = THREE[structure.sequence[i]]
            lines.append(
                f"ATOM  {serial:5d}  {atom:<3s} {residue} A{i + 1:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00"
                f"          {atom[0]:>2s}"
            )
    path.write_text("\n".join([*lines, "END", ""]))
    return path


THREE = {letter: gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA) for letter in LETTERS}


@pytest.fixture(scope="module")
def real() -> list[Structure]:
    """Eight short real chains."""
    return sorted(segments.split(held_out=False), key=lambda s: len(s.sequence))[:8]


@pytest.fixture
def folder(tmp_path: Path, real: list[Structure]) -> Path:
    """A folder of PDB files named 1aaa.pdb, 1aab.pdb, ..."""
    place = tmp_path / "mine"
    place.mkdir()
    for i, structure in enumerate(real):
        written(place, structure, f"1aa{'abcdefgh'[i]}")
    return place


def test_a_folder_becomes_one_file_that_gives_its_chains_back(folder: Path, real: list[Structure]) -> None:
    out = folder.parent / "mine.npz"
    found, account = harvest(Asked([str(folder)], share=0.0), out)
    loaded = {s.name: s for s in segments.load(str(out))}
    assert len(found) == len(loaded) == account.files == account.fresh == 8
    assert account.seconds > 0
    assert harvest(Asked([str(folder)], share=0.0), out)[1].fresh == 0
    for i, structure in enumerate(real):
        same = loaded[f"1aa{'abcdefgh'[i]}_A_1"]
        assert same.sequence == structure.sequence
        assert (
            float((same.backbone - structure.backbone).abs().max()) < 1.1e-3
        )  # two roundings of 0.01 angstrom
        assert same.cath == structure.cath
    rows = list(csv.DictReader(out.with_suffix(".csv").read_text().splitlines()))
    assert [f"{row['pdb']}_{row['chain']}_{row['first_residue']}" for row in rows] == [s.name for s in found]


def test_the_file_does_not_depend_on_processes_or_on_what_was_kept(folder: Path) -> None:
    contents = []
    for name, workers in (("one.npz", 1), ("two.npz", 2), ("one.npz", 1)):
        out = folder.parent / name
        harvest(Asked([str(folder)], share=0.25, workers=workers), out)
        contents.append(out.read_bytes())
    assert contents[0] == contents[1] == contents[2]


def test_no_pair_across_the_sides_has_one_fold(folder: Path) -> None:
    found, account = harvest(Asked([str(folder)], share=0.5), folder.parent / "mine.npz")
    sides = [[s for s in found if s.held_out == side] for side in (False, True)]
    left = sum(count for what, count, _ in account.table() if "held out" in what)
    assert len(sides[0]) == 4
    assert len(sides[1]) + left == 4
    for mine in sides[1]:
        for other in sides[0]:
            assert clusters.tm_score(*(s.coordinates.double().numpy() * 10 for s in (mine, other))) <= 0.5


def test_what_is_not_used_is_counted_with_its_reason(folder: Path, real: list[Structure]) -> None:
    (folder / "broken.cif").write_text("data_x\nloop_\n_atom_site.id\n_atom_site.Cart_x\n1 2 3")
    written(folder, real[0], "1aaz")
    _, account = harvest(Asked([str(folder)], share=0.0), folder.parent / "mine.npz")
    table = {what: count for what, count, _ in account.table()}
    assert table["cannot be read"] == 1
    assert table["shares more than 40% of its 5-mers with a longer segment"] == 1
    rows = list(csv.DictReader((folder.parent / "mine.refused.csv").read_text().splitlines()))
    assert {(row["file"], row["outcome"]) for row in rows} == {
        ("mine/broken.cif", "refused"),
        ("mine/1aaz.pdb", "not used"),
    }


def test_nothing_that_can_be_used_is_an_error_that_says_why(tmp_path: Path) -> None:
    (tmp_path / "empty.pdb").write_text("END\n")
    with pytest.raises(FewstepError, match="gave no segment") as caught:
        harvest(Asked([str(tmp_path)]), tmp_path / "out.npz")
    assert "no atom of a protein" in str(caught.value)
    assert not (tmp_path / "out.npz").exists()
    assert "/empty.pdb,,no atom of a protein in it,refused" in (tmp_path / "out.refused.csv").read_text()


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("file/out.npz", "cannot write"),
        ("folder.npz", "Is a directory"),
        ("/proc/1/out.npz", "cannot write"),
        ("mine.csv", "a file .npz"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_anything_is_read(
    tmp_path: Path, out: str, told: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(FewstepError, match=told):
        harvest(Asked([str(tmp_path / "nowhere")]), tmp_path / out)  # a place that would be told otherwise


def record(name: str, length: int, whole: bool = True, cut: bool = False) -> Record:
    """A record with a random sequence."""
    letters = np.random.default_rng([length, *name.encode()]).choice(list(LETTERS), length)
    backbone = np.zeros((length, 3, 3))
    return Record(name, "A", "1", "".join(letters), backbone, whole, cut, "", 0.0, "somewhere", f"{name}.pdb")


def test_only_so_many_of_each_range_of_lengths_are_kept() -> None:
    many = [record(f"1a{i:02d}", 30 + i) for i in range(40)]
    chosen = choose(many, Asked([], keep=[Keep(30, 49, 5), Keep(60, 69, 3)]), account := Account())
    lengths = sorted(len(r.sequence) for r in chosen.values())
    assert len(lengths) == 8
    assert sum(30 <= n <= 49 for n in lengths) == 5
    assert sum(60 <= n <= 69 for n in lengths) == 3
    assert sum(count for _, count, _ in account.table()) == 32


def test_whole_leaves_out_chains_that_are_cut_or_lack_atoms() -> None:
    some = [record("1aaa", 30), record("1aab", 31, whole=False), record("1aac", 32, cut=True)]
    assert list(choose(some, Asked([], whole=True), Account())) == ["1aaa_A_1"]
    assert len(choose(some, Asked([]), Account())) == 3


@pytest.mark.parametrize("text", ["50-128", "a-b:3", "128-50:3", "50-128:0", "50:128:3"])
def test_a_range_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(FewstepError, match="for instance --keep 50-128:1000"):
        Keep.parse(text)


def test_archives_are_read_without_installing_and_cannot_write_elsewhere(
    folder: Path, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "some-1.0.tar.gz", "w:gz") as tarred:
        tarred.add(folder / "1aaa.pdb", "some-1.0/tests/1aaa.pdb")
        tarred.add(folder / "1aab.pdb", "../../outside.pdb")
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as zipped:
        zipped.write(folder / "1aac.pdb", "other/1aac.pdb")
        zipped.writestr("other/code.py", "raise SystemExit")
    places = map(str, (tmp_path / "some-1.0.tar.gz", tmp_path / "other.whl"))
    found = origins(places, tmp_path / "work").files
    assert [(o.package, o.file) for o in found] == [
        ("some-1.0", "outside.pdb"),
        ("some-1.0", "some-1.0/tests/1aaa.pdb"),
        ("other", "other/1aac.pdb"),
    ]
    assert all(o.path.is_relative_to(tmp_path / "work") for o in found)


def test_installed_packages_are_named_and_all_bad_places_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(FewstepError) as caught:
        origins(["package:no-such-thing", str(tmp_path / "nowhere"), str(tmp_path)], tmp_path / "work")
    for told in ("no such package is installed", "No such file or directory", "holds no PDB or mmCIF file"):
        assert told in str(caught.value)


@pytest.mark.parametrize("name", ["structures.npz", "provenance.csv"])
def test_the_shipped_file_is_the_one_whose_making_is_described(name: str) -> None:
    shipped = Path(segments.__file__).with_name(name).read_bytes()
    card = Path(__file__).parents[2] / "plugins" / "protein" / "DATA.md"
    assert f"| `{name}` | `{sha256(shipped).hexdigest()}` |" in card.read_text().splitlines()


# --- folders of strangers ---------------------------------------------------------------------------------------------


def lost_and_found(folder: Path) -> None:
    """A folder as people have them: what cannot be read, what is no file, what is of another kind."""
    plain = (folder / "1aaa.pdb").read_bytes()
    packed = bytearray(gzip.compress(plain))
    packed[len(packed) // 2 : len(packed) // 2 + 40] = b"\xff" * 40
    (folder / "spoiled.pdb.gz").write_bytes(packed)
    (folder / "empty.pdb").touch()
    (folder / "no atoms.cif").write_text("data_X\nloop_\n_atom_site.id\n_atom_site.Cartn_x\n")
    (folder / "page.pdb").write_text("<html>404 Not Found</html>")
    (folder / "round.pdb").symlink_to("round.pdb")
    (folder / "gone.pdb").symlink_to("nowhere.pdb")
    os.mkfifo(folder / "pipe.pdb")
    (folder / "up").symlink_to("..")
    (folder / "folder.pdb").mkdir()
    (folder / "folder.pdb" / "1aah.pdb").write_bytes((folder / "1aah.pdb").read_bytes())
    (folder / "1aah.pdb").unlink()
    (folder / "notes.txt").write_text("mine")
    Path(os.fsdecode(os.fsencode(folder) + b"/no utf-8 \xff.pdb")).write_bytes(plain)


def test_of_a_folder_full_of_oddities_every_file_gives_a_segment_or_a_reason(folder: Path) -> None:
    lost_and_found(folder)
    found, account = harvest(Asked([str(folder)], share=0.25), folder.parent / "mine.npz")
    refused = {file: (what, detail) for file, _, what, _, detail in account.rows if what in REFUSALS}
    assert account.files == 16
    assert account.read == 9
    assert {Path(file).name: what for file, (what, _) in refused.items()} == {
        "spoiled.pdb.gz": reading.UNREADABLE,
        "round.pdb": reading.UNREADABLE,
        "gone.pdb": reading.UNREADABLE,
        "pipe.pdb": reading.UNREADABLE,
        "empty.pdb": reading.NO_PROTEIN,
        "no atoms.cif": reading.NO_PROTEIN,
        "page.pdb": reading.NO_PROTEIN,
    }
    assert all(detail for what, detail in refused.values() if what == reading.UNREADABLE)
    left = {(file, what) for file, _, what, _, _ in account.rows if what in LEFT}
    assert left == {("mine/*.txt", OTHER_KIND), ("mine/up", LINKED_FOLDER)}
    assert account.read == len(found) + sum(n for _, _, what, n, _ in account.rows if what in CHOICES)
    assert any(
        "\ufffd" in row for row in (folder.parent / "mine.refused.csv").read_text("utf-8").splitlines()
    )


def test_a_file_that_two_places_name_is_read_once(folder: Path) -> None:
    places = [str(folder / "1aab.pdb"), str(folder), f"{folder}/../mine"]
    assert [o.file for o in origins(places, folder.parent / "work").files] == [
        "1aab.pdb",
        *(f"1aa{letter}.pdb" for letter in "acdefgh"),
    ]


def test_other_proteins_of_one_name_are_kept_and_told_apart(folder: Path) -> None:
    for old, new in (("1aaa", "one"), ("1aab", "two")):
        (folder / new).mkdir()
        (folder / f"{old}.pdb").rename(folder / new / "ranked_0.pdb")
    found, _ = harvest(Asked([str(folder)], share=0.0), folder.parent / "mine.npz")
    names = {s.name for s in found}
    assert len(found) == 8
    assert {"ranked_0_A_1", "ranked_0~2_A_1"} < names


def test_damaged_archives_are_told_and_those_of_one_name_are_not_mixed(folder: Path, tmp_path: Path) -> None:
    for place, name in (("one", "1aaa"), ("two", "1aab")):
        (tmp_path / place).mkdir()
        with tarfile.open(tmp_path / place / "set.tar.gz", "w:gz") as tarred:
            tarred.add(folder / f"{name}.pdb", f"{name}.pdb")
    places = [str(tmp_path / place / "set.tar.gz") for place in ("one", "two")]
    assert [o.file for o in origins(places, tmp_path / "work").files] == ["1aaa.pdb", "1aab.pdb"]
    content = Path(places[0]).read_bytes()
    for cut in (content[: len(content) // 2], content[:-40] + b"\xff" * 40, b""):
        Path(places[0]).write_bytes(cut)
        with pytest.raises(FewstepError, match=r"one/set\.tar\.gz: \w+"):
            origins(places, tmp_path / "work")


def linked(name: str, kind: bytes, to: str = "") -> tarfile.TarInfo:
    """A link, or something else that is no file, for a tar archive."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, to
    return member


def test_an_archive_whose_parts_do_not_fit_is_told_as_damaged(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "lost.tar", "w") as tarred:
        tarred.addfile(linked("1aaa.pdb", tarfile.LNKTYPE, "gone.pdb"))
    with zipfile.ZipFile(tmp_path / "named.zip", "w") as zipped:
        zipped.writestr("é.pdb", "")
    (tmp_path / "named.zip").write_bytes(
        (tmp_path / "named.zip").read_bytes().replace(b"\xc3\xa9", b"\xff\xfe")
    )
    with pytest.raises(FewstepError, match="pack a damaged archive again") as caught:
        origins(map(str, (tmp_path / "lost.tar", tmp_path / "named.zip")), tmp_path / "work")
    for told in ("lost.tar: \"linkname 'gone.pdb' not found\"", "named.zip: 'utf-8' codec can't decode"):
        assert told in str(caught.value)


def test_what_an_archive_holds_besides_is_counted_each_time_and_a_changed_one_replaces_what_was_unpacked(
    folder: Path, tmp_path: Path
) -> None:
    archive, zip_file, work = tmp_path / "SET.TBZ2", tmp_path / "set.zip", tmp_path / "work"
    with zipfile.ZipFile(zip_file, "w") as zipped:
        zipped.write(folder / "1aac.pdb", "1aac.pdb")
        zipped.writestr("sub/code.py", "raise SystemExit")
        zipped.writestr(link := zipfile.ZipInfo("link.pdb"), "1aac.pdb")
        link.external_attr = 0o120777 << 16
    for name in ("1aaa.pdb", "1aab.pdb"):
        with tarfile.open(archive, "w:bz2") as tarred:
            tarred.add(folder / name, name)
            tarred.addfile(linked("same.pdb", tarfile.LNKTYPE, name))
            tarred.addfile(linked("link.pdb", tarfile.SYMTYPE, name))
            tarred.addfile(linked("pipe.pdb", tarfile.FIFOTYPE))
            tarred.addfile(linked("folder.pdb", tarfile.DIRTYPE))
            for note in ("b.txt", "a.txt"):
                tarred.addfile(tarfile.TarInfo(note))
        for _ in ("unpacked", "known"):
            found = origins([str(archive), str(zip_file)], work)
            assert [o.file for o in found.files] == [name, "same.pdb", "1aac.pdb"]
            assert found.files[0].path.read_bytes() == found.files[1].path.read_bytes() != b""
            assert found.left == [
                ("SET/*.txt", "", OTHER_KIND, 2, "a.txt"),
                ("SET/link.pdb", "", NO_FILE, 1, ""),
                ("SET/pipe.pdb", "", NO_FILE, 1, ""),
                ("set/*.py", "", OTHER_KIND, 1, "sub/code.py"),
                ("set/link.pdb", "", NO_FILE, 1, ""),
            ]
    assert len(list(work.iterdir())) == 2


def test_a_harvest_passes_over_what_it_writes_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with tarfile.open("set.tar.gz", "w:gz") as tarred:
        tarred.add("1aaa.pdb", "1aax.pdb")
    Path("other.npz.work").mkdir()
    Path("1aah.pdb").rename("other.npz.work/1aah.pdb")
    outputs = ("mine.npz", "mine.csv", "mine.refused.csv")
    asked = Asked([".", "set.tar.gz", *outputs, "mine.npz.work"], share=0.25)
    contents = []
    for _ in range(2):
        _, account = harvest(asked, Path("mine.npz"))
        contents.append([Path(name).read_bytes() for name in outputs])
        assert account.files == 8
        assert {(file, what) for file, _, what, _, _ in account.rows if what in LEFT} == {
            ("mine/*.gz", OTHER_KIND),
            ("mine/other.npz.work", WORK_FOLDER),
        }
    assert contents[0] == contents[1]


def test_a_folder_that_cannot_be_opened_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(place: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", place)

    monkeypatch.setattr(os, "scandir", closed)  # the superuser opens every folder
    with pytest.raises(
        FewstepError, match=r"holds no PDB or mmCIF file; .*cannot be opened: Permission denied"
    ):
        origins([str(tmp_path)], tmp_path / "work")


@pytest.mark.parametrize("failure", [OSError(errno.EMFILE, "Too many open files"), MemoryError()])
def test_a_failure_of_the_system_is_told_and_not_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    (folder / "spoiled.pdb.gz").write_bytes(reading.GZIP + b"no more")
    parse = reading.parse

    def failing(path: Path) -> tuple[gemmi.Structure, str]:
        if path.name == "1aaa.pdb":
            raise failure
        return parse(path)

    asked, out = Asked([str(folder)], share=0.0), folder.parent / "mine.npz"
    with monkeypatch.context() as patched:
        patched.setattr(reading, "parse", failing)
        _, account = harvest(asked, out)
    table = {what: count for what, count, _ in account.table()}
    assert (account.fresh, account.read, table[reading.UNREADABLE]) == (9, 7, 2)
    _, account = harvest(asked, out)
    assert (account.fresh, account.read) == (1, 8)


def test_a_kept_reading_that_a_failing_disk_changed_is_done_again(folder: Path) -> None:
    asked, out = Asked([str(folder)], share=0.0), folder.parent / "mine.npz"
    harvest(asked, out)
    ledger, content = folder.parent / "mine.npz.work" / "files.jsonl", out.read_bytes()
    first, *others = ledger.read_text().splitlines()
    key, found = json.loads(first)
    for damaged in ("AAAA", found["segments"][0]["backbone"][:-8], "?"):
        found["segments"][0]["backbone"] = damaged
        ledger.write_text("\n".join([json.dumps([key, found]), *others, ""]))
        assert harvest(asked, out)[1].fresh == 1
        assert out.read_bytes() == content


def test_a_file_that_changed_is_read_and_compared_again(folder: Path, real: list[Structure]) -> None:
    out = folder.parent / "mine.npz"
    asked = Asked([str(folder)], share=0.5)
    harvest(asked, out)
    lines = [len((folder.parent / "mine.npz.work" / "held_out.jsonl").read_text().splitlines())]
    assert harvest(asked, out)[1].fresh == 0
    written(folder, replace(real[0], backbone=real[0].backbone.flip(-1)), "1aaa")  # another hand, same name
    assert harvest(asked, out)[1].fresh == 1
    lines.append(len((folder.parent / "mine.npz.work" / "held_out.jsonl").read_text().splitlines()))
    assert lines[1] > lines[0]


def test_two_harvests_do_not_write_one_file(folder: Path) -> None:
    out = folder.parent / "mine.npz"
    harvest(Asked([str(folder)], share=0.0), out)
    with claimed(out.with_name("mine.npz.work")), pytest.raises(FewstepError, match="another process"):
        harvest(Asked([str(folder)], share=0.0), out)


# --- ProMod3's database ----------------------------------------------------------------------------------------------


def database(pieces: list[tuple[str, str, int, str, np.ndarray]]) -> bytes:
    """The bytes of a database of some pieces (entry, chain, first residue, sequence, (N, 4, 3) angstrom)."""
    table, at = b"", 0
    for entry, chain, first, sequence, _ in pieces:
        table += struct.pack("<I4sI1s", 4, entry.encode(), 1, chain.encode())
        table += struct.pack("<IHHfff", at, len(sequence), first, 0.0, 0.0, 0.0)
        at += len(sequence)
    letters = "".join(piece[3] for piece in pieces).encode()
    steps = np.round(np.concatenate([piece[4] for piece in pieces]) / 0.01).astype("<u2")
    header = struct.pack("<I", 1234).ljust(0x55, b"\0")
    return header + table + struct.pack("<Q", at) + letters + struct.pack("<Q", at) + steps.tobytes()


def test_pieces_of_the_database_come_with_backbone_and_say_whether_their_chain_is_cut(
    tmp_path: Path, real: list[Structure]
) -> None:
    whole = real[0].backbone.double().numpy() * 10 + 100
    atoms = np.concatenate([whole, whole[:, 2:]], axis=1)
    letters = real[0].sequence
    path = tmp_path / "structure_db.dat"
    path.write_bytes(
        database(
            [
                ("1ABC", "A", 3, letters, atoms),
                ("2ABC", "B", 1, letters[:30], atoms[:30]),
                ("2ABC", "B", 41, letters[:10], atoms[:10]),
            ]
        )
    )
    first, second = read_database(path, 24)
    (segment,) = first.segments
    assert (first.entry, segment.chain, segment.first, segment.sequence) == ("1abc", "A", "3", letters)
    assert segment.whole
    assert not segment.cut
    np.testing.assert_allclose(segment.backbone, whole, atol=6e-3)
    assert [(s.first, s.cut) for s in second.segments] == [("1", True)]
    assert [f.count for f in second.findings] == [1, 1]


def test_another_layout_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "structure_db.dat"
    path.write_bytes(struct.pack("<I", 1234).ljust(0x200, b"\1"))
    with pytest.raises(FewstepError, match="promod3-data"):
        list(read_database(path, 24))
