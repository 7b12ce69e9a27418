"""How clean speech sounds: DNSMOS (Reddy et al. 2022, arXiv:2110.01763), a network that predicts what listeners say.

Three opinions on the scale of ITU-T P.835, 1 to 5: the voice, the background, the whole. Only the network file of the
package speechmos is used, through onnxruntime. It costs 0.7 CPU seconds per second of sound on one thread, and at least
nine seconds' worth for each clip, because short clips are repeated: ask it about few.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewstep_audio.metrics.optional import LISTENING, at_rate, needed, shipped

RATE = 16_000
LONG = int(9.01 * RATE)
"""Samples that the network hears at once."""

CURVES = {
    "voice": (-0.08397278, 1.22083953, 0.0052439),
    "background": (-0.13166888, 1.60915514, -0.39604546),
    "overall": (-0.06766283, 1.11546468, 0.04602535),
}
"""From raw outputs to opinions: square, slope, offset, as published with the network."""


@dataclass(frozen=True)
class Opinion:
    """Predicted means of listeners' opinions, 1 bad to 5 excellent."""

    voice: float
    background: float
    overall: float


def opinion(wave: Tensor, rate: int) -> Opinion:
    """Of (N,) samples in [-1, 1]; of longer sounds, the mean over pieces that begin a second apart.

    The package itself passes over some pieces, whose ends it rounds to one sample too early; here all count.

    Raises:
        FewstepError: onnxruntime or speechmos is not there.
        ValueError: there are no samples.
    """
    sound = at_rate(wave, rate, RATE).detach().float().cpu().clamp(-1, 1)
    if not len(sound):
        raise ValueError("an opinion needs sound, got no samples")
    heard = _pieces(sound).numpy()
    raw = np.stack([_network().run(None, {"input_1": piece[None]})[0][0] for piece in heard])
    return Opinion(
        **{
            name: float(np.polyval(curve, raw[:, place]).mean())
            for place, (name, curve) in enumerate(CURVES.items())
        }
    )


def _pieces(sound: Tensor) -> Tensor:
    while len(sound) < LONG:  # doubled, as where the network was published
        sound = torch.cat([sound, sound])
    count = int(np.floor(len(sound) / RATE) - LONG / RATE) + 1
    return torch.stack([sound[start * RATE : start * RATE + LONG] for start in range(max(1, count))])


@lru_cache(maxsize=1)
def _network() -> Any:
    runtime: Any = needed("onnxruntime", "DNSMOS")
    file = shipped("speechmos", "dnsmos_models/sig_bak_ovr.onnx", "DNSMOS", LISTENING)
    told = runtime.SessionOptions()
    told.intra_op_num_threads = torch.get_num_threads()
    told.log_severity_level = 3
    return runtime.InferenceSession(str(file), told, providers=["CPUExecutionProvider"])
