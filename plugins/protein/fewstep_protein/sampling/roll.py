"""Start times of a few-step roll over flow time (0 = data, 1 = noise), shared by the chain recipes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fewstep.protocol import Process

FIRST = 10 ** (-2 * 30 / 400)
"""0.708: the noise level at which Proteina's distilled students of several steps begin."""
SINGLE = 0.63
"""Where its student of one step begins."""


def roll_times(steps: int, finest: float = 0.01) -> tuple[float, ...]:
    """Geometric times from FIRST to ``finest``: even steps in the logarithm of the noise.

    With ``finest`` 0.01 this is the grid of the distilled Proteina (t = 10^(-2 s / 400), s from 30 to 400), up to its
    rounding of s to whole numbers.

    Args:
        steps: network calls K; a single step starts at SINGLE.
        finest: start time of the last step.

    Raises:
        ValueError: no step, or a finest time that is not below FIRST.
    """
    if steps < 1 or not 0 < finest < FIRST:
        raise ValueError(
            f"a roll needs at least one step and 0 < finest < {FIRST:.3f}, got {steps} and {finest}"
        )
    if steps == 1:
        return (SINGLE,)
    return tuple(FIRST * (finest / FIRST) ** (k / (steps - 1)) for k in range(steps))


def as_grid(times: tuple[float, ...]) -> Callable[[Process, int], Tensor]:
    """These times as the ``grid`` of a sampler."""

    def grid(process: Process, steps: int) -> Tensor:
        return torch.tensor(times, dtype=torch.float64)

    return grid
