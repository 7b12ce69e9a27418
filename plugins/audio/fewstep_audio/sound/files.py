"""Native files: 16-bit wav, and the pictures of spectrograms that panels show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from fewstep.protocol import Batch, Tree
from fewstep.runs.media import png
from fewstep_audio.sound.mel import MelContract
from fewstep_audio.sound.vocoder import Vocoder

FIRE = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
"""Corners of a color scale whose lightness rises evenly, so that it reads without color vision."""


def write_wavs(x: Tree, batch: Batch, folder: Path, vocoder: Vocoder) -> Sequence[Path]:
    """One wav per sample, named by its number and first words."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = batch.extra.get("texts", ("",) * len(x["mel"]))
    written = []
    for number, (mel, text) in enumerate(zip(cut(x), texts, strict=True)):
        path = folder / f"{number:02d}-{named(text)}.wav"
        path.write_bytes(wav_bytes(vocoder(mel), vocoder.contract.rate))
        written.append(path)
    return written


def cut(x: Tree, mask: Tensor | None = None) -> list[Tensor]:
    """Each sample's log-mel (M, T) without its padding.

    Args:
        x: "mel" (B, M, T), and "frames" (B,) where the samples know how long they are.
        mask: (B, 1, T) of the batch, for a truth, which does not say so.
    """
    frames = x["frames"] if "frames" in x or mask is None else mask.flatten(1).sum(1)
    return [mel[:, : int(count)] for mel, count in zip(x["mel"], frames, strict=True)]


def wav_bytes(wave: Tensor, rate: int) -> bytes:
    """A whole wav file of (N,) samples in [-1, 1]."""
    buffer = BytesIO()
    soundfile.write(buffer, wave.cpu().numpy(), rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def named(text: str, words: int = 6) -> str:
    """A file name of the first words."""
    return "-".join(re.findall(r"[a-z0-9]+", text.lower())[:words]) or "speech"


def mel_picture(mel: Tensor, contract: MelContract, scale: int = 2) -> bytes:
    """A PNG of (M, T) log-mel, low bands below, loud is light; every cell ``scale`` pixels wide and high."""
    top = float(mel.max())
    share = ((mel - max(contract.silence, top - 9.0)) / 9.0).clamp(0, 1).flip(0)
    corners = torch.tensor(FIRE, dtype=torch.float32)
    spot = share * (len(FIRE) - 1)
    low = spot.floor().long().clamp(max=len(FIRE) - 2)
    color = torch.lerp(corners[low], corners[low + 1], (spot - low)[..., None])
    pixels = color.round().byte().cpu().numpy()
    return png(np.ascontiguousarray(pixels.repeat(scale, 0).repeat(scale, 1)))
