"""What is measured about views: fidelity to held-out truth and the agreement of silhouettes."""

from __future__ import annotations

import torch
from torch import Tensor

from fewstep.protocol import Batch, Key, Metric, Score, Tree
from fewstep.runs import bootstrap


def psnr(images: Tensor, truth: Tensor) -> Tensor:
    """(V,) peak signal-to-noise ratio in dB of images in [-1, 1]; values outside count as clipped."""
    error = (images.clamp(-1, 1) - truth).flatten(1).square().mean(1) / 4
    return -10 * error.clamp(min=1e-10).log10()


def silhouette_overlap(images: Tensor, truth: Tensor, level: float = 0.9) -> Tensor:
    """(V,) intersection over union of what is not white (some channel below ``level``)."""
    mine, true = (x.amin(1).flatten(1) < level for x in (images, truth))
    return (mine & true).sum(1) / (mine | true).sum(1).clamp(min=1)


def fidelity() -> Metric:
    """Mean PSNR over views."""

    def measure(x: Tree, batch: Batch, key: Key) -> Score:
        return bootstrap(psnr(x["image"], batch.x["image"]), key)

    return Metric(
        "psnr", "higher", measure, "dB", "Peak signal-to-noise ratio of held-out views against the mesh."
    )


def overlap() -> Metric:
    """Mean silhouette overlap over views."""

    def measure(x: Tree, batch: Batch, key: Key) -> Score:
        return bootstrap(silhouette_overlap(x["image"], batch.x["image"]).to(torch.float32), key)

    return Metric("silhouette", "higher", measure, "", "Intersection over union of held-out silhouettes.")
