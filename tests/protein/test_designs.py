"""Designs in a folder: what may be asked, what passes, what is written, and how a campaign goes on."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fewstep.errors import FewstepError
from fewstep.protocol import Batch, Drawn, Key, Roles, Sampler, State, Step
from fewstep.runs import Run
from fewstep.runs.folder import RunFolder
from fewstep.runs.setup import prepare
from fewstep_protein.designs import table
from fewstep_protein.designs.campaign import backbone_campaign
from fewstep_protein.designs.filters import BOUNDS, Filters, failures
from fewstep_protein.designs.request import (
    PAIRS,
    BackboneRequest,
    alike,
    options,
    portion,
    request,
    sequence_scores,
)
from fewstep_protein.structures import files, segments, sources
from fewstep_protein.structures.labels import Vocabulary
from fewstep_protein.structures.segments import vocabulary

SIZES = [f"network.{name}" for name in ("width=16", "rounds=1", "layers=1", "heads=2")]


def real(roles: Roles, batch: Batch, step: Step) -> Iterator[State]:
    """Who draws pieces of real chains; of a batch, the fourth and every fourth has its residues moved by two angstrom, the
    eighth and every eighth is no number.
    """
    lengths = batch.mask.sum((1, 2)).tolist()
    known = [s.coordinates for s in segments.structures() if len(s.coordinates) >= max(lengths)]
    which = step.key.at("which").integers((len(lengths),), len(known)).tolist()
    x = sources.pad([known[i][:n] for i, n in zip(which, lengths, strict=True)], batch.like.shape[1]).x
    x[3::4] += 0.2 * step.key.at("noise").normal(x[3::4]) * batch.mask[3::4]
    x[7::8] = float("nan")
    yield State(x, torch.zeros(len(x)))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose student draws pieces of real chains: nothing is trained here."""
    setup = prepare("protein/sid-backbone", sets=SIZES, device="cpu")
    plan = setup.plan()
    product = replace(plan.product, contenders={"student": Sampler(real, ())})
    return Run(RunFolder(tmp_path / "run"), setup, replace(plan, product=product))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()}


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "designs.csv").read_text().splitlines()))


@pytest.mark.parametrize(
    ("text", "first", "last"), [("60-120", 60, 120), (" 60 - 120 ", 60, 120), ("80", 80, 80), (80, 80, 80)]
)
def test_lengths_are_drawn_evenly_from_a_range(text: Any, first: int, last: int) -> None:
    batch = request(BackboneRequest(length=text), 4000, Key(0))
    counted = torch.bincount(batch.mask.sum((1, 2)), minlength=last + 1)[first:]
    share, expected = counted / 4000, 1 / (last - first + 1)
    assert len(counted) == last - first + 1
    assert float((share - expected).abs().max()) <= 5 * (expected * (1 - expected) / 4000) ** 0.5


def test_lengths_of_a_list_are_taken_in_turn_and_portions_hold_whole_turns() -> None:
    asked = BackboneRequest(length=[60, 80, 100])
    assert request(asked, 5, Key(0)).mask.sum((1, 2)).tolist() == [60, 80, 100, 60, 80]
    assert portion(asked, 1000) % 3 == 0


def test_a_request_carries_the_noise_scale_and_its_lengths_depend_on_the_key_alone() -> None:
    asked = BackboneRequest(length="60-120", noise_scale=0.6)
    one, same, other = (request(asked, 20, Key(seed)).mask.sum((1, 2)).tolist() for seed in (0, 0, 1))
    assert one == same
    assert one != other
    assert request(asked, 2, Key(0)).extra["noise_scale"] == 0.6


def test_a_cath_code_becomes_labels_for_every_chain_and_none_is_told_unless_asked() -> None:
    asked = request(BackboneRequest(length="30", cath="1"), 3, Key(0))
    assert asked.cond.data["cath"].tolist() == [list(vocabulary().indices("1"))] * 3
    assert request(BackboneRequest(length="30"), 3, Key(0)).cond.data is None


