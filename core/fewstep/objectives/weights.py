"""Weights of a loss in x0 units: small pure functions ``(process, t) -> (B, ...)`` of the times.

alpha and sigma are the coefficients of x_t = alpha x0 + sigma eps; SNR = alpha^2 / sigma^2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fewstep.protocol import Estimate, Geometry, Process, Tree, spread, tree_map

Weight: TypeAlias = Callable[[Process, Tensor], Tensor]
PairWeight: TypeAlias = Callable[[Process, Tensor, Tensor], Tensor]


def one(process: Process, t: Tensor) -> Tensor:
    """1."""
    return torch.ones_like(t)


def edm(process: Process, t: Tensor) -> Tensor:
    """(s^2 + s_d^2) / (s s_d)^2 with s = sigma / alpha (Karras et al. 2022 table 1)."""
    alpha, sigma = _coefficients(process, t)
    # Written as a sum, so that it has its limit 1 / s_d^2 where alpha vanishes.
    return (alpha / sigma).square() + 1 / float(getattr(process, "sigma_data", 1.0)) ** 2


def snr(process: Process, t: Tensor) -> Tensor:
    """alpha^2 / sigma^2: the x0 error in noise units (Ho et al. 2020 eq. 14)."""
    alpha, sigma = _coefficients(process, t)
    return (alpha / sigma).square()


def score(process: Process, t: Tensor) -> Tensor:
    """alpha^2 / sigma^2: turns a difference of x0 estimates into alpha times the difference of scores.

    With it, score distillation follows the gradient of KL(q_t | p_t) exactly (Luo et al. 2023 eq. 3.2).
    """
    return snr(process, t)


def truncated_snr(process: Process, t: Tensor) -> Tensor:
    """max(SNR, 1) (Salimans & Ho 2022 sec. 4)."""
    return snr(process, t).clamp(min=1)


@dataclass(frozen=True)
class MinSNR:
    """min(SNR, gamma) (Hang et al. 2023 eq. 5)."""

    gamma: float = 5.0

    def __call__(self, process: Process, t: Tensor) -> Tensor:
        """The clamped ratio."""
        return snr(process, t).clamp(max=self.gamma)


def min_snr(gamma: float = 5.0) -> MinSNR:
    """min(SNR, gamma) as a weight."""
    return MinSNR(gamma)


def dreamfusion(process: Process, t: Tensor) -> Tensor:
    """Weight alpha sigma: sigma^2 (eps_hat - eps) written as a difference of x0 estimates (Poole et al. 2023 eq. 3)."""
    alpha, sigma = _coefficients(process, t)
    return alpha * sigma


def inverse_hidden(process: Process, t: Tensor) -> Tensor:
    """1 / (1 - alpha): the bound of absorbing-state diffusion per hidden token (Sahoo et al. 2024 eq. 10)."""
    alpha: Tensor = _has(process, "alpha")(t)
    return 1 / (1 - alpha).clamp(min=1e-12)


def customary(process: Process, t: Tensor) -> Tensor:
    """What the process' own papers weight a denoising loss with: ``edm``, ``inverse_hidden``, or 1 where neither fits."""
    if hasattr(process, "sigma"):
        return edm(process, t)
    return inverse_hidden(process, t) if hasattr(process, "alpha") else one(process, t)


def pair_one(process: Process, t: Tensor, s: Tensor) -> Tensor:
    """1 for every pair of times."""
    return torch.ones_like(t)


def inverse_gap(process: Process, t: Tensor, s: Tensor) -> Tensor:
    """1 / (t - s) (Geng et al. 2024 ECT sec. 3.2)."""
    return 1 / (t - s).clamp(min=1e-12)


def normalizer(geometry: Geometry, a: Estimate, b: Estimate, at: Tree, floor: float = 1e-5) -> Tensor:
    """(B,) mean |a - b| over real elements, cut from its graph, at least ``floor`` (Yin et al. 2024 DMD eq. 8)."""
    return mean_abs(geometry, geometry.difference(a, b, at)).detach().clamp(min=floor)


def mean_abs(geometry: Geometry, direction: Tree) -> Tensor:
    """(B,) mean absolute value over real elements, whatever the reduction of the geometry."""
    ones = tree_map(torch.ones_like, direction)
    return geometry.inner(tree_map(torch.abs, direction), ones) / geometry.inner(ones, ones).clamp(min=1e-12)


def scaled(direction: Tree, weight: Tensor) -> Tree:
    """The direction times a per-sample (or per leading dimension) weight."""
    return tree_map(lambda leaf: spread(weight.to(leaf.device, leaf.dtype), leaf) * leaf, direction)


def _coefficients(process: Process, t: Tensor) -> tuple[Tensor, Tensor]:
    return _has(process, "alpha")(t), _has(process, "sigma")(t)


def _has(process: Any, name: str) -> Callable[[Tensor], Tensor]:
    found = getattr(process, name, None)
    if found is None:
        raise ValueError(
            f"this weight needs the coefficient {name}(t), which {type(process).__name__} has not; "
            "use the weight `one`, or write a weight for this process: (process, t) -> tensor"
        )
    coefficient: Callable[[Tensor], Tensor] = found
    return coefficient
