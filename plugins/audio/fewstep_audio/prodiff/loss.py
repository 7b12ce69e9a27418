"""How a clean prediction is compared with a spectrogram: absolute and squared differences, and structural similarity.

Shape legend: B batch, M mel bands, T frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fewstep.objectives import Denoising
from fewstep.objectives.corruption import draw_times
from fewstep.objectives.distances import Distance, l1, l2
from fewstep.protocol import Batch, Estimate, Geometry, Loss, Phase, Roles, Step

WINDOW, WIDTH = 11, 1.5
"""Cells of the Gaussian window and its standard deviation (Wang et al. 2004 sec. III.B)."""
RANGE = 10.0
"""Of normalized log-mels: five standard deviations to both sides of the mean."""
K1, K2 = 0.01, 0.03


def ssim(mine: Tensor, true: Tensor, span: float) -> Tensor:
    """(B,) mean structural similarity of pictures (B, M, T) with values in [0, span]; 1 = equal (Wang et al. 2004 eq. 13).

    Only whole windows count.

    Raises:
        ValueError: a picture is smaller than the window.
    """
    if min(mine.shape[-2:]) < WINDOW:
        raise ValueError(
            f"pictures of {tuple(mine.shape[-2:])} are smaller than the {WINDOW} cells of a window"
        )
    luminance, contrast = (K1 * span) ** 2, (K2 * span) ** 2
    blurred = _blurred(torch.stack([mine, true, mine * mine, true * true, mine * true]))
    mean, other, square, square_other, product = blurred.unbind()
    variance, variance_other = square - mean**2, square_other - other**2
    covariance = product - mean * other
    found = ((2 * mean * other + luminance) * (2 * covariance + contrast)) / (
        (mean**2 + other**2 + luminance) * (variance + variance_other + contrast)
    )
    return found.mean((-2, -1))


def _blurred(x: Tensor) -> Tensor:
    """(..., M, T) -> (..., M - 10, T - 10) Gaussian means, one axis after the other."""
    place = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    kernel = torch.exp(-(place**2) / (2 * WIDTH**2))
    kernel = (kernel / kernel.sum())[None, None]
    flat = x.reshape(-1, 1, *x.shape[-2:])
    flat = F.conv2d(F.conv2d(flat, kernel[..., None, :]), kernel[..., None])
    return flat.reshape(*x.shape[:-2], *flat.shape[-2:])


@dataclass(frozen=True)
class Likeness:
    """A weighted sum of l1, l2 and 1 - SSIM between two spectrograms; ProDiff takes half l1 and half SSIM.

    Args:
        l1: weight of the absolute difference.
        l2: weight of the squared difference.
        ssim: weight of 1 - SSIM.
        spread: standard deviation of clean states.
    """

    l1: float = 0.0
    l2: float = 1.0
    ssim: float = 0.0
    spread: float = 1.0

    def __call__(self, geometry: Geometry, a: Estimate, b: Estimate, at: Tensor) -> Tensor:
        """(B,); what weighs nothing is not computed."""
        total = torch.zeros(len(a.x0), dtype=a.x0.dtype, device=a.x0.device)
        if self.l1:
            total = total + self.l1 * l1(geometry, a, b, at)
        if self.l2:
            total = total + self.l2 * l2(geometry, a, b, at)
        if self.ssim:
            mine, true = (self._picture(x.x0) for x in (a, b))
            total = total + self.ssim * (1 - ssim(mine, true, RANGE))
        return total

    def _picture(self, state: Tensor) -> Tensor:
        """SSIM compares brightness, so it wants values that are not negative."""
        return state / self.spread + RANGE / 2


@dataclass(frozen=True)
class CleanPrediction(Denoising):
    """Denoising with any distance between prediction and truth (Huang et al. 2022 ProDiff sec. 3.2).

    Args:
        distance: of estimate and clean state.
    """

    distance: Distance = l2

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss:
        """Weighted distance at a drawn time."""
        model = roles[self.role]
        process = model.process.on(batch.mask)
        t = draw_times(self.times, batch.x, step, step.key.at("time"), self.leading)
        xt = process.corrupt(batch.x, process.noise(batch, step.key.at("noise")), t)
        gap = self.distance(process.geometry, model(xt, t, batch.cond), Estimate(batch.x), xt)
        total = (self.weight(process, t).to(gap.dtype) * gap).mean()
        return Loss(total, {"loss": total.detach()})
