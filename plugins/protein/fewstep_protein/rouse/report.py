"""How far samples are from the exact chain, in numbers and as a plot."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from html import escape

import torch
from torch import Tensor

from fewstep.protocol import Batch, Drawn, Key, Metric, Panel, Score
from fewstep.runs import bootstrap_statistic, media
from fewstep.runs.frechet import bures
from fewstep.testing.analytic import rouse_modes
from fewstep_protein.panels import molecules
from fewstep_protein.rouse.chain import BOND, covariance

RESAMPLES = 60
"""Bootstrap resamples: each one is an eigenvalue problem per length."""
PLOT = (300, 180)
"""Width and height of the mode plot in pixels."""


def rouse_metrics() -> tuple[Metric, ...]:
    """Distances of a sample covariance to the exact one; the mean over lengths."""
    return (
        Metric(
            "w2",
            "lower",
            _by_length(wasserstein),
            "",
            "normalized Wasserstein-2 distance to the exact Gaussian chain",
        ),
        Metric(
            "covariance_error",
            "lower",
            _by_length(_frobenius),
            "",
            "relative Frobenius error of the covariance",
        ),
        Metric(
            "rg_error",
            "lower",
            _by_length(_rg_error),
            "",
            "relative error of the squared gyration radius b^2 (n^2 - 1) / (6 n)",
        ),
        Metric(
            "bond_error", "lower", _by_length(_bond_error), "", "relative error of the mean squared bond b^2"
        ),
    )


def sample_covariance(x: Tensor) -> Tensor:
    """(n, n) covariance per axis of centered chains (B, n, 3), float64; the mean is known to be zero."""
    wide = x.double().permute(1, 0, 2).flatten(1)
    return wide @ wide.T / wide.shape[1]


def split_by_length(x: Tensor, mask: Tensor) -> dict[int, Tensor]:
    """Length -> chains (B_n, n, 3) without padding."""
    count = mask[..., 0].sum(1)
    return {int(n): x[count == n][:, : int(n)] for n in count.unique()}


def wasserstein(found: Tensor) -> Tensor:
    """W2 of a centered Gaussian with this covariance (n, n) to the exact chain of n beads, over the size of the latter."""
    exact = covariance(len(found))
    return (bures(found, exact) / exact.diagonal().sum()).sqrt()


def _frobenius(found: Tensor) -> Tensor:
    exact = covariance(len(found))
    return (found - exact).norm() / exact.norm()


def _rg_error(found: Tensor) -> Tensor:
    beads = len(found)
    return (3 * found.diagonal().mean() / (BOND**2 * (beads**2 - 1) / (6 * beads)) - 1).abs()


def _bond_error(found: Tensor) -> Tensor:
    step = found.diagonal()[1:] + found.diagonal()[:-1] - 2 * found.diagonal(1)
    return (3 * step.mean() / BOND**2 - 1).abs()


def _by_length(of_covariance: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Batch, Key], Score]:
    """Metric function: a number of the sample covariance, averaged over lengths, resampled within each."""

    def measure(x: Tensor, batch: Batch, key: Key) -> Score:
        groups = list(split_by_length(x, batch.mask).values())
        count = min(len(group) for group in groups)

        def statistic(rows: Tensor) -> Tensor:
            picked = rows.reshape(-1, rows.shape[-1])
            found = [
                torch.stack([of_covariance(sample_covariance(g[row])) for g in groups]).mean()
                for row in picked
            ]
            return torch.stack(found).reshape(rows.shape[:-1])

        return bootstrap_statistic(statistic, count, key, resamples=RESAMPLES)

    return measure


def rouse_panels() -> tuple[Panel, ...]:
    """Sections of a Rouse report."""
    return (Panel("Mode variances", modes), Panel("Chains", molecules.molecules))


def modes(drawn: Mapping[str, Drawn]) -> str:
    """Variance of every mode over its exact value, longest chains, contender by contender."""
    parts = {name: _mode_plot(d, name) for name, d in drawn.items()}
    return (
        "<p>Each dot is one mode of the longest chain: 1 is exact, mode 1 is the slowest.</p>"
        + media.columns(parts)
    )


def _mode_plot(drawn: Drawn, label: str) -> str:
    groups = split_by_length(drawn.x, drawn.batch.mask)
    beads = max(groups)
    variances, basis = rouse_modes(beads, BOND)
    along = torch.einsum("np,bnc->bpc", basis, groups[beads].double())
    ratio = (along.square().mean((0, 2)) / variances).tolist()
    wide, tall = PLOT
    dots = "".join(
        f'<circle cx="{(p + 0.5) * wide / len(ratio):.1f}" cy="{_height(r):.1f}" r="3"/>'
        for p, r in enumerate(ratio)
    )
    text = f"{label}: variance over exact variance of {len(ratio)} modes, from {min(ratio):.2f} to {max(ratio):.2f}"
    lines = "".join(
        f'<line x1="0" x2="{wide}" y1="{_height(v):.1f}" y2="{_height(v):.1f}" stroke="currentColor" opacity=".3"/>'
        f'<text x="-4" y="{_height(v) + 3:.1f}" text-anchor="end">{v:g}</text>'
        for v in (0.1, 0.5, 1, 2)
    )
    return (
        f'<svg viewBox="-28 -6 {wide + 34} {tall + 12}" role="img" aria-label="{escape(text)}" '
        f'style="width:100%;font:10px sans-serif" fill="currentColor">{lines}<g fill="#d9480f">{dots}</g></svg>'
    )


def _height(ratio: float) -> float:
    """Pixels from the top for a ratio on a log scale from 0.05 to 4."""
    share = (math.log(max(0.05, min(4.0, ratio))) - math.log(0.05)) / math.log(80)
    return PLOT[1] * (1 - share)
