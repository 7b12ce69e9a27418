"""What a sample can be asked for: functions of log-mel (B, M, T) that give (B,) how far it is from that, with a gradient.

Novack et al. 2024 (DITTO, arXiv:2401.12179) sec. 4 and DITTO-2 (arXiv:2405.20289): inpainting, outpainting, looping,
intensity, melody, structure, and closeness to an embedding; sums of these. Shape legend: B batch, M mel bands, T frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fewstep_audio.music.notes import CLASSES
from fewstep_audio.sound.mel import MelContract, band_centers
from fewstep_audio.sound.vocoder import inverse_filters

SILENCE = -60.0
"""dB below which nothing is told apart: the logarithm of near silence explodes."""
CEPSTRA = 13
LOW, HIGH = 250.0, 2100.0
"""Hz between which bands tell neighboring notes apart: below, a band is wider than a semitone."""


class Control(Protocol):
    """Something that is asked of a sample."""

    @property
    def name(self) -> str:
        """As in tables."""
        ...

    @property
    def unit(self) -> str:
        """Of ``shown``."""
        ...

    @property
    def enough(self) -> float:
        """Loss below which a search asks no more, so that music is not spoiled for the control."""
        ...

    def __call__(self, mel: Tensor) -> Tensor:
        """(B, M, T) log-mel -> (B,) loss."""
        ...

    def shown(self, loss: float) -> float:
        """The loss in the unit that people know."""
        ...


@dataclass(frozen=True)
class Known:
    """Some frames are given: inpainting, outpainting and looping differ only in which (DITTO sec. 4.1).

    mean over known frames and bands of ((x - reference) / std)^2.

    Args:
        reference: (M, T) log-mel; anything where it is not known.
        known: (T,) bool.
        std: (M, 1) of the training mels, so that quiet bands count as loud ones do.
    """

    reference: Tensor
    known: Tensor
    std: Tensor
    name: str = "inpaint"
    unit: str = "std"
    enough: float = 0.02

    def __call__(self, mel: Tensor) -> Tensor:
        """(B,)."""
        gap = ((mel - self.reference.to(mel)) / self.std.to(mel)).square().mean(1)
        return gap[:, self.known].mean(1)

    def shown(self, loss: float) -> float:
        """Root mean square, in standard deviations of each band."""
        return math.sqrt(loss)


@dataclass(frozen=True)
class Intensity:
    """A curve of loudness: mean squared difference in dB (DITTO sec. 4.2).

    Args:
        curve: (T,) dB of full scale.
        contract: of the spectrograms.
        width: frames of the smoothing, odd; about a second.
    """

    curve: Tensor
    contract: MelContract
    width: int = 43
    name: str = "intensity"
    unit: str = "dB"
    enough: float = 1.0

    def __call__(self, mel: Tensor) -> Tensor:
        """(B,)."""
        level = smoothed(decibels(mel, self.contract), self.width)
        return (level - self.curve.to(mel).clamp(min=SILENCE)).square().mean(1)

    def shown(self, loss: float) -> float:
        """Root mean square in dB."""
        return math.sqrt(loss)


@dataclass(frozen=True)
class Melody:
    """The pitch class that is strongest in each frame: cross-entropy of the shares of energy (DITTO sec. 4.3).

    Args:
        classes: (T,) int64, 0 = C to 11 = B, -1 where nothing is asked.
        contract: of the spectrograms.
    """

    classes: Tensor
    contract: MelContract
    name: str = "melody"
    unit: str = "nats"
    enough: float = 0.8

    def __call__(self, mel: Tensor) -> Tensor:
        """(B,)."""
        shares = chroma(mel, self.contract)
        asked = self.classes.to(mel.device) >= 0
        now = self.classes.to(mel.device)[asked]
        mine = shares[:, :, asked].gather(1, now.expand(len(mel), 1, -1))[:, 0]
        return -mine.clamp(min=1e-6).log().mean(1)

    def shown(self, loss: float) -> float:
        """Nats; 2.48 is what equal shares have."""
        return loss


@dataclass(frozen=True)
class Structure:
    """Which parts sound alike: mean squared difference of self-similarities of cepstra (DITTO sec. 4.4).

    Args:
        sections: "ABA": equally long, alike where the letter is the same and unlike where it is not.
        mean: (M, 1) of the training mels.
        std: (M, 1) of the training mels.
        block: frames whose cepstra are averaged.
    """

    sections: str
    mean: Tensor
    std: Tensor
    block: int = 8
    name: str = "structure"
    unit: str = ""
    enough: float = 0.01

    def __call__(self, mel: Tensor) -> Tensor:
        """(B,)."""
        found = similarity((mel - self.mean.to(mel)) / self.std.to(mel), self.block)
        return (found - boxed(self.target(found.shape[-1]).to(mel))).square().mean((1, 2))

    def target(self, count: int) -> Tensor:
        """(N, N): 1 where two blocks belong to sections of one letter, else 0."""
        place = torch.arange(count) * len(self.sections) // count
        letters = torch.tensor([ord(letter) for letter in self.sections])[place]
        return (letters[:, None] == letters[None]).float()

    def shown(self, loss: float) -> float:
        """Root mean square of the similarities' error."""
        return math.sqrt(loss)


