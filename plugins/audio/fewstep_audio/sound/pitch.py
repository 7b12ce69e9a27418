"""Pitch, voicing and energy of a waveform, one value for each frame of its spectrogram."""

from __future__ import annotations

import librosa
import torch
from torch import Tensor

from fewstep_audio.sound.mel import MelContract, stft

LOWEST, HIGHEST = 60.0, 500.0
"""Hz; voices of grown-ups."""


def pitch(
    wave: Tensor,
    contract: MelContract,
    low: float = LOWEST,
    high: float = HIGHEST,
    resolution: float = 0.1,
) -> Tensor:
    """(N,) waveform -> (T,) fundamental frequency in Hz, 0 where unvoiced (Mauch & Dixon 2014 pYIN).

    Takes about a tenth of the sound's own length on one thread, with a ``resolution`` of a quarter instead of a tenth of
    a semitone a thirtieth; keep it (:func:`fewstep_audio.sound.cache.kept`).
    """
    found, voiced, _ = librosa.pyin(
        wave.float().cpu().numpy(),
        fmin=low,
        fmax=high,
        sr=contract.rate,
        frame_length=contract.window,
        hop_length=contract.hop,
        resolution=resolution,
    )
    return torch.where(torch.from_numpy(voiced), torch.from_numpy(found).nan_to_num(0.0), 0.0).float()


def energy(wave: Tensor, contract: MelContract) -> Tensor:
    """(..., N) waveform -> (..., T) norm of the magnitude spectrum (Ren et al. 2021 FastSpeech 2 sec. 2.3)."""
    return stft(wave, contract).abs().square().sum(-2).sqrt()
