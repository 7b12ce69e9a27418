"""Clips to and from video files, through PyAV (its wheels carry FFmpeg).

Shape legend: F frames, C channels (1 or 3), H and W pixels; values in [-1, 1].
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewstep.errors import FewstepError
from fewstep.protocol import Batch
from fewstep_video.data import labels_of, pixels

RATE = 8
"""Frames per second of written clips."""

SCALE = 8
"""Every pixel of a small canvas becomes a square of this side, so that players do not smear it."""


def to_pixels(clip: Tensor, scale: int = SCALE) -> NDArray[np.uint8]:
    """(F, C, H, W) in [-1, 1] -> (F, H * scale, W * scale, 3) uint8; values outside are clipped.

    Raises:
        ValueError: if the clip is not (F, 1 or 3, H, W) with at least one frame, or is not finite.
    """
    if clip.ndim != 4 or clip.shape[0] < 1 or clip.shape[1] not in (1, 3):
        raise ValueError(f"a clip is (frames >= 1, channels 1 or 3, height, width); got {tuple(clip.shape)}")
    if not bool(torch.isfinite(clip).all()):
        raise ValueError("the clip holds NaN or infinity; nothing was written. Did the training diverge?")
    levels = ((clip.detach().cpu().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    large = levels.repeat_interleave(scale, 2).repeat_interleave(scale, 3).permute(0, 2, 3, 1)
    return np.ascontiguousarray(large.expand(-1, -1, -1, 3).numpy())


def encode(clip: Tensor, *, rate: int = RATE, scale: int = SCALE) -> bytes:
    """H.264 in mp4, as browsers play it (yuv420p)."""
    pixels = to_pixels(clip, scale)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264", rate=Fraction(rate), options={"crf": "18", "preset": "veryfast"}
        )
        stream.height, stream.width = pixels.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for picture in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def decode(video: bytes | Path) -> Tensor:
    """Frames of a video file as (F, 3, H, W) in [-1, 1]."""
    source = io.BytesIO(video) if isinstance(video, bytes) else str(video)
    with av.open(source) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1


def write_clips(x: Tensor, batch: Batch, folder: Path) -> Sequence[Path]:
    """One mp4 per clip, named by its place and class: ``00-digit-7.mp4``.

    Args:
        x: (B, F, C, H, W) states.
        batch: carries the classes.
        folder: made if it is not there.

    Raises:
        FewstepError: if a sample is not finite.
    """
    if not bool(torch.isfinite(x).all()):
        raise FewstepError(
            "the clips hold NaN or infinity; nothing was written",
            "finite samples",
            "look at the losses of the run: the training diverged",
        )
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for place, (clip, label) in enumerate(zip(pixels(x), labels_of(batch).tolist(), strict=True)):
        path = folder / f"{place:02d}-digit-{label}.mp4"
        path.write_bytes(encode(clip))
        written.append(path)
    return written