@dataclass(frozen=True)
class Adherence:
    """Closeness to an embedding, of a text or of another sound: 1 - cosine (DITTO-2 sec. 4).

    Args:
        embed: differentiable, (B, M, T) log-mel -> (B, E).
        target: (E,).
    """

    embed: Callable[[Tensor], Tensor]
    target: Tensor
    name: str = "adherence"
    unit: str = "1 - cosine"
    enough: float = 0.05

    def __call__(self, mel: Tensor) -> Tensor:
        """(B,)."""
        return 1 - F.cosine_similarity(self.embed(mel), self.target.to(mel)[None], dim=1)

    def shown(self, loss: float) -> float:
        """As it is."""
        return loss


@dataclass(frozen=True)
class Sum:
    """Several at once.

    Args:
        parts: (weight, control).
    """

    parts: Sequence[tuple[float, Control]]
    name: str = "sum"
    unit: str = ""
    enough: float = 0.0

    def __call__(self, mel: Tensor) -> Tensor:
        """(B,)."""
        return torch.stack([weight * control(mel) for weight, control in self.parts]).sum(0)

    def shown(self, loss: float) -> float:
        """As it is."""
        return loss


@dataclass(frozen=True)
class PerRow:
    """Each sample of a batch is asked for its own.

    Args:
        controls: one for each row.
    """

    controls: Sequence[Control]
    name: str = "each its own"
    unit: str = ""
    enough: float = 0.0

    def __call__(self, mel: Tensor) -> Tensor:
        """(B,)."""
        return torch.cat([ask(mel[row : row + 1]) for row, ask in enumerate(self.controls)])

    def sought(self, mel: Tensor) -> Tensor:
        """(B,) as :func:`sought`."""
        enough = torch.tensor([ask.enough for ask in self.controls]).to(mel)
        return torch.maximum(self(mel), enough)

    def shown(self, loss: float) -> float:
        """As it is."""
        return loss


def sought(controls: Sequence[tuple[float, Control]]) -> Callable[[Tensor], Tensor]:
    """The (B,) loss of a search: the weighted sum, in which a control that has enough counts as a constant."""
    return lambda mel: torch.stack(
        [w * control(mel).clamp(min=control.enough) for w, control in controls]
    ).sum(0)


def decibels(mel: Tensor, contract: MelContract) -> Tensor:
    """(B, M, T) log-mel -> (B, T) dB of full scale: 20 log10 of the root mean square of each frame, at least -60.

    From the magnitudes that the vocoder would use; by Parseval's theorem the mean square under a Hann window, whose own
    mean square is 3 / 8, is 16 / 3 of the summed squares over the squared length of the window.
    """
    magnitude = (inverse_filters(contract).to(mel) @ mel.exp()).clamp(min=0)
    power = 16 / 3 * magnitude.square().sum(1) / contract.window**2
    return 10 * torch.log10(power.clamp(min=10 ** (SILENCE / 10)))


