"""Metrics: right on real clips, and each one fails what it is there to catch."""

from __future__ import annotations

import pytest
import torch

from fewstep.protocol import Key
from fewstep_video.data import ClipShape, MovingDigits
from fewstep_video.metrics import clip_distance, dynamics, flicker, legibility, look

SHAPE = ClipShape(frames=6, height=16, width=16)


@pytest.fixture(scope="module")
def real():
    return MovingDigits(SHAPE, rows=64, split="test").batch(0, Key(1))


def value(metric, x, batch):
    return metric.fn(x, batch, Key(0)).value


def test_real_held_out_digits_are_read(real):
    assert value(legibility(), real.x, real) > 0.85


def test_other_digits_than_those_asked_for_are_not_read(real):
    assert value(legibility(), real.x.roll(1, 0), real) < 0.35


def test_blank_clips_are_not_read(real):
    assert value(legibility(), torch.full_like(real.x, -0.25), real) < 0.35


def test_rigid_digits_do_not_flicker_wherever_they_go(real):
    assert value(flicker(), real.x, real) < 1e-5


def test_a_digit_that_changes_from_frame_to_frame_flickers(real):
    mixed = torch.cat([real.x[:, :3], real.x.roll(1, 0)[:, 3:]], 1)
    assert value(flicker(), mixed, real) > 0.1


def test_other_real_clips_are_near_and_blurred_ones_far(real):
    other = MovingDigits(SHAPE, rows=64).batch(0, Key(2)).x
    blurred = torch.nn.functional.avg_pool2d(other.flatten(0, 1), 3, 1, 1).view_as(other)
    near, far = value(clip_distance(), other, real), value(clip_distance(), blurred, real)
    # Over keys 2 to 5: near 0.07, -0.02, 0.02, -0.02; blurred 0.37, 0.30, 0.32, 0.30; frozen 1.09 to 1.12.
    assert near < 0.2
    assert far > 0.25


def test_a_frozen_clip_is_far_from_real_ones(real):
    frozen = real.x[:, :1].expand_as(real.x)
    assert value(clip_distance(), frozen, real) > 0.8


def test_real_clips_are_as_lively_as_themselves_and_frozen_ones_not_at_all(real):
    assert value(dynamics(), real.x, real) == pytest.approx(1.0)
    assert value(dynamics(), real.x[:, :1].expand_as(real.x), real) == pytest.approx(0.0)


def test_the_center_of_a_shifted_digit_is_shifted_with_it(real):
    still = MovingDigits(ClipShape(1, 16, 16), rows=8, stride=8).batch(0, Key(3)).x
    corner = torch.full_like(still, -0.25)
    corner[..., :8, :8] = 1.0
    moved = corner.roll((2, 3), (-2, -1))
    assert torch.allclose(look(moved).centers - look(corner).centers, torch.tensor([2.0, 3.0]), atol=1e-3)
