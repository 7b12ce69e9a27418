"""Moving digits: real handwritten digits that cross a small canvas and bounce off its walls.

Images are the 1797 8x8 digits that scikit-learn ships (UCI "Optical Recognition of Handwritten Digits", 43 writers).
Shape legend: B clips, F frames, C channels (1), H and W canvas. Pixels are in [-1, 1], background -1. States are
pixels minus ``MEAN``, so that a process sees data around zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from fewstep.protocol import Batch, Cond, Key

GLYPH = 8
"""Side of a digit, pixels."""
CLASSES = 10
"""Digits 0 to 9."""

MEAN = -0.75
"""Mean pixel, about: most of a canvas is background."""

Split = Literal["train", "test"]


@dataclass(frozen=True)
class ClipShape:
    """What a clip measures.

    Args:
        frames: F.
        height: H, pixels.
        width: W, pixels.
        channels: C.

    Raises:
        ValueError: if there is no frame, or a digit does not fit the canvas.
    """

    frames: int
    height: int
    width: int
    channels: int = 1

    def __post_init__(self) -> None:
        """Refuse clips that cannot exist."""
        if self.frames < 1:
            raise ValueError(f"a clip needs at least one frame, got {self.frames}; ask for 1 or more")
        if min(self.height, self.width) < GLYPH:
            raise ValueError(
                f"a digit is {GLYPH} pixels high and wide; a canvas of {self.height} x {self.width} cannot hold it"
            )

    def like(self, number: int) -> Tensor:
        """(number, F, C, H, W) expanded zero: a shape that costs no memory.

        Raises:
            ValueError: if ``number`` is not positive.
        """
        if number < 1:
            raise ValueError(f"need at least one clip, got {number}")
        return torch.zeros(1).expand(number, self.frames, self.channels, self.height, self.width)


@dataclass(frozen=True)
class MovingDigits:
    """A source of clips: one digit, constant velocity, elastic walls; condition = its class.

    Args:
        shape: of a clip.
        rows: clips in a batch, over all ranks together.
        stride: pixels that a digit moves per frame along an axis where it moves at all; its places are multiples.
        split: which digits; every fifth image is kept out of "train".
        teacher_forcing: also put the clean clip into the condition as "past", for causal training.
    """

    shape: ClipShape
    rows: int
    stride: int = 4
    split: Split = "train"
    teacher_forcing: bool = False

    def batch(self, index: int, key: Key) -> Batch:
        """The ``index``-th batch, this rank's rows of it: states x (B, F, C, H, W), condition {"label": (B,)}.

        Raises:
            ValueError: if the ranks cannot share the rows evenly.
        """
        rows, key = key.share(self.rows), key.at("clips", index)
        images, labels = digits(self.split)
        chosen = key.at("image").integers((rows,), len(images))
        clips = render(images[chosen], paths(self.shape, rows, self.stride, key), self.shape) - MEAN
        data = {"label": labels[chosen]}
        if self.teacher_forcing:
            data["past"] = clips
        return Batch(like=clips, x=clips, cond=Cond(data=data))


@lru_cache(maxsize=2)
def digits(split: Split) -> tuple[Tensor, Tensor]:
    """Images (N, 8, 8) in [-1, 1] and labels (N,) int64 of one split."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    images = torch.from_numpy(loaded.images).float() / 8 - 1
    labels = torch.from_numpy(loaded.target).long()
    held_out = torch.arange(len(images)) % 5 == 4
    keep = held_out if split == "test" else ~held_out
    return images[keep], labels[keep]


def paths(shape: ClipShape, rows: int, stride: int, key: Key) -> Tensor:
    """(B, F, 2) top-left corners (row, column) of a digit that bounces between the walls, in pixels.

    Raises:
        ValueError: if ``stride`` is not positive.
    """
    if stride < 1:
        raise ValueError(f"a digit moves by whole pixels, got a stride of {stride}; ask for 1 or more")
    room = [(side - GLYPH) // stride for side in (shape.height, shape.width)]
    steps = [(-1, 0, 1) if places else (0,) for places in room]
    ways = torch.tensor([(a, b) for a in steps[0] for b in steps[1] if (a, b) != (0, 0)] or [(0, 0)])
    velocity = ways[key.at("velocity").integers((rows,), len(ways))]
    time = torch.arange(shape.frames)
    axes = []
    for axis, places in enumerate(room):
        start = key.at("start", axis).integers((rows,), places + 1)
        axes.append(_bounce(start[:, None] + velocity[:, axis, None] * time, places))
    return stride * torch.stack(axes, -1)


def render(images: Tensor, corners: Tensor, shape: ClipShape) -> Tensor:
    """Paste images (B, 8, 8) at corners (B, F, 2) onto an empty canvas: (B, F, 1, H, W)."""
    rows = torch.arange(shape.height) - corners[..., :1]
    columns = torch.arange(shape.width) - corners[..., 1:]
    inside = ((rows >= 0) & (rows < GLYPH))[..., :, None] & ((columns >= 0) & (columns < GLYPH))[..., None, :]
    which = torch.arange(len(images))[:, None, None, None]
    pasted = images[which, rows.clamp(0, GLYPH - 1)[..., :, None], columns.clamp(0, GLYPH - 1)[..., None, :]]
    return torch.where(inside, pasted, torch.full_like(pasted, -1.0))[:, :, None]


def pixels(states: Tensor) -> Tensor:
    """States as pixels in [-1, 1]; what lies outside is clipped."""
    return (states + MEAN).clamp(-1, 1)


def labels_of(batch: Batch) -> Tensor:
    """(B,) class of each clip.

    Raises:
        ValueError: if the condition carries no label.
    """
    if not isinstance(batch.cond.data, Mapping) or "label" not in batch.cond.data:
        raise ValueError("a batch of moving digits must carry cond.data['label']; this one does not")
    labels: Tensor = batch.cond.data["label"]
    return labels


def _bounce(position: Tensor, room: int) -> Tensor:
    """Fold the integer line onto 0..room by reflection."""
    if room == 0:
        return torch.zeros_like(position)
    return room - (position.remainder(2 * room) - room).abs()
