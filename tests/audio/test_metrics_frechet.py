"""Frechet distances: closed forms, identity, worse and worse sounds, and names."""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from fewstep.protocol import Key
from fewstep_audio.metrics.frechet import (
    Embedding,
    by_mel,
    by_posteriorgram,
    by_voice,
    distance,
    frechet_of,
    gaussian,
)

needs_voices = pytest.mark.skipif(
    find_spec("resemblyzer") is None, reason="pip install --no-deps resemblyzer"
)
needs_notes = pytest.mark.skipif(find_spec("basic_pitch") is None, reason="pip install --no-deps basic-pitch")


def test_it_is_symmetric_and_zero_between_equals() -> None:
    rows = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    other = 1.3 * rows.roll(3, 1) + 0.2
    assert distance(rows, rows) == pytest.approx(0, abs=1e-9)
    assert distance(rows, other) == pytest.approx(distance(other, rows), rel=1e-9)


def test_few_rows_in_many_dimensions_have_a_covariance_of_full_rank() -> None:
    _, cov = gaussian(torch.randn(10, 50, generator=torch.Generator().manual_seed(0)))
    assert float(torch.linalg.eigvalsh(cov)[0]) > 1e-3


@pytest.mark.parametrize(
    "embedding",
    [
        pytest.param(by_voice(), marks=needs_voices),
        pytest.param(by_mel(), id="mel"),
        pytest.param(by_posteriorgram(), marks=needs_notes),
    ],
    ids=lambda one: one.name if isinstance(one, Embedding) else "",
)
def test_noise_leads_away_step_by_step_and_nothing_leads_nowhere(embedding: Embedding, sounds: Any) -> None:
    waves = sounds.resynthesized
    ladder = [
        frechet_of(embedding, sounds.noisy(size), waves, sounds.rate, Key(0))
        for size in (0.0, 0.01, 0.03, 0.1)
    ]
    assert ladder[0].value == pytest.approx(0, abs=1e-6)
    assert sounds.rising([one.value for one in ladder])
    assert ladder[0].name == embedding.name
    assert ladder[0].halves > 0


def test_nothing_is_compared_with_nothing(sounds: Any) -> None:
    with pytest.raises(ValueError, match="got 0 and 1"):
        frechet_of(by_mel(), [], sounds.resynthesized[:1], sounds.rate, Key(0))


def test_sounds_shorter_than_a_window_are_padded(sounds: Any) -> None:
    assert by_mel().fn(sounds.resynthesized[0][:2000], sounds.rate).shape == (1, 160)
    assert not math.isnan(float(by_mel().fn(sounds.resynthesized[0][:2000], sounds.rate).sum()))
