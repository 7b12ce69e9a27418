"""The committed structures: real, documented, split by family."""

from __future__ import annotations

import pytest
import torch

from fewstep.protocol import Key
from fewstep_protein.structures import geometry, segments, sources


def test_every_segment_has_its_provenance() -> None:
    rows = segments.provenance()
    assert len(rows) == len(segments.structures()) > 150
    for row, segment in zip(rows, segments.structures(), strict=True):
        assert len(row["pdb"]) == 4
        assert row["package"]
        assert int(row["length"]) == len(row["sequence"]) == len(segment.coordinates)


def test_stored_segments_are_unbroken_chains_of_real_bond_lengths() -> None:
    bonds = torch.cat([geometry.bonds(s.coordinates) for s in segments.structures()])
    assert 0.349 < float(bonds.min()) <= float(bonds.max()) < 0.411
    assert float(bonds.median()) == pytest.approx(geometry.IDEAL_BOND, abs=2e-3)


def test_real_turns_are_right_handed() -> None:
    counted = [geometry.turns(s.coordinates) for s in segments.structures()]
    assert sum(right for right, _ in counted) / sum(count for _, count in counted) > 0.95


def test_no_family_is_on_both_sides_of_the_split() -> None:
    train, held_out = segments.split(held_out=False), segments.split(held_out=True)
    assert len(train) + len(held_out) == len(segments.structures())
    assert len(held_out) >= 10
    assert not {s.family for s in train} & {s.family for s in held_out}


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
    with pytest.raises(ValueError, match="the longest here has"):
        sources.Windows(segments.split(held_out=False), 4, 12, 5000)
