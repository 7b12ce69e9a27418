"""``protein/sequence-didi`` from settings to files."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from fewstep.engine import execute
from fewstep.objectives import RatioPolicy
from fewstep.protocol import Batch, Cond, Drawn, Key, Plan, Site, Step
from fewstep.runs import evaluate
from fewstep_protein.sequence_didi import panels, recipe, writing
from fewstep_protein.sequence_didi.alphabet import HIDDEN, decode, encode, rows_of
from fewstep_protein.sequence_didi.config import SequenceConfig
from fewstep_protein.sequence_didi.request import SequenceRequest, portion, read_fixed, request

TINY = {
    "width": 8, "dilations": [1], "window": 6, "length": 10, "teacher_window": 8, "teacher_batch": 4, "teacher_steps": 4,
    "teacher_updates": 1, "updates": 2, "head_start": 1, "batch": 4, "samples": 16, "noise": 2,
}  # fmt: skip


def tiny(tmp_path: Path, **changes: object) -> tuple[Plan, Site]:
    config = SequenceConfig.model_validate({**TINY, **changes})
    site = Site(key=Key(config.seed), cache=tmp_path)
    return recipe.build(config, site), site


@pytest.mark.parametrize("data", ["dirichlet", "sharpened", "real"])
def test_every_law_has_a_teacher_a_student_and_counted_calls(data: str, tmp_path: Path) -> None:
    plan, site = tiny(tmp_path, data=data)
    found = evaluate(plan.product, execute(plan, site), Key(1))
    calls = {row.contender: row.evaluations for row in found.rows}
    assert calls == {
        "student": 2,
        "teacher": 4,
        "teacher_fewstep": 2,
        "teacher_1step": 1,
        "teacher_greedy": 2,
    }


@pytest.mark.parametrize("objective", ["ratio-policy", "dmd", "denoising"])
def test_another_objective_of_the_core_trains_the_same_student(objective: str, tmp_path: Path) -> None:
    plan, site = tiny(tmp_path, objective=objective)
    assert "student" in execute(plan, site)


def test_rewards_of_a_ratio_policy_are_compared_at_one_level_after_a_head_start(tmp_path: Path) -> None:
    plan, site = tiny(tmp_path, objective="ratio-policy", head_start=3)
    teacher = execute(plan, site)["teacher"]
    objective = plan.stages[-1].build({"teacher": teacher}).objective
    assert [phase.updates for phase in objective.phases(2)] == [("disc",)]
    assert [phase.updates for phase in objective.phases(3)] == [("disc",), ("student",)]
    assert isinstance(objective.inner, RatioPolicy)
    assert len(objective.inner.times((8,), Step.inference(Key(0)), Key(1)).unique()) == 1


def test_a_student_begins_as_exactly_its_teacher_and_hears_its_noise_later(tmp_path: Path) -> None:
    config = SequenceConfig.model_validate(TINY)
    teacher = recipe.make_teacher(config, recipe.load(config))
    student = recipe.make_student(config, teacher)
    x = torch.tensor([[3, HIDDEN, 5, HIDDEN]])
    noisy = Cond(data=torch.randn(1, 4, 2, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(student(x, torch.ones(1), noisy).x0, teacher(x, torch.ones(1)).x0)
    # Not all ones: the channels of a normalized layer add up to nothing.
    torch.nn.init.normal_(student.net.head.weight, generator=torch.Generator().manual_seed(1))
    still = student(x, torch.ones(1), Cond(data=torch.zeros(1, 4, 2))).x0
    assert float((student(x, torch.ones(1), noisy).x0 - still).detach().abs().max()) > 0.01


def test_the_probability_of_a_sample_is_that_under_its_own_noise(tmp_path: Path) -> None:
    config = SequenceConfig.model_validate(TINY)
    student = recipe.make_student(config, recipe.make_teacher(config, recipe.load(config)))
    torch.nn.init.normal_(student.net.head.weight, generator=torch.Generator().manual_seed(1))
    batch = Batch(like=torch.zeros(5, 9, dtype=torch.int64))
    sample = student.generate(batch, Step.inference(Key(4)))
    torch.testing.assert_close(student.logp(sample, batch), sample.logp)


def test_lengths_and_fixed_residues_are_kept(tmp_path: Path) -> None:
    plan, site = tiny(tmp_path)
    student = execute(plan, site)["student"]
    asked = SequenceRequest(length="12-20", fixed="1:M,10-12:GSG")
    batch = plan.product.request(asked, 6, Key(2))
    made = rows_of(student.sample(batch, Step.inference(Key(3))).x, batch.mask)
    texts = [decode(row.tolist()) for row in made]
    assert all(text[0] == "M" and text[9:12] == "GSG" and "_" not in text for text in texts)
    assert {len(text) for text in texts} <= set(range(12, 21))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("1", "is no place with letters"),
        ("0:M", "is no place with letters"),
        ("3-5:GS", "names 3 places and 2 letters"),
        ("2:GS,3:A", "residue 3 is fixed twice"),
        ("2:X", "holds X"),
        ("9:GSG", "residue 11 is fixed, but a sequence may have only 10"),
        ("1:GSGSGSGSGS", "all 10 residues are fixed"),
    ],
)
def test_fixed_residues_that_make_no_sense_are_told(wrong: str, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        SequenceRequest(length="10", fixed=wrong)


def test_all_that_is_wrong_with_fixed_residues_is_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"'1'.*'4-5:G'"):
        read_fixed("1,4-5:G")


def test_a_portion_holds_whole_turns_of_a_list_of_lengths() -> None:
    assert portion(SequenceRequest(length="60,80,100"), 9_999) == 255
    assert portion(SequenceRequest(length="512"), 10_000) == 256


def test_fasta_has_what_passes_and_the_table_has_all(tmp_path: Path) -> None:
    found = [encode("A" * 70), encode("ACDEFGHIKLMNPQRSTVWY")]
    about = {"recipe": "protein/sequence-didi", "teacher": "dirichlet chain"}
    kept = writing.records(SequenceRequest(max_run=5), found, [7, 8], about, ())
    fasta, table = writing.save(tmp_path, kept)
    assert fasta.read_text() == (
        '>sequence_000008 length=20 recipe=protein/sequence-didi teacher="dirichlet chain"\nACDEFGHIKLMNPQRSTVWY\n'
    )
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [(row["name"], row["passed"], row["reason"]) for row in rows] == [
        ("sequence_000007", "0", "run of 70"),
        ("sequence_000008", "1", ""),
    ]
    assert float(rows[0]["entropy"]) == 0


def test_biopython_reads_the_files_back(tmp_path: Path) -> None:
    seqio = pytest.importorskip("Bio.SeqIO", reason="pip install 'fewstep[protein]'")
    batch = request(SequenceRequest(length="61"), 2, Key(0))
    x = torch.randint(0, 20, (2, 61), generator=torch.Generator().manual_seed(0))
    fasta, _ = writing.write_sequences(x, batch, tmp_path, teacher="real", training=())
    assert [str(r.seq) for r in seqio.parse(fasta, "fasta")] == [decode(row.tolist()) for row in x]


def test_panels_show_every_contender_and_the_reference_in_words_too() -> None:
    x = torch.randint(0, 20, (4, 12), generator=torch.Generator().manual_seed(0))
    drawn = {"student": Drawn(x, Batch(like=x, x=x), 2, 0.1)}
    pairs = torch.full((20, 20), 1 / 400, dtype=torch.float64)
    made = [panel.render(drawn) for panel in panels.sequence_panels(pairs)]
    assert decode(x[0].tolist()) in made[0]
    assert "reference" in made[0]
    assert "student: composition of 48 residues" in made[1]
    assert made[2].count("<rect") == 400


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValidationError, match="path means nothing for data 'dirichlet'"):
        SequenceConfig.model_validate({"path": "x.npz"})
