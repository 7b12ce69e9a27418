"""Frechet distances and scores of classes against closed forms; descriptors of users are checked when they answer."""

from __future__ import annotations

import math
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.errors import FewstepError
from fewstep.protocol import Batch, Key
from fewstep_protein.metrics import backbones, descriptor, frechet, labels
from fewstep_protein.structures import segments, sources


@pytest.fixture(scope="module")
def real() -> Batch:
    return sources.Windows(segments.split(held_out=True), 32, 24, 32).batch(0, Key(0))


def test_sets_drawn_from_two_gaussians_are_as_far_apart_as_these() -> None:
    rows = Key(0).normal(torch.zeros(8_000, 3).double())
    score = frechet.between(2 * rows[:4_000] + 1, rows[4_000:], Key(1))
    assert score.value == pytest.approx(3 * (1 + 1), rel=0.08)
    assert score.low <= score.value <= score.high


def test_a_descriptor_has_shares_between_zero_and_one_and_turns_with_nothing(real: Batch) -> None:
    chains = [s.coordinates[:40] for s in segments.structures()[:6]]
    rows = descriptor.describe_shapes(chains)
    assert rows.shape == (6, descriptor.SIZE)
    assert descriptor.SIZE == 46
    assert float(rows.min()) >= 0
    assert float(rows.max()) < 3
    turn, _ = torch.linalg.qr(Key(4).normal(torch.zeros(3, 3).double()))
    moved = [(c.double() @ (turn * torch.linalg.det(turn)).T + 1).float() for c in chains]
    torch.testing.assert_close(descriptor.describe_shapes(moved), rows, atol=1e-3, rtol=0)


def test_a_descriptor_tells_hands_apart() -> None:
    chain = segments.structures()[0].coordinates[:60]
    rows = descriptor.describe_shapes([chain, chain * torch.tensor([1.0, 1.0, -1.0])])
    assert float((rows[0] - rows[1]).abs().max()) > 0.1


def test_training_chains_are_nearer_to_real_ones_than_broken_ones(real: Batch) -> None:
    found = {metric.name: metric for metric in backbones.backbone_metrics()}
    noisy = real.x + 0.1 * Key(2).normal(real.x) * real.mask
    far, over = (
        found[name].fn(noisy, real, Key(1)) for name in ("frechet_geometry", "frechet_geometry_ratio")
    )
    assert over.low > 1
    lengths = [int(n) for n in real.mask.sum((1, 2))]
    known = [s.coordinates for s in segments.split(held_out=False)]
    shown = sources.pad(frechet.windows_like(lengths, known, frechet.FLOOR), real.like.shape[1])
    assert found["frechet_geometry_ratio"].fn(shown.x, real, Key(1)).value == pytest.approx(1)
    assert far.value / over.value == pytest.approx(found["frechet_geometry"].fn(shown.x, real, Key(1)).value)


def test_clear_and_different_classes_score_their_number_and_one_class_scores_one() -> None:
    clear = torch.eye(4).double().repeat(20, 1)  # each of the ten parts holds every class twice
    assert float(labels.fold_score(clear)) == pytest.approx(4)
    assert labels.fold_score(clear.expand(3, 80, 4)).tolist() == pytest.approx([4, 4, 4])
    assert float(labels.fold_score(torch.eye(4).double()[:1].expand(80, 4))) == pytest.approx(1)
    assert float(labels.fold_score(torch.full((80, 4), 0.25).double())) == pytest.approx(1)


def test_classes_that_never_meet_are_log_two_apart() -> None:
    first, second = torch.tensor([0.5, 0.5, 0, 0]).double(), torch.tensor([0, 0, 0.3, 0.7]).double()
    assert float(labels.jensen_shannon(first, second)) == pytest.approx(math.log(2))
    assert float(labels.jensen_shannon(first, first)) == 0


def extractor(monkeypatch: pytest.MonkeyPatch, fn: Any, **about: Any) -> str:
    """A module of a user's own that holds ``fn``."""
    module = ModuleType("views")
    for name, value in about.items():
        setattr(fn, name, value)
    module.look = fn
    monkeypatch.setitem(sys.modules, "views", module)
    return "views:look"


def test_an_extractor_of_a_user_gives_distances_and_scores_of_its_classes(
    monkeypatch: pytest.MonkeyPatch, real: Batch
) -> None:
    asked: list[int] = []

    def look(chains: list[Any]) -> dict[str, Any]:
        asked.append(len(chains))
        size = torch.tensor([[float(chain.std()), len(chain)] for chain in chains])
        likely = torch.tensor([[0.9, 0.1] if chain.std() < 0.8 else [0.2, 0.8] for chain in chains])
        return {"features": size, "C": likely}

    target = extractor(monkeypatch, look, name="size", heads=("C",))
    found = {metric.name: metric for metric in backbones.backbone_metrics(extractor=target)}
    assert {"frechet_size", "frechet_size_ratio", "fS_C", "fJSD_C"} <= set(found)
    assert found["frechet_size"].fn(real.x, real, Key(1)).value == pytest.approx(0, abs=1e-6)
    assert found["fJSD_C"].fn(real.x, real, Key(1)).value == pytest.approx(0, abs=1e-9)
    assert 1 <= found["fS_C"].fn(real.x, real, Key(1)).value <= 2
    assert asked == [32]
    assert found["frechet_size"].fn(2 * real.x, real, Key(1)).value > 0.1
    assert found["fJSD_C"].fn(4 * real.x, real, Key(1)).value > 0.01


def test_an_extractor_that_gives_something_else_is_told_everything_that_is_wrong(
    monkeypatch: pytest.MonkeyPatch, real: Batch
) -> None:
    def look(chains: list[Any]) -> dict[str, Tensor]:
        return {"features": torch.zeros(3, 2), "C": torch.full((len(chains), 2), 0.7)}

    target = extractor(monkeypatch, look, heads=("C", "A"))
    metric = next(m for m in backbones.backbone_metrics(extractor=target) if m.name == "frechet_look")
    with pytest.raises(FewstepError) as told:
        metric.fn(real.x, real, Key(1))
    for wrong in ("no A", "features of shape (3, 2)", "C that do not sum to one", "rows for 32 chains"):
        assert wrong in str(told.value)


def test_an_extractor_that_is_not_there_is_told_before_anything_is_drawn() -> None:
    with pytest.raises(FewstepError, match="nowhere"):
        backbones.backbone_metrics(extractor="nowhere:at_all")
