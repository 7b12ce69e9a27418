"""One state in two places: clean states at the scale of noisy ones, and states of one process read by another."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fewstep.processes.gaussian import Gaussian
from fewstep.processes.laws import noise_ratio
from fewstep.protocol import spread


def at_scale(process: Gaussian, x: Tensor, t: Tensor) -> Tensor:
    """Clean states as large as the states of time t: sqrt(alpha^2 + sigma^2 / sigma_data^2) x.

    A network at time t then sees a clean state in the units in which it sees its noisy ones; on the trigonometric
    process nothing changes.
    """
    alpha, sigma = process.alpha(t), process.sigma(t)
    scale = (alpha.square() + (sigma / process.sigma_data).square()).sqrt()
    return spread(scale.to(x.dtype), x) * x


def same_noise(source: Gaussian, t: Tensor, target: Gaussian, *, strict: bool = True) -> Tensor:
    """The times of ``target`` that have the noise-to-signal ratio sigma / alpha of ``source`` at t.

    Args:
        source: whose times are given.
        t: times of ``source``.
        target: whose times are wanted.
        strict: refuse times outside of ``target``'s range; else its nearest time stands in, where noise covers all
            signal or next to none is left.

    Raises:
        ValueError: if ``target`` is nowhere as noisy, or as clean.
    """
    ratio = noise_ratio(source.law, t.double())
    found = target.law.time_of_ratio(ratio)
    nearest = found.clamp(target.t_min, target.t_max)
    if strict and bool(((found - nearest).abs() > 1e-9 * target.t_max).any()):
        raise ValueError(
            f"the other process has no time with sigma / alpha from {float(ratio.min()):.4g} to "
            f"{float(ratio.max()):.4g} between its t_min {target.t_min} and t_max {target.t_max}; choose times that "
            "both processes know (`within`), or strict=False for the nearest"
        )
    return nearest if not strict else found


def carried(
    source: Gaussian, x: Tensor, t: Tensor, target: Gaussian, *, strict: bool = True
) -> tuple[Tensor, Tensor]:
    """A state of ``source`` at t as a state of ``target``: same noise-to-signal ratio, x alpha_target / alpha_source.

    Raises:
        ValueError: if ``target`` has no such time and ``strict`` is asked.
    """
    s = same_noise(source, t, target, strict=strict)
    # At one ratio the sizes of (alpha, sigma) are as the alphas are, and they never vanish.
    ratio = _size(target, s) / _size(source, t)
    return spread(ratio.to(x.dtype), x) * x, s


def within(process: Gaussian, base: Gaussian) -> Gaussian:
    """The process cut to times as clean and as noisy as those of ``base``, so that every one has its twin there."""
    ends = torch.tensor([base.t_min, base.t_max], dtype=torch.float64)
    low, high = process.law.time_of_ratio(noise_ratio(base.law, ends)).tolist()
    return replace(process, t_min=max(process.t_min, low), t_max=min(process.t_max, high))


def _size(process: Gaussian, t: Tensor) -> Tensor:
    return (process.alpha(t).square() + process.sigma(t).square()).sqrt()
