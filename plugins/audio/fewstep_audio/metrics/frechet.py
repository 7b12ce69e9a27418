"""Frechet distances between sets of sounds, each named after the embedding that it is measured in.

Two sets become two Gaussians in the space of an embedding, and the distance is that of the Gaussians (Heusel et al.
2017 eq. 6; Kilgour et al. 2019 for sounds). A distance means nothing without its embedding and its number of windows,
so both are told, and beside it the distance between two halves of the reference: what "no difference" looks like.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fewstep.protocol import Key
from fewstep.runs.frechet import frechet
from fewstep_audio.metrics import notes
from fewstep_audio.metrics.optional import at_rate, needed
from fewstep_audio.metrics.speakers import voice_windows
from fewstep_audio.sound.mel import MelContract, log_mel

SHORT, HALF = 64, 32
"""Frames of a window of ``fd_mel`` (0.74 s by the contract of speech), and between windows."""


@dataclass(frozen=True)
class Embedding:
    """A named way to see sounds.

    Args:
        name: of distances in it, such as ``fad_resem``.
        fn: (N,) samples in [-1, 1] and their rate -> (W, D), one row for each window, W >= 1.
        told: one sentence for the report.
    """

    name: str
    fn: Callable[[Tensor, int], Tensor]
    told: str

    def windows(self, waves: Sequence[Tensor], rate: int) -> list[Tensor]:
        """(W, D) of each sound, in float64."""
        return [self.fn(wave, rate).double() for wave in waves]


@dataclass(frozen=True)
class Frechet:
    """A distance and what it has to be read with.

    Args:
        name: of the embedding.
        value: from the sounds to the reference.
        halves: between two halves of the reference.
        windows: of the sounds and of the reference. Below about 200 the value is mostly noise of the estimate.
    """

    name: str
    value: float
    halves: float
    windows: tuple[int, int]


def by_voice() -> Embedding:
    """Voices: 256 numbers for each 1.6 s (:mod:`fewstep_audio.metrics.speakers`)."""
    return Embedding(
        "fad_resem", voice_windows, "Frechet distance in Resemblyzer's voice space, windows of 1.6 s"
    )


def by_mel(contract: MelContract | None = None) -> Embedding:
    """No network: mean of each band over a window of 64 frames, and mean of its absolute change."""
    meant = MelContract() if contract is None else contract

    def fn(wave: Tensor, rate: int) -> Tensor:
        return mel_windows(log_mel(at_rate(wave, rate, meant.rate), meant))

    return Embedding(
        "fd_mel", fn, "Frechet distance of band means and changes of log-mel, windows of 64 frames"
    )


def mel_windows(mel: Tensor) -> Tensor:
    """(M, T) log-mel -> (W, 2 M) means and mean absolute changes of each band."""
    mel = F.pad(mel, (0, max(0, SHORT - mel.shape[1])), value=float(mel.min()))
    cut = mel.unfold(1, SHORT, HALF)
    return torch.cat([cut.mean(-1), cut.diff(dim=-1).abs().mean(-1)]).T


def by_posteriorgram() -> Embedding:
    """Music: what a transcriber hears, basic-pitch's 88 notes, as mean and deviation over two seconds."""

    def fn(wave: Tensor, rate: int) -> Tensor:
        sure = torch.from_numpy(notes.heard(at_rate(wave, rate, notes.RATE).float().cpu().numpy()))
        sure = F.pad(sure, (0, max(0, notes.FRAMES - sure.shape[1])))
        cut = sure.unfold(1, notes.FRAMES, notes.FRAMES)
        return torch.cat([cut.mean(-1), cut.std(-1)]).T

    return Embedding("fad_bp", fn, "Frechet distance of basic-pitch's note posteriors, windows of 2 s")


def frechet_of(
    embedding: Embedding, waves: Sequence[Tensor], reference: Sequence[Tensor], rate: int, key: Key
) -> Frechet:
    """Distance of sounds to reference sounds.

    Args:
        embedding: the space.
        waves: (N,) each.
        reference: (N,) each, at least two; resynthesized truth where the sounds come from a vocoder.
        rate: of all, samples per second.
        key: how the reference is halved.

    Raises:
        ValueError: nothing to compare.
    """
    if not waves or len(reference) < 2:
        raise ValueError(
            f"expected sounds and two or more to compare with, got {len(waves)} and {len(reference)}"
        )
    mine, true = torch.cat(embedding.windows(waves, rate)), embedding.windows(reference, rate)
    whole, half = torch.cat(true), halves(true, key)
    return Frechet(embedding.name, distance(mine, whole), half, (len(mine), len(whole)))


def halves(sounds: Sequence[Tensor], key: Key) -> float:
    """Distance between two random halves of the sounds, each (W, D)."""
    order = key.at("halves").uniform((len(sounds),)).argsort().tolist()
    middle = len(sounds) // 2
    first, second = (torch.cat([sounds[i] for i in part]) for part in (order[:middle], order[middle:]))
    return distance(first, second)


def distance(mine: Tensor, true: Tensor) -> float:
    """Frechet distance of the Gaussians that fit two sets of rows, (W, D) and (V, D)."""
    return float(frechet(*gaussian(mine), *gaussian(true)))


def gaussian(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(W, D) -> mean (D,) and covariance (D, D) shrunk towards a sphere (Ledoit & Wolf 2004), float64.

    Raises:
        FewstepError: scikit-learn is not there.
    """
    fit = needed("sklearn.covariance", "a Frechet distance", 'pip install "fewstep[audio]"').ledoit_wolf
    rows = rows.detach().double().cpu()
    if len(rows) == 1:
        return rows[0], torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
    return rows.mean(0), torch.from_numpy(fit(rows.numpy())[0])
