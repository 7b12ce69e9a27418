"""``fewstep protein sequences``: what it reads, writes, refuses, and how it goes on."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner, Result

from fewstep.cli import application
from fewstep_protein.folding.network import CANet
from fewstep_protein.folding.reading import files_of, read_backbones, unique_names
from fewstep_protein.folding.tables import recovery
from fewstep_protein.structures.files import Model, save

FOLDS: list[str] = []
"""What `fold` was asked."""


def fold(sequence: str) -> tuple[Tensor, Tensor]:
    """A predictor that knows one fold: an ideal helix."""
    FOLDS.append(sequence)
    t = torch.arange(len(sequence), dtype=torch.float64) * 1.745329
    places = torch.stack([0.23 * t.cos(), 0.23 * t.sin(), 0.15 * torch.arange(len(sequence))], 1)
    return places, torch.full((len(sequence),), 90.0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as ProteinMPNN publishes them, whose weights know nothing."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "v_random.pt"
    torch.save({"model_state_dict": CANet().state_dict(), "num_edges": 48, "noise_level": 0.2}, path)
    return path


@pytest.fixture
def designs(tmp_path: Path, helix: Callable[..., Tensor], strand: Callable[[int], Tensor]) -> Path:
    """A folder as ``fewstep sample`` leaves it: a helix in three kinds of files, a strand in one."""
    folder = tmp_path / "designs"
    folder.mkdir()
    save(Model(helix(12), "design_0"), folder / "design_0", ("pdb", "cif", "npz"))
    save(Model(strand(10), "design_1"), folder / "design_1", ("pdb",))
    save(Model(strand(10), "ensemble"), folder / "ensemble", ("pdb",))
    (folder / "designs.csv").write_text("name\n")
    return folder


def call(*words: object) -> Result:
    return CliRunner().invoke(application(), ["protein", "sequences", *map(str, words)])


def test_every_backbone_gets_its_sequences_with_scores_and_provenance(designs: Path, weights: Path) -> None:
    out = designs.parent / "made" / "best.fasta"
    told = call(designs, "--per", 2, "--weights", weights, "--out", out, "--omit", "c", "--json")
    assert told.exit_code == 0, told.output
    facts = json.loads(told.stdout)
    assert facts["backbones"] == 2
    assert facts["scores"]["nll"]["n"] == 2
    entries = out.read_text().split(">")[1:]
    heads = [entry.split()[0] for entry in entries]
    assert heads == ["design_0_0", "design_0_1", "design_1_0", "design_1_1"]
    assert all("nll=" in one and "weights=v_random temperature=0.1 seed=0" in one for one in entries)
    sequences = [entry.splitlines()[1] for entry in entries]
    assert [len(one) for one in sequences] == [12, 12, 10, 10]
    assert "C" not in "".join(sequences)
    with (out.parent / "best.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["sequence"] for row in rows] == sequences
    assert rows[0]["file"].endswith("design_0.npz")


@pytest.mark.parametrize("kind", ["pdb", "cif", "npz"])
def test_designs_for_a_chain_whose_sequence_is_known_say_how_much_of_it_they_repeat(
    kind: str, tmp_path: Path, weights: Path, helix: Callable[..., Tensor]
) -> None:
    folder, native = tmp_path / "chains", "MKTAYIAKQRQI"
    folder.mkdir()
    save(Model(helix(12), "known", native), folder / "known", (kind,))
    save(Model(helix(12), "unknown"), folder / "unknown", (kind,))
    out = tmp_path / "made.fasta"
    told = call(folder, "--per", 3, "--weights", weights, "--temperature", 1, "--out", out, "--json")
    assert told.exit_code == 0, told.output
    with (tmp_path / "made.csv").open() as file:
        rows = {row["backbone"] + row["number"]: row for row in csv.DictReader(file)}
    shares = [
        sum(a == b for a, b in zip(native, rows[f"known{i}"]["sequence"], strict=True)) / 12 for i in range(3)
    ]
    assert [float(rows[f"known{i}"]["recovery"]) for i in range(3)] == pytest.approx(shares, abs=1e-4)
    assert [rows[f"unknown{i}"]["recovery"] for i in range(3)] == [""] * 3
    score = json.loads(told.stdout)["scores"]["recovery"]
    assert (score["value"], score["n"]) == (pytest.approx(sum(shares) / 3), 1)


def test_residues_that_are_no_amino_acid_do_not_count() -> None:
    assert recovery("MXKX", "MAAX") == 0.5
    assert math.isnan(recovery("", "MA"))


def test_a_folder_may_be_added_later_and_what_was_done_is_not_done_again(
    designs: Path, weights: Path
) -> None:
    out = designs / "designs.fasta"
    words = (designs, "--per", 2, "--weights", weights, "--out", out)
    assert call(*words).exit_code == 0
    before = out.read_text()
    FOLDS.clear()
    folding = (*words, "--folder", f"{__name__}:fold", "--json")
    told = call(*folding)
    assert told.exit_code == 0, told.output
    assert len(FOLDS) == 4
    scores = json.loads(told.stdout)["scores"]
    # The helix comes back and the strand does not.
    assert scores["scrmsd_below_2A"]["value"] == 0.5
    assert scores["plddt"]["value"] == 90.0
    sequences = [line for line in out.read_text().splitlines() if not line.startswith(">")]
    assert sequences == [line for line in before.splitlines() if not line.startswith(">")]
    with (designs / "designs-backbones.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["backbone"] for row in rows] == ["design_0", "design_1"]
    assert float(rows[0]["scrmsd"]) < 0.01 < 2 < float(rows[1]["scrmsd"])
    assert len(list((designs / "designs-folded").glob("*.pdb"))) == 4
    assert json.loads(call(*folding).stdout)["scores"] == scores
    assert len(FOLDS) == 4


def test_a_killed_campaign_goes_on_with_the_sequences_that_it_would_have_made(
    designs: Path, weights: Path
) -> None:
    out = designs.parent / "a.fasta"
    words = (designs, "--per", 1, "--weights", weights, "--out")
    assert call(*words, out).exit_code == 0
    whole = out.read_text()
    journal = designs.parent / ".a" / "sequences.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:-1]) + lines[-1][:20])
    out.unlink()
    assert call(*words, out).exit_code == 0
    assert out.read_text() == whole


def test_another_question_does_not_write_over_what_was_made(designs: Path, weights: Path) -> None:
    out = designs.parent / "a.fasta"
    assert call(designs, "--per", 1, "--weights", weights, "--out", out).exit_code == 0
    told = call(designs, "--per", 1, "--weights", weights, "--out", out, "--seed", 1)
    assert "holds other sequences\nseed: 0 there, 1 asked" in str(told.exception)


def test_files_that_cannot_be_read_are_left_out_and_told(designs: Path, weights: Path) -> None:
    (designs / "design_2.pdb").write_text("nothing\n")
    save(Model(torch.rand(3, 3), "short"), designs / "short", ("pdb",))
    found, refused = read_backbones([str(designs)], Path("runs"))
    assert [one.name for one in found] == ["design_0", "design_1"]
    assert len(refused) == 2
    told = str(call(designs / "short.pdb", "--weights", weights).exception)
    assert "no backbone can be read" in told
    assert "3 residues" in told


def test_a_run_stands_for_what_was_sampled_from_it(designs: Path) -> None:
    run = designs.parent / "runs" / "protein" / "x" / "20260101"
    (run / "samples").mkdir(parents=True)
    (run / "run.json").write_text("{}")
    designs.rename(run / "samples" / "student-seed0")
    found = files_of("protein/x", designs.parent / "runs")
    assert [file.name for file in found] == ["design_0.npz", "design_1.pdb"]


def test_equal_names_in_two_folders_are_told_apart() -> None:
    assert unique_names([Path("a/x.pdb"), Path("b/x.pdb"), Path("b/y.pdb")]) == ["a/x", "b/x", "y"]
    deep = [Path("/home/someone/one/x.pdb"), Path("/home/someone/two/x.pdb")]
    assert unique_names(deep) == ["one/x", "two/x"]


def test_no_sequences_and_unknown_letters_are_refused_before_work_begins(
    designs: Path, weights: Path
) -> None:
    for words, told in (
        (("--per", 0), "0 sequences at temperature"),
        (("--omit", "B"), "unknown letters B"),
        (("--folder", "math:pi"), "is no function"),
    ):
        assert told in str(call(designs, "--weights", weights, *words).exception)