def smoothed(curve: Tensor, width: int, order: int = 1) -> Tensor:
    """(B, T) along a least-squares polynomial in a window of ``width`` frames (Savitzky & Golay 1964); ends repeat."""
    weights = savitzky_golay(width, order).to(curve)
    padded = F.pad(curve[:, None], (width // 2, width // 2), mode="replicate")
    return F.conv1d(padded, weights[None, None])[:, 0]


@lru_cache(maxsize=8)
def savitzky_golay(width: int, order: int) -> Tensor:
    """(width,) weights of the fitted polynomial's value in the middle.

    Raises:
        ValueError: if the width is even or not above the order.
    """
    if width % 2 == 0 or width <= order:
        raise ValueError(f"the window must be odd and wider than the order, got {width} and {order}")
    offsets = np.arange(width) - width // 2
    return torch.from_numpy(np.linalg.pinv(np.vander(offsets, order + 1, increasing=True))[0]).float()


def chroma(mel: Tensor, contract: MelContract) -> Tensor:
    """(B, M, T) log-mel -> (B, 12, T) share of each pitch class in the energy between 250 and 2100 Hz."""
    loudest = mel.amax(1, keepdim=True).detach()  # shares do not change, and no power overflows
    energy = chroma_filters(contract).to(mel) @ (2 * (mel - loudest)).exp()
    return energy / energy.sum(1, keepdim=True).clamp(min=1e-20)


@lru_cache(maxsize=8)
def chroma_filters(contract: MelContract) -> Tensor:
    """(12, M): how much of a band's energy counts for a pitch class: a bell of half a semitone around the class."""
    centers = band_centers(contract)
    semitones = 69 + 12 * torch.log2(centers.clamp(min=1.0) / 440)
    away = (semitones[None] - torch.arange(CLASSES)[:, None] + 6) % 12 - 6
    bells = torch.exp(-0.5 * (away / 0.5).square())
    return (bells * ((centers >= LOW) & (centers <= HIGH))).float()


def similarity(state: Tensor, block: int) -> Tensor:
    """(B, M, T) normalized mel -> (B, N, N) cosines of the cepstra of N blocks of frames, smoothed by a 3 x 3 box."""
    cepstra = cosines(state.shape[1]).to(state) @ state
    means = F.avg_pool1d(cepstra, block, ceil_mode=True)
    unit = F.normalize(means, dim=1, eps=1e-6)
    return boxed(unit.transpose(1, 2) @ unit)


def boxed(square: Tensor) -> Tensor:
    """(..., N, N) averaged over 3 x 3, edges repeated."""
    flat = square.reshape(-1, 1, *square.shape[-2:])
    return F.avg_pool2d(F.pad(flat, (1, 1, 1, 1), mode="replicate"), 3, 1).reshape(square.shape)


@lru_cache(maxsize=8)
def cosines(bands: int) -> Tensor:
    """(13, M) rows 1 to 13 of the orthonormal cosine transform: cepstra without the level."""
    band = torch.arange(bands, dtype=torch.float64) + 0.5
    row = torch.arange(1, CEPSTRA + 1, dtype=torch.float64)[:, None]
    return (math.sqrt(2 / bands) * torch.cos(math.pi / bands * row * band)).float()


def ramp(points: Sequence[tuple[float, float]], frames: int, contract: MelContract) -> Tensor:
    """(T,) straight lines through (seconds, value), flat before the first and after the last."""
    times = np.arange(frames) * contract.hop / contract.rate
    where, values = zip(*sorted(points), strict=True)
    return torch.from_numpy(np.interp(times, where, values)).float()
