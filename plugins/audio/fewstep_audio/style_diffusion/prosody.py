"""How something is said: pitch, loudness and duration of every phone, three numbers each.

One value of the pitch for a phone as in FastPitch (Lancucki 2021 sec. 2.2). Shape legend: T frames, P phones, B batch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

PITCH, ENERGY, DURATION = range(3)
"""Columns of a prosody (..., P, 3): ln of pitch in Hz, ln of energy, ln(1 + frames)."""


def phone_prosody(pitch: Tensor, energy: Tensor, frames: Tensor) -> Tensor:
    """(T,) Hz with 0 where unvoiced, (T,) energy, (P,) frames -> (P, 3); pitch is not a number if nothing is voiced."""
    tracks = torch.stack([continuous(pitch), energy.clamp(min=1e-5).log()], 1)
    return torch.cat([by_phone(tracks, frames), torch.log1p(frames.float())[:, None]], 1)


def continuous(pitch: Tensor) -> Tensor:
    """(T,) ln Hz, straight through unvoiced frames and level at the ends; not a number if nothing is voiced."""
    voiced = np.flatnonzero(pitch.numpy() > 0)
    if not len(voiced):
        return torch.full((len(pitch),), torch.nan)
    heard = np.log(pitch.numpy()[voiced].astype(np.float64))
    return torch.from_numpy(np.interp(np.arange(len(pitch)), voiced, heard)).float()


def by_phone(tracks: Tensor, frames: Tensor) -> Tensor:
    """(T, C) means over the frames of each phone (P, C); a phone without frames takes the frame at which it stands."""
    ends = frames.cumsum(0)
    starts = (ends - frames).clamp(max=len(tracks) - 1)
    last = torch.maximum(ends, starts + 1).clamp(max=len(tracks))
    total = torch.cat([torch.zeros(1, tracks.shape[1]), tracks.double().cumsum(0)])
    return ((total[last] - total[starts]) / (last - starts)[:, None]).float()


def frames_of(prosody: Tensor, real: Tensor) -> Tensor:
    """(B, P, 3), (B, P) bool -> (B, P) int64 frames, at least one for each real phone."""
    return torch.expm1(prosody[..., DURATION]).round().clamp(1, 200).long() * real
