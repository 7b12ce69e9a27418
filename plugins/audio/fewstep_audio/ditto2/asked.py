"""What the comparison asks for: held-out music to be continued, ramps of loudness, melodies that were not heard."""

from __future__ import annotations

import torch
from torch import Tensor

from fewstep.protocol import Batch, Cond
from fewstep_audio.ditto2.controls import Control, Intensity, Known, Melody, decibels, smoothed
from fewstep_audio.music.corpus import MUSIC, Corpus, Piece
from fewstep_audio.music.notes import melody, pitch_class
from fewstep_audio.sound.mel import Scale

KINDS = ("inpaint", "intensity", "melody")


def examples(corpus: Corpus, count: int, frames: int) -> Batch:
    """The middle of ``count`` held-out pieces, each with a control; truth is ``x["mel"]``, log-mel (B, M, T)."""
    pieces = [corpus.testing[row % len(corpus.testing)] for row in range(count)]
    begins = [(piece.mel.shape[1] - frames) // 2 for piece in pieces]
    crops = [piece.mel[:, at : at + frames] for piece, at in zip(pieces, begins, strict=True)]
    quiet, loud = loudness_range(corpus)
    controls = tuple(
        asked(KINDS[row % len(KINDS)], row, pieces[row], begins[row], crops[row], corpus.scale, (quiet, loud))
        for row in range(count)
    )
    mels = torch.stack(crops)
    cond = Cond(mask=torch.ones(count, 1, frames, dtype=torch.bool))
    told = tuple(f"{piece.tune.name} {one.name}" for piece, one in zip(pieces, controls, strict=True))
    return Batch(torch.zeros_like(mels), {"mel": mels}, cond, {"texts": told, "controls": controls})


def asked(
    kind: str, row: int, piece: Piece, begin: int, crop: Tensor, scale: Scale, levels: tuple[float, float]
) -> Control:
    """One control: the outer two thirds of a crop, a rising or falling ramp, or the melody of a piece."""
    frames = crop.shape[1]
    if kind == "inpaint":
        return Known(crop, gap(frames), scale.std)
    if kind == "intensity":
        start, end = levels if row % 2 else levels[::-1]
        return Intensity(torch.linspace(start, end, frames), MUSIC)
    sung = pitch_class(melody(piece.roll(MUSIC)))[begin : begin + frames]
    return Melody(torch.from_numpy(sung), MUSIC)


def gap(frames: int) -> Tensor:
    """(T,) bool, known except in the middle third."""
    known = torch.ones(frames, dtype=torch.bool)
    known[frames // 3 : 2 * frames // 3] = False
    return known


def loudness_range(corpus: Corpus) -> tuple[float, float]:
    """Levels in dB between which nine tenths of the smoothed training frames lie."""
    levels = torch.cat([smoothed(decibels(p.mel[None], MUSIC), 43)[0] for p in corpus.training[:16]])
    low, high = torch.quantile(levels, torch.tensor([0.05, 0.95])).tolist()
    return low, high
