"""CA traces as small pictures, and as the few numbers that a page needs to draw them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby

import torch
from torch import Tensor

from fewstep_protein.metrics.secondary import COIL, HELIX, STRAND

TENTH = 100.0
"""Units of a stored trace per nanometer: a tenth of an angstrom."""
LETTERS = {HELIX: "H", STRAND: "E", COIL: "C"}
"""Secondary structure as DSSP writes it."""
WIDE, HIGH = 96, 64
"""Size of a thumbnail."""
ROOM = 4
"""Of its margins."""


def broad_side(chain: Tensor) -> Tensor:
    """(n, 3) the chain centered and turned, never mirrored, so that its longest axis lies across the picture."""
    centered = (chain - chain.mean(0)).double()
    axes = torch.linalg.svd(centered, full_matrices=False).Vh
    axes[2] *= torch.linalg.det(axes).sign()
    return (centered @ axes.T).to(chain.dtype)


def letters(codes: Tensor) -> str:
    """Secondary structure (n,) as letters."""
    return "".join(LETTERS[code] for code in codes.tolist())


def flat_trace(chain: Tensor) -> list[int]:
    """x, y, z of every residue of a chain (n, 3), one after the other, turned broad side on, in tenths of an angstrom."""
    tenths: list[int] = (broad_side(chain) * TENTH).round().int().flatten().tolist()
    return tenths


def thumbnail(trace: Sequence[int], structure: str, label: str) -> str:
    """A trace as SVG, helices and strands in the colors of the page's classes ``H`` and ``E``.

    Args:
        trace: as of :func:`flat_trace`.
        structure: a letter for each residue.
        label: what it shows, for screen readers.
    """
    across, up = trace[0::3], trace[1::3]
    if not across:
        return ""
    scale = min(
        (WIDE - 2 * ROOM) / max(1, max(across) - min(across)), (HIGH - 2 * ROOM) / max(1, max(up) - min(up))
    )
    left, top = (max(across) + min(across)) / 2, (max(up) + min(up)) / 2
    points = [
        f"{WIDE / 2 + scale * (x - left):.0f},{HIGH / 2 - scale * (y - top):.0f}"
        for x, y in zip(across, up, strict=True)
    ]
    parts = []
    for letter, group in groupby(range(len(points)), key=structure.__getitem__):
        rows = list(group)
        piece = " ".join(points[max(0, rows[0] - 1) : rows[-1] + 1])
        parts.append(f'<polyline class="{letter}" points="{piece}"/>')
    return (
        f'<svg class="trace" viewBox="0 0 {WIDE} {HIGH}" width="{WIDE}" height="{HIGH}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )
