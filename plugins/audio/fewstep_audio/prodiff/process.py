"""The chain of ProDiff's released code as a process of the core: few levels, of which the cleanest is still noisy."""

from __future__ import annotations

import torch

from fewstep.processes import Gaussian
from fewstep.processes.chain import Chain

CLEAN = -1.0
"""Where the last step of a chain ends."""


def vpsde(steps: int, beta_min: float = 0.1, beta_max: float = 40.0) -> Gaussian:
    """The variance preserving SDE of Song et al. 2021 in ``steps`` levels, t = steps - 1, ..., 0, and clean at -1.

    beta_n = 1 - exp(-b0 / T - (b1 - b0)(2 n - 1) / (2 T^2)), n = 1 ... T with T = steps + 1 (Xiao et al. 2022 sec. 4,
    as ProDiff takes it). A sampler of N steps begins at level N - 1 with pure noise, so the last level is never asked.

    Four steps have alpha = .664, .199, .027, .0016: at the cleanest level noise is louder than the signal, so the chain
    returns conditional means that are sharpened a little, not samples (tests).

    Args:
        steps: of the teacher.
        beta_min: b0.
        beta_max: b1.
    """
    total = steps + 1
    n = torch.arange(1, total + 1, dtype=torch.float64)
    minus_log = beta_min / total + 0.5 * (beta_max - beta_min) * (2 * n - 1) / total**2
    alpha_bars = torch.exp(-minus_log.cumsum(0))
    return Gaussian(Chain(tuple(alpha_bars.tolist())), CLEAN, steps - 1.0, whole=True)
