"""Numbers about clips that need no downloaded network.

Every metric first finds the digit by its center of mass, so that what it looks like and how it moves are judged apart.
Shape legend: B clips, F frames, H and W canvas, K = 100 pixels of a centered crop.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fewstep.protocol import Batch, Key, Metric, Score
from fewstep.runs import bootstrap
from fewstep_video.data import ClipShape, MovingDigits, labels_of, pixels

CROP = 10
"""Side of the window around a digit, pixels."""


class Seen(NamedTuple):
    """What a clip shows.

    Args:
        crops: (B, F, K) ink around the center of mass, 0 to 1.
        centers: (B, F, 2) center of mass, row and column, pixels.
    """

    crops: Tensor
    centers: Tensor


def look(states: Tensor) -> Seen:
    """Find the digit in every frame of states (B, F, 1, H, W)."""
    ink = (pixels(states)[:, :, 0] + 1) / 2
    batch, frames, height, width = ink.shape
    flat = ink.flatten(0, 1)
    mass = flat.sum((1, 2)).clamp(min=1e-3)
    row = (flat.sum(2) * torch.arange(height)).sum(1) / mass
    column = (flat.sum(1) * torch.arange(width)).sum(1) / mass
    half = CROP // 2
    padded = torch.nn.functional.pad(flat, (half, half, half, half))
    around = torch.arange(CROP)
    rows = (row.round().long()[:, None] + around)[:, :, None]
    columns = (column.round().long()[:, None] + around)[:, None, :]
    crops = padded[torch.arange(len(flat))[:, None, None], rows, columns]
    return Seen(crops.reshape(batch, frames, -1), torch.stack([row, column], -1).view(batch, frames, 2))


def legibility() -> Metric:
    """Share of frames in which a classifier of real digits reads the digit that was asked for."""

    def measure(x: Tensor, batch: Batch, key: Key) -> Score:
        crops, _ = look(x)
        reader = _reader(int(x.shape[-2]), int(x.shape[-1]))
        read = torch.from_numpy(reader.predict(crops.flatten(0, 1).numpy())).view(crops.shape[:2])
        return bootstrap((read == labels_of(batch)[:, None]).double().mean(1), key)

    return Metric(
        "legibility",
        "higher",
        measure,
        "",
        "Frames read as the digit asked for, by a logistic regression on real digits.",
    )


def flicker() -> Metric:
    """Mean change of the centered digit from frame to frame, as a share of its ink: 0 for a rigid digit."""

    def measure(x: Tensor, batch: Batch, key: Key) -> Score:
        crops, _ = look(x)
        change = crops.diff(dim=1).abs().sum(-1) / crops[:, 1:].sum(-1).clamp(min=1e-3)
        return bootstrap(change.mean(1), key)

    return Metric(
        "flicker",
        "lower",
        measure,
        "",
        "Change of the centered digit between frames, share of its ink; 0 in real clips.",
    )


def clip_distance() -> Metric:
    """Energy distance (Szekely & Rizzo 2013) between generated and held-out real clips, on look and path together."""

    def measure(x: Tensor, batch: Batch, key: Key) -> Score:
        made, real = features(x), features(batch.x)
        apart = 2 * torch.cdist(made, real).mean(1) - _to_others(made) - _to_others(real).mean()
        return bootstrap(apart, key)

    return Metric(
        "clip_distance",
        "lower",
        measure,
        "",
        "Energy distance to real clips on appearance, flicker and path; 0 = same law.",
    )


def dynamics() -> Metric:
    """How far the digit moves per frame, relative to real clips: 0 is a frozen clip, 1 is as lively as data."""

    def measure(x: Tensor, batch: Batch, key: Key) -> Score:
        real = look(batch.x).centers.diff(dim=1).norm(dim=-1).mean()
        return bootstrap(look(x).centers.diff(dim=1).norm(dim=-1).mean(1) / real.clamp(min=1e-6), key)

    return Metric(
        "dynamics", "higher", measure, "", "Distance moved per frame, relative to real clips; 1 = the same."
    )


def _to_others(x: Tensor) -> Tensor:
    """(B,) mean distance of each row to the others; leaving itself out is what makes the estimate unbiased."""
    return torch.cdist(x, x).sum(1) / max(1, len(x) - 1)


def features(x: Tensor) -> Tensor:
    """(B, K + K + 2 (F - 1)) mean look, change of look, and steps of the path, each block scaled by its size."""
    crops, centers = look(x)
    change = crops.diff(dim=1).abs().mean(1) if x.shape[1] > 1 else torch.zeros_like(crops[:, 0])
    steps = centers.diff(dim=1).flatten(1) / max(1, x.shape[1] - 1) ** 0.5
    return torch.cat([crops.mean(1), change, steps], 1).double()


@lru_cache(maxsize=4)
def _reader(height: int, width: int) -> Any:
    """A classifier of centered crops of training digits at all places of a canvas; 0.92 right on held-out digits."""
    from sklearn.linear_model import LogisticRegression

    real = MovingDigits(ClipShape(1, height, width), 4000, stride=2).batch(0, Key(0))
    crops, _ = look(real.x)
    return LogisticRegression(max_iter=300).fit(crops[:, 0].numpy(), labels_of(real).numpy())
