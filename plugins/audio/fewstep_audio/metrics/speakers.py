"""Who speaks: embeddings of voices by the network of Wan et al. 2018 (arXiv:1710.10467), as Resemblyzer trained it.

Only its weight file is used. The sound is made as loud as in its training, a mel spectrogram of power (no logarithm) is
cut into windows of 1.6 s, each becomes a unit vector, and their mean, made unit again, is the voice. Silence is not cut
out (Resemblyzer asks a voice detector for that), so numbers differ a little from its own on sounds with long pauses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep_audio.metrics.optional import at_rate, shipped
from fewstep_audio.sound.mel import MelContract, mel_filters

INSTALL = "pip install --no-deps resemblyzer"
CONTRACT = MelContract(rate=16_000, window=400, hop=160, bands=40, low=0.0, high=8000.0)
WINDOW = 160
"""Frames of 10 ms in a window."""
STEP = 77
"""Frames between windows: 1.3 windows a second."""
COVERED = 0.75
"""The last window must hold that share of sound, unless it is the only one."""
LOUDNESS = 10 ** (-30 / 20)
"""Root mean square; quieter sounds are made that loud."""
SIZE = 256


class VoiceEncoder(nn.Module):
    """Three LSTM layers, a linear layer of their last state, ReLU, unit norm."""

    def __init__(self) -> None:
        """Untrained."""
        super().__init__()
        self.lstm = nn.LSTM(CONTRACT.bands, SIZE, 3, batch_first=True)
        self.linear = nn.Linear(SIZE, SIZE)

    def forward(self, windows: Tensor) -> Tensor:
        """(W, 160, 40) mel power -> (W, 256) unit vectors."""
        _, (hidden, _) = self.lstm(windows)
        return F.normalize(F.relu(self.linear(hidden[-1])), dim=1)


@lru_cache(maxsize=1)
def voice_encoder() -> VoiceEncoder:
    """With the published weights.

    Raises:
        FewstepError: the package resemblyzer is not there.
    """
    file = shipped("resemblyzer", "pretrained.pt", "speaker similarity", INSTALL)
    weights = torch.load(file, map_location="cpu", weights_only=True)["model_state"]
    found = VoiceEncoder()
    found.load_state_dict({name: weights[name] for name in found.state_dict()})
    return found.eval().requires_grad_(False)


def voice_windows(wave: Tensor, rate: int) -> Tensor:
    """(N,) samples in [-1, 1] -> (W, 256) unit vectors, one for each window of 1.6 s, W >= 1."""
    sound = at_rate(wave, rate, CONTRACT.rate).float().cpu()
    sound = sound * max(1.0, LOUDNESS / max(float(sound.square().mean().sqrt()), 1e-9))
    count = _windows(len(sound))
    sound = F.pad(sound, (0, max(0, ((count - 1) * STEP + WINDOW) * CONTRACT.hop - len(sound))))
    power = mel_filters(CONTRACT) @ spectrum(sound)
    return voice_encoder()(power.unfold(1, WINDOW, STEP)[:, :count].permute(1, 2, 0).contiguous())


def voice(wave: Tensor, rate: int) -> Tensor:
    """(N,) samples in [-1, 1] -> (256,) unit vector of who speaks."""
    return F.normalize(voice_windows(wave, rate).mean(0), dim=0)


def voices(waves: Sequence[Tensor], rate: int) -> Tensor:
    """(B, 256) voices of several sounds."""
    return torch.stack([voice(wave, rate) for wave in waves])


def similarity(mine: Tensor, other: Tensor) -> Tensor:
    """(..., 256) unit vectors -> (...) cosines; 0.88 to 0.95 within a voice, 0.5 to 0.7 between voices."""
    return (mine * other).sum(-1)


def spectrum(sound: Tensor) -> Tensor:
    """(N,) -> (201, T) power of the short-time Fourier transform, zeros beyond the ends."""
    # librosa pads with zeros where our contract reflects
    half = CONTRACT.window // 2
    padded = torch.stft(
        F.pad(sound, (half, half)),
        CONTRACT.window,
        CONTRACT.hop,
        window=torch.hann_window(CONTRACT.window),
        center=False,
        return_complex=True,
    )
    return padded.abs().square()


def _windows(samples: int) -> int:
    """How many windows cover a sound: those that start within it, the last only if it is full enough."""
    frames = math.ceil((samples + 1) / CONTRACT.hop)
    count = math.ceil(max(1, frames - WINDOW + STEP + 1) / STEP)
    held = (samples - (count - 1) * STEP * CONTRACT.hop) / (WINDOW * CONTRACT.hop)
    return count - 1 if held < COVERED and count > 1 else count