def test_codes_are_those_of_the_chains_that_a_generator_was_trained_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {None: Vocabulary.of(["1.10.8"]), "mine.npz": Vocabulary.of(["1.5.6", "1.10.8"])}
    monkeypatch.setattr("fewstep_protein.designs.request.vocabulary", known.__getitem__)
    asked = request(options(24, 40, "mine.npz")(cath="1.10"), 1, Key(0))
    assert asked.cond.data["cath"].tolist() == [[1, 2, 0]]
    with pytest.raises(ValidationError, match="cath"):
        options(24, 40)(cath="1.5")


@pytest.mark.parametrize("code", ["alpha", "9", "1..2"])
def test_a_cath_code_that_nobody_knows_is_refused(code: str) -> None:
    with pytest.raises(ValidationError, match="cath"):
        BackboneRequest(cath=code)


def test_scores_of_sequences_without_weights_are_refused_before_anything_is_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent() -> None:
        raise FewstepError("there are no weights", "", "install them")

    monkeypatch.setattr("fewstep_protein.designs.request.column", absent)
    sequence_scores.cache_clear()
    with pytest.raises(ValidationError, match="there are no weights; install them"):
        BackboneRequest(max_mpnn_nll=2.0)


def test_scores_of_sequences_are_a_column_that_a_filter_reads(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {"mpnn_nll": torch.arange(4).double()}
    monkeypatch.setattr("fewstep_protein.designs.request.column", lambda: lambda chains: scores)
    sequence_scores.cache_clear()
    run.campaign(3, tmp_path, length="20", max_mpnn_nll=1.5)
    assert [row["reason"] for row in rows(tmp_path)] == ["", "", "mpnn_nll 2 > 1.5"]
    sequence_scores.cache_clear()


def test_portions_of_a_campaign_begin_small_and_hold_whole_turns() -> None:
    def sizes(length: str) -> list[int]:
        found, first = [], 0
        while first < 300:
            found.append(portion(BackboneRequest(length=length), first))
            first += found[-1]
        return found

    assert sizes("60-120") == [4, 4, 8, 16, 32, 64, 64, 64, 64]
    assert sizes("60,80,100") == [6, 6, 12, 24, 48, 63, 63, 63, 63]


@pytest.mark.parametrize("length", ["6", "60-120", "512", "6,512"])
def test_what_is_drawn_at_once_is_alike_and_keeps_memory_bounded(length: str) -> None:
    batch = request(BackboneRequest(length=length), 64, Key(0))
    parts = alike(batch)
    assert sorted(row for which, _ in parts for row in which.tolist()) == list(range(64))
    for which, part in parts:
        lengths = batch.mask.sum((1, 2))[which]
        assert part.mask.sum((1, 2)).tolist() == lengths.tolist()
        assert part.like.shape == (len(which), lengths.max(), 3)
        assert len(which) == 1 or part.like.shape[0] * part.like.shape[1] ** 2 <= PAIRS["cpu"]
    real = int(batch.mask.sum((1, 2)).square().sum())
    assert sum(len(which) * part.like.shape[1] ** 2 for which, part in parts) < 1.1 * real


@pytest.mark.parametrize(
    ("length", "told"),
    [
        ("60-", "'60-' is no length"),
        ("abc,3,80-90", "'abc' is no length.*a range stands alone.*3 is not in 6 to 512"),
        ("120-60", "120 is above 60"),
        ("5-1000", "5 is not in 6 to 512.*1000 is not in"),
        ("", "'' is no length"),
        ("-80", "'-80' is no length"),
        ("8.5", "'8.5' is no length"),
        (True, "valid string"),
    ],
)
def test_lengths_that_cannot_be_are_refused_with_all_that_is_wrong(length: Any, told: str) -> None:
    with pytest.raises(ValidationError, match=f"(?s){told}"):
        BackboneRequest(length=length)


def test_everything_wrong_with_a_request_is_told_at_once(run: Run, tmp_path: Path) -> None:
    wrong = {"length": "3", "noise_scale": "0", "files": "pdb,mol2", "min_valid": "2", "min_helixx": "1"}
    with pytest.raises(FewstepError) as caught:
        run.campaign(5, tmp_path / "designs", **wrong)
    told = str(caught.value)
    assert all(word in told for word in ("3 is not in", "noise-scale", "mol2", "min-valid", "did you mean"))
    assert not (tmp_path / "designs").exists()


def test_bounds_that_contradict_one_another_are_refused() -> None:
    with pytest.raises(
        ValidationError, match=r"min-helix 0\.6 is above max-helix 0\.2; .* more than 1 together"
    ):
        Filters(min_helix=0.6, max_helix=0.2, min_strand=0.5)


def test_a_generator_draws_the_lengths_it_was_trained_on_unless_told_otherwise() -> None:
    model = options(24, 40)
    assert model().length == "24-40"
    assert issubclass(model, BackboneRequest)
    assert model(length="50").length == "50"


@pytest.mark.parametrize(
    ("length", "fits"), [("24-40", True), ("30,40", True), ("24", True), ("20-30", False), ("30,41", False)]
)
def test_lengths_beyond_those_that_were_learned_are_cautioned_against(length: str, fits: bool) -> None:
    told = options(24, 40)(length=length).cautions
    assert fits is (told == [])
    assert fits or f"chains of {length} residues are asked for, 24 to 40 were learned" in told[0]
    assert BackboneRequest(length=length).cautions == []


def test_every_bound_is_an_option_and_every_option_names_a_column() -> None:
    assert set(BOUNDS) == set(Filters.model_fields)
    assert {bound.column for bound in BOUNDS.values()} <= set(table.HEADS)


@pytest.mark.parametrize(
    ("row", "reasons"),
    [
        ({"valid_bonds": 0.95, "clashes": 0.1, "right_handed": 0.9}, []),
        (
            {"valid_bonds": 0.9, "clashes": 0.3, "right_handed": 1.0},
            ["valid_bonds 0.9 < 0.95", "clashes 0.3 > 0.1"],
        ),
        ({"valid_bonds": 1.0, "clashes": 0.0, "right_handed": None}, ["right_handed unknown"]),
        ({"valid_bonds": 1.0, "clashes": float("nan"), "right_handed": 1.0}, ["clashes unknown"]),
        ({"valid_bonds": 1.0, "clashes": 0.0, "right_handed": 1.0, "exploded": 1.0}, ["exploded"]),
    ],
)
def test_a_design_passes_within_its_bounds_and_says_why_it_does_not(
    row: Mapping[str, float | None], reasons: list[str]
) -> None:
    assert failures(Filters(min_valid=0.95, max_clashes=0.1, min_right_handed=0.9), row) == reasons


def test_every_design_gets_a_row_and_only_those_that_pass_get_files(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "designs"
    done = run.campaign(16, folder, length="30-50", min_valid=0.9, max_clashes=0.05)
    found = rows(folder)
    passed = [row for row in found if row["passed"] == "1"]
    assert [row["index"] for row in found] == [str(i) for i in range(16)]
    assert (len(passed), done.passed) == (12, 12)
    against = [row["reason"].replace(",", " ").split()[0] for row in found if row["passed"] == "0"]
    assert sorted(against) == ["exploded", "valid_bonds", "valid_bonds", "valid_bonds"]
    assert dict(done.refused) == {"valid_bonds": 4, "clashes": 3, "exploded": 1}
    written = {file for row in passed for file in row["files"].split()}
    assert written | {"designs.csv", "designs.html"} == set(contents(folder))
    assert len(written) == 3 * len(passed)
    assert [table.name for table in done.tables] == ["designs.csv", "designs.html"]


def test_files_hold_the_design_and_where_it_is_from(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "designs"
    run.campaign(3, folder, seed=7, length="30,40")
    chains = [files.read_chain(folder / f"design_000001.{kind}") for kind in files.KINDS]
    assert {len(chain) for chain in chains} == {40}
    torch.testing.assert_close(chains[0], chains[2], atol=5.1e-5, rtol=0)
    torch.testing.assert_close(chains[1], chains[2], atol=5.1e-5, rtol=0)
    with np.load(folder / "design_000001.npz", allow_pickle=False) as stored:
        about = json.loads(str(stored["about"]))
    expected = {
        "name": "design_000001",
        "recipe": "protein/sid-backbone",
        "seed": 7,
        "index": 1,
        "unit": "nm",
    }
    assert expected.items() <= about.items()
    assert {"run", "teacher", "calls", "noise_scale", "version", "contender"} <= set(about)
    assert "REMARK   6 seed: 7" in (folder / "design_000001.pdb").read_text()


def test_failing_designs_get_files_when_they_are_asked_for(run: Run, tmp_path: Path) -> None:
    run.campaign(16, tmp_path, length="30", min_valid=0.9, all_files=True, files="pdb")
    assert len(list(tmp_path.glob("design_*.pdb"))) == 15  # the one that is no number fits into no file
    assert not list(tmp_path.glob("design_*.cif"))


def test_an_ensemble_holds_what_passes(run: Run, tmp_path: Path) -> None:
    done = run.campaign(8, tmp_path, length="30-40", min_valid=0.9, ensemble=True)
    assert [path.name for path in done.tables][2:] == ["ensemble.pdb", "ensemble.cif"]
    lengths = [int(row["length"]) for row in rows(tmp_path) if row["passed"] == "1"]
    for path in done.tables[2:]:
        assert [len(model[0]) for model in gemmi.read_structure(str(path))] == lengths


class KilledError(Exception):
    """Stands for a power cut."""


def test_a_campaign_that_was_killed_goes_on_and_ends_in_the_same_bytes(run: Run, tmp_path: Path) -> None:
    ours = replace(backbone_campaign("exact"), portion=lambda asked, first: 4)

    def cut(asked: Any, drawn: Drawn, folder: Path, numbers: Sequence[int], about: Mapping[str, Any]) -> Any:
        written = ours.write(asked, drawn, folder, numbers, about)
        if 8 in numbers:
            raise KilledError
        return written

    def draw(folder: Path, write: Callable[..., Any]) -> None:
        run.plan = replace(run.plan, product=replace(run.product, campaign=replace(ours, write=write)))
        run.campaign(12, folder, length="20-30", min_valid=0.9, ensemble=True)

    draw(tmp_path / "whole", ours.write)
    with pytest.raises(KilledError):
        draw(tmp_path / "cut", cut)
    assert 0 < len(contents(tmp_path / "cut")) < len(contents(tmp_path / "whole"))
    draw(tmp_path / "cut", ours.write)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_page_of_many_designs_shows_those_that_pass_first_and_says_so(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "SHOWN", 10)
    run.campaign(16, tmp_path, length="20", min_valid=0.9)
    page = (tmp_path / "designs.html").read_text()
    assert page.count('<tr class="passed">') == 10
    assert "this page shows 10 of them" in page
    assert "16 designs of 20 residues, 12 pass" in page
    assert len(rows(tmp_path)) == 16


def test_further_measures_add_their_columns_and_tables_tell_what_was_learned(
    run: Run, tmp_path: Path
) -> None:
    def score(chains: Any) -> dict[str, torch.Tensor]:
        return {"score": torch.tensor([float(len(chain)) for chain in chains])}

    measures = (*backbone_campaign("x").write.args[1], score)  # type: ignore[attr-defined]
    run.plan = replace(run.plan, product=replace(run.product, campaign=backbone_campaign("x", measures)))
    run.campaign(2, tmp_path, length="20")
    assert "were learned: look at" in (tmp_path / "designs.html").read_text()
    assert [row["learned_lengths"] for row in rows(tmp_path)] == ["32-64", "32-64"]
    assert [row["score"] for row in rows(tmp_path)] == ["20", "20"]


def test_whole_backbones_keep_their_ca_atoms_and_have_peptide_bonds(run: Run, tmp_path: Path) -> None:
    run.campaign(2, tmp_path / "ca", length="40", files="pdb")
    run.campaign(2, tmp_path / "whole", length="40", files="pdb", backbone=True, ensemble=True)
    for name in ("design_000000.pdb", "design_000001.pdb"):
        places = files.read_chain(tmp_path / "whole" / name)
        torch.testing.assert_close(places, files.read_chain(tmp_path / "ca" / name))
        chain = gemmi.read_structure(str(tmp_path / "whole" / name))[0]["A"]
        assert [[atom.name for atom in residue] for residue in chain] == [["N", "CA", "C", "O"]] * 40
        bonds = [a["C"][0].pos.dist(b["N"][0].pos) for a, b in zip(chain, list(chain)[1:], strict=False)]
        assert sum(bonds) / len(bonds) == pytest.approx(1.33, abs=0.03)
    assert len(gemmi.read_structure(str(tmp_path / "whole" / "ensemble.pdb"))[0]["A"][0]) == 4
