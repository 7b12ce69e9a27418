"""The report's section: clips that play side by side, and the same frames as strips for those who would rather look."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from fewstep.protocol import Drawn, Panel
from fewstep.runs.media import columns, picture, player, png
from fewstep_video.data import labels_of, pixels
from fewstep_video.files import encode, to_pixels

SHOWN = 3
"""Clips per contender."""


def clips_panel() -> Panel:
    """Real clips, then every contender, on the same conditions."""
    return Panel("Clips", _clips)


def strip(clip: Tensor, scale: int = 3) -> bytes:
    """Frames of a pixel clip (F, C, H, W) from left to right, one gray pixel between them, as a PNG file."""
    frames = to_pixels(clip, scale)
    parted = np.pad(frames, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=128)
    return png(np.ascontiguousarray(np.concatenate(list(parted), axis=1)))


def _clips(drawn: Mapping[str, Drawn]) -> str:
    batch = next(iter(drawn.values())).batch
    labels = labels_of(batch).tolist()
    real = {} if batch.x is None else {"real": batch.x}
    shown = {**real, **{name: item.x for name, item in drawn.items()}}
    parts = {name: _column(name, pixels(x[:SHOWN]), labels) for name, x in shown.items()}
    return (
        "<p>The same digits were asked of everyone. The clips loop; each has its own controls, and its frames stand "
        "below it from left to right.</p>" + columns(parts)
    )


def _column(name: str, clips: Tensor, labels: list[int]) -> str:
    cells = []
    for place, (clip, label) in enumerate(zip(clips, labels, strict=False)):
        text = f"{name}, clip {place + 1}: digit {label}"
        cells.append(
            player(
                "video/mp4",
                encode(clip),
                text,
                attributes='controls loop muted playsinline style="width:100%;max-width:16rem;image-rendering:pixelated"',
            )
        )
        cells.append(picture(strip(clip), f"Frames of {text}", caption=False))
    return "".join(cells)
