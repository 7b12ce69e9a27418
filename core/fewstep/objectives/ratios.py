"""h(r) = f''(r) r^2 of the density ratio r = p / q for f-distill (Xu et al. 2025 table 1), (B,) -> (B,)."""

from __future__ import annotations

import torch
from torch import Tensor


def reverse_kl(r: Tensor) -> Tensor:
    """1: plain score distillation."""
    return torch.ones_like(r)


def forward_kl(r: Tensor) -> Tensor:
    """Factor r."""
    return r


def jensen_shannon(r: Tensor) -> Tensor:
    """Factor r / (1 + r)."""
    return r / (1 + r)


def softened_reverse_kl(r: Tensor) -> Tensor:
    """1 / (1 + r): also the non-saturating generator gradient at the optimal discriminator."""
    return 1 / (1 + r)


def hellinger(r: Tensor) -> Tensor:
    """sqrt(r) / 2."""
    return r.sqrt() / 2


def jeffreys(r: Tensor) -> Tensor:
    """1 + r."""
    return 1 + r
