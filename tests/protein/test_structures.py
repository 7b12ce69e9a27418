"""The committed structures: real, documented, split by fold; and the sources that draw from them."""

from __future__ import annotations

import pytest
import torch

from fewstep.errors import FewstepError
from fewstep.protocol import Key
from fewstep_protein.structures import clusters, geometry, segments, sources


def test_every_segment_has_its_provenance() -> None:
    rows = segments.provenance()
    assert len(rows) == len(segments.structures()) > 1250
    for row, segment in zip(rows, segments.structures(), strict=True):
        assert len(row["pdb"]) == 4
        assert row["package"]
        assert segment.name == f"{row['pdb']}_{row['chain']}_{row['first_residue']}"
        assert row["sequence"] == segment.sequence
        assert int(row["length"]) == len(row["sequence"]) == len(segment.coordinates)


def test_stored_segments_are_unbroken_chains_of_real_bond_lengths() -> None:
    bonds = torch.cat([geometry.bonds(s.coordinates) for s in segments.structures()])
    assert 0.349 < float(bonds.min()) <= float(bonds.max()) < 0.411
    assert float(bonds.median()) == pytest.approx(0.380, abs=2e-3)


def test_every_shipped_backbone_is_whole_and_has_ideal_distances() -> None:
    for structure in segments.structures():
        assert structure.backbone is not None
        torch.testing.assert_close(structure.backbone[:, 1], structure.coordinates)
    amine, alpha, carbonyl = torch.cat([s.backbone for s in segments.structures()]).unbind(1)
    assert float((amine - alpha).norm(dim=-1).mean()) == pytest.approx(0.146, abs=1e-3)
    assert float((carbonyl - alpha).norm(dim=-1).mean()) == pytest.approx(0.1525, abs=1e-3)


def test_amino_acids_are_left_handed() -> None:
    # Seen from N along N-CA-C, with the next N: the peptide angles of L-residues lie at negative phi but for glycine.
    backbone = torch.cat([s.backbone[:-1] for s in segments.structures()])
    after = torch.cat([s.backbone[1:] for s in segments.structures()])
    chain = torch.stack([backbone[:, 2], after[:, 0], after[:, 1], after[:, 2]], 1)
    phi = geometry.dihedrals(chain)[:, 0]
    assert float((phi < 0).double().mean()) > 0.9


def test_real_turns_are_right_handed() -> None:
    counted = [geometry.turns(s.coordinates) for s in segments.structures()]
    assert sum(right for right, _ in counted) / sum(count for _, count in counted) > 0.95


def test_no_family_and_no_cluster_is_on_both_sides_of_the_split() -> None:
    train, held_out = segments.split(held_out=False), segments.split(held_out=True)
    assert len(train) + len(held_out) == len(segments.structures())
    assert len({s.cluster for s in held_out}) >= 25
    assert not {s.family for s in train} & {s.family for s in held_out}
    assert not {s.cluster for s in train} & {s.cluster for s in held_out}


def test_no_held_out_segment_of_a_sample_has_the_fold_of_a_training_one() -> None:
    train, held_out = segments.split(held_out=False), segments.split(held_out=True)
    for number in range(60):
        mine = held_out[7 * number % len(held_out)]
        near = min(train[number::60], key=lambda s: abs(len(s.sequence) - len(mine.sequence)))
        assert clusters.tm_score(*(s.coordinates.double().numpy() * 10 for s in (mine, near))) <= 0.5


def test_the_score_of_a_chain_with_itself_and_with_a_part_of_it_is_one() -> None:
    whole = segments.structures()[3].coordinates.double().numpy() * 10
    assert clusters.tm_score(whole, whole) == pytest.approx(1.0, abs=1e-6)
    assert clusters.tm_score(whole, whole[:50].copy()) == pytest.approx(1.0, abs=1e-6)
    assert clusters.tm_score(whole[:50].copy(), whole) == pytest.approx(1.0, abs=1e-6)


def test_held_out_windows_of_all_lengths_up_to_128_come_from_several_folds() -> None:
    for length, folds in ((32, 25), (64, 25), (100, 10), (128, 2)):
        assert sum(len(s.coordinates) >= length for s in segments.split(held_out=True)) >= folds


