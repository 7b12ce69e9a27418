"""What is measured about music: whether it does what was asked, and how far its sound is from music that was not heard."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fewstep.protocol import Batch, Key, Metric, Score, Tree
from fewstep.runs import bootstrap_statistic
from fewstep.runs.frechet import frechet as gaussians_apart
from fewstep_audio.ditto2.controls import Control

FREE = "student"
"""The contender that draws from the same noise and is asked for nothing."""


def control_error(name: str, told: str) -> Metric:
    """Loss of one control, as a share of that of a sample that was asked for nothing."""

    def measure(x: Tree, batch: Batch, key: Key) -> Score:
        asked = {row: one for row, one in enumerate(batch.extra["controls"]) if one.name == name}
        free = batch.extra.get("drawn", {}).get(FREE)
        mine = losses(asked, x["mel"])
        other = torch.ones_like(mine) if free is None else losses(asked, free["mel"])
        return bootstrap_statistic(lambda rows: mine[rows].sum(-1) / other[rows].sum(-1), len(mine), key)

    return Metric(
        f"{name}_error",
        "lower",
        measure,
        "",
        f"{told}; a share of what the student's free sample of the same noise has (as it is if none was drawn).",
    )


def losses(asked: dict[int, Control], mel: Tensor) -> Tensor:
    """One loss for each row that was asked."""
    return torch.cat([control(mel[row : row + 1]) for row, control in asked.items()])


def frechet(reference: Callable[[], Sequence[Tensor]]) -> Metric:
    """Frechet distance of windows of mel to those of held-out music.

    Args:
        reference: log-mels (M, T) of held-out music.
    """

    def measure(x: Tree, batch: Batch, key: Key) -> Score:
        mine = torch.stack([windows(mel) for mel in x["mel"]])
        truth = torch.cat([windows(mel) for mel in reference()])

        def of(rows: Tensor) -> Tensor:
            return torch.stack(
                [distance(mine[row].flatten(0, 1), truth) for row in rows.reshape(-1, rows.shape[-1])]
            )

        return bootstrap_statistic(lambda rows: of(rows).reshape(rows.shape[:-1]), len(mine), key)

    told = (
        "Frechet distance of means and movements of groups of bands, in windows of 0.37 s, to held-out music."
    )
    return Metric("fd_bands", "lower", measure, "", told)


WINDOW, GROUPS = 16, 16
"""Frames of a window, and groups into which its bands are averaged."""


def windows(mel: Tensor) -> Tensor:
    """(M, T) -> (T // 16, 32): means of groups of bands over a window, and how much they move from frame to frame."""
    groups = torch.nn.functional.adaptive_avg_pool1d(mel.T, GROUPS)
    count = len(groups) // WINDOW
    cut = groups[: count * WINDOW].reshape(count, WINDOW, GROUPS)
    return torch.cat([cut.mean(1), cut.diff(dim=1).abs().mean(1)], 1).double()


def distance(mine: Tensor, truth: Tensor) -> Tensor:
    """Frechet distance of the Gaussians of two sets of windows, (N, E) each."""
    laws = [(rows.mean(0), rows.T.cov()) for rows in (mine, truth)]
    return gaussians_apart(*laws[0], *laws[1])
