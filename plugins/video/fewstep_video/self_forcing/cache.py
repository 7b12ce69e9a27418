"""What a stream remembers: a value, never changed in place.

A cache that is a value can be handed to two continuations, kept across a backward pass, or recomputed by gradient
checkpointing without anyone noticing; a mutated buffer cannot. Huang et al. 2025 (Self Forcing) sec. 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Cache:
    """Keys and values of finished frames: the first ``sink`` frames for ever, then the newest ``window``.

    Args:
        sink: frames at the beginning of the stream that are never dropped (attention sink, Xiao et al. 2024).
        window: past frames that are seen beside the sink; None = all.
        kv: (layers, 2, B, heads, n, P, E), oldest first; None before the first frame.
        seen: frames committed so far, dropped ones included.
    """

    sink: int
    window: int | None
    kv: Tensor | None = None
    seen: int = 0

    def commit(self, new: Tensor) -> Cache:
        """The cache after more finished frames; this one stays as it was.

        Args:
            new: (layers, 2, B, heads, F, P, E) raw keys and values of the finished frames.
        """
        kv = new if self.kv is None else torch.cat([self.kv, new], 4)
        return replace(self, kv=self._kept(kv), seen=self.seen + new.shape[4])

    @property
    def frames(self) -> int:
        """Frames that are held."""
        return 0 if self.kv is None else int(self.kv.shape[4])

    @property
    def bytes(self) -> int:
        """Memory that the cache holds."""
        return 0 if self.kv is None else self.kv.untyped_storage().nbytes()

    def _kept(self, kv: Tensor) -> Tensor:
        """Sink and window only. Copies, so that dropped frames are really freed."""
        if self.window is None or kv.shape[4] <= self.sink + self.window:
            return kv
        newest = kv[:, :, :, :, kv.shape[4] - self.window :]
        return torch.cat([kv[:, :, :, :, : self.sink], newest], 4)