def test_windows_are_centered_masked_and_within_the_asked_lengths() -> None:
    source = sources.Windows(segments.split(held_out=False), size=16, shortest=12, longest=30)
    batch = source.batch(0, Key(3))
    count = batch.mask[..., 0].sum(1)
    assert batch.x.shape[1] <= 30
    assert 12 <= int(count.min()) <= int(count.max()) <= 30
    assert float((batch.x * ~batch.mask).abs().max()) == 0
    torch.testing.assert_close(batch.x.sum(1), torch.zeros(16, 3), atol=1e-4, rtol=0)


def test_a_batch_is_a_pure_function_of_its_counter_and_key() -> None:
    source = sources.Windows(segments.split(held_out=False), size=4, shortest=12, longest=30)
    torch.testing.assert_close(source.batch(7, Key(1)).x, source.batch(7, Key(1)).x, atol=0, rtol=0)
    assert not torch.equal(source.batch(0, Key(1)).x[:, :12], source.batch(0, Key(2)).x[:, :12])
    assert not torch.equal(source.batch(0, Key(1)).x[:, :12], source.batch(1, Key(1)).x[:, :12])


def test_two_ranks_together_draw_the_lengths_and_windows_of_one_process() -> None:
    source = sources.Windows(segments.split(held_out=False), size=8, shortest=12, longest=30)
    parts = [source.batch(0, Key(5, shard=(rank, 2))) for rank in range(2)]
    whole = source.batch(0, Key(5))
    torch.testing.assert_close(torch.cat([part.x for part in parts]), whole.x, atol=0, rtol=0)


def test_requests_carry_lengths_and_no_data() -> None:
    batch = sources.Lengths(8, 10, 20).batch(0, Key(0))
    assert batch.x is None
    assert float(batch.like.abs().max()) == 0
    assert batch.mask.shape == (*batch.like.shape[:2], 1)


@pytest.mark.parametrize(("shortest", "longest"), [(0, 10), (-3, 10), (20, 10), (5, 10)])
def test_impossible_lengths_are_refused_with_the_numbers(shortest: int, longest: int) -> None:
    with pytest.raises(ValueError, match=f"got {shortest} to {longest}"):
        sources.Lengths(4, shortest, longest)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one chain"):
        sources.Windows(segments.split(held_out=False), 0, 12, 20)


def test_a_window_longer_than_every_chain_is_refused_with_what_there_is() -> None:
    with pytest.raises(FewstepError, match="the longest here has"):
        sources.Windows(segments.split(held_out=False), 4, 12, 5000)


def test_windows_of_one_length_are_equally_likely() -> None:
    cutting = sources.Cutting(segments.structures()[:3])
    room = [len(s.coordinates) - 40 + 1 for s in cutting.segments]
    marks = (torch.arange(sum(room)) + 0.5) / sum(room)
    seen = [(s.name, start) for s, start in (cutting.at(40, float(mark)) for mark in marks)]
    wanted = [(s.name, start) for s, n in zip(cutting.segments, room, strict=True) for start in range(n)]
    assert seen == wanted


def test_labels_are_told_only_when_asked_and_are_those_of_the_segments() -> None:
    train = segments.split(held_out=False)
    silent = sources.Windows(train, 8, 20, 30).batch(0, Key(1))
    told = sources.Windows(train, 8, 20, 30, labels=True).batch(0, Key(1))
    assert silent.cond.data is None
    torch.testing.assert_close(told.x, silent.x, atol=0, rtol=0)
    assert told.cond.data["cath"].shape == (8, 3)
    assert told.cond.data["cath"].dtype == torch.int64
    asked = sources.Lengths(4000, 60, 60, labelled=train).batch(0, Key(2)).cond.data["cath"][:, 0]
    room = torch.tensor([max(0, len(s.coordinates) - 59) for s in train]).double()
    share = float(room[[s.labels[0] == 1 for s in train]].sum() / room.sum())
    assert float((asked == 1).double().mean()) == pytest.approx(share, abs=0.03)
