"""Distances as a network reads them: how near they are to each of several values."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def bumps(gap: Tensor, places: tuple[tuple[float, float], ...]) -> Tensor:
    """(..., len(places)) Gaussian bumps exp(-((gap - center) / width)^2) of a distance.

    The exponent is expanded into one product of matrices: squares of large differences would fill memory four times.
    """
    center, width = torch.tensor(places, device=gap.device, dtype=gap.dtype).unbind(1)
    rate = width**-2
    powers = torch.stack([gap.square(), gap], -1)
    # Hundreds that cancel: never in half precision.
    with torch.autocast(gap.device.type, enabled=False):
        return F.linear(powers, torch.stack([-rate, 2 * center * rate], -1), -center.square() * rate).exp()
