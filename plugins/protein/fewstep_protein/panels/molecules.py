"""Sections of the report: molecules that turn, and the shape of chains as a plot. Everything is inside the page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files

import torch
from torch import Tensor

from fewstep.protocol import Batch, Drawn, Panel
from fewstep.runs import media
from fewstep_protein.structures import geometry
from fewstep_protein.structures.files import ANGSTROM, chain_points, real_chains

SHOWN = 6
"""Chains per viewer."""
DOTS = 700
"""Points per plot."""
SIDE = 260
"""Width and height of a plot in pixels."""
BEND = (70.0, 165.0)
"""Range of the CA angle in degrees."""


def molecules(drawn: Mapping[str, Drawn]) -> str:
    """A viewer per contender, and one with real chains where the batch has them."""
    parts = {name: viewer(real_chains(d.x, d.batch.mask)[:SHOWN], name) for name, d in drawn.items()}
    truth = _truth(drawn)
    if truth:
        parts["real"] = viewer(truth[:SHOWN], "real chains")
    script = (files("fewstep_protein") / "panels" / "viewer.js").read_text()
    note = (
        "<p>CA traces from blue (first residue) to red (last). Drag to turn, pinch or use plus and minus to zoom; "
        "with the keyboard: arrow keys, plus, minus, page up, page down, 0.</p>"
    )
    return note + media.columns(parts) + f"<script>{script}</script>"


def viewer(chains: Sequence[Tensor], label: str) -> str:
    """An element that ``viewer.js`` turns into a molecule viewer.

    Args:
        chains: (n, 3) coordinates in nanometers; chains that are not finite are left out.
        label: what it shows, for screen readers.
    """
    legal = [broad_side(c) for c in chains if bool(torch.isfinite(c).all())]
    if not legal:
        return "<p>No chain with finite coordinates.</p>"
    data = json.dumps(chain_points(legal), separators=(",", ":"))
    sentence = "The viewer needs JavaScript; the files beside this report hold the same chains."
    return (
        f'<div class="molecule" data-label="{escape(label)}" data-chains="{data}">'
        f"<noscript>{sentence}</noscript></div>"
    )


def broad_side(chain: Tensor) -> Tensor:
    """(n, 3) the chain centered and turned, never mirrored, so that its longest axis lies across the picture."""
    centered = chain - chain.mean(0)
    axes = torch.linalg.svd(centered.double(), full_matrices=False).Vh
    axes[2] *= torch.linalg.det(axes).sign()
    return (centered.double() @ axes.T).to(chain.dtype)


def shapes(drawn: Mapping[str, Drawn]) -> str:
    """CA angle against CA pseudo-dihedral, the Ramachandran plot of a CA trace, contender by contender."""
    truth = _truth(drawn)
    parts = {name: shape_plot(real_chains(d.x, d.batch.mask), truth, name) for name, d in drawn.items()}
    note = (
        "<p>Every dot is four residues in a row; gray dots are real chains. Helices lie near 50 degrees of "
        "pseudo-dihedral and 90 degrees of angle, strands near 190 and 125.</p>"
    )
    return note + media.columns(parts)


def shape_plot(chains: Sequence[Tensor], truth: Sequence[Tensor], label: str) -> str:
    """One plot as SVG."""
    ticks = "".join(
        f'<text x="{_across(d):.0f}" y="{SIDE + 14}" text-anchor="middle">{d}\N{DEGREE SIGN}</text>'
        for d in (-120, 0, 120)
    ) + "".join(
        f'<text x="-4" y="{_up(b):.0f}" text-anchor="end">{b}\N{DEGREE SIGN}</text>' for b in (90, 120, 150)
    )
    text = f"{label}: angle against pseudo-dihedral, {sum(max(0, len(c) - 3) for c in chains)} residue quadruples"
    return (
        f'<svg viewBox="-36 -4 {SIDE + 44} {SIDE + 34}" role="img" aria-label="{escape(text)}" '
        'style="width:100%;font:10px sans-serif" fill="currentColor">'
        f'<rect width="{SIDE}" height="{SIDE}" fill="none" stroke="currentColor" opacity=".4"/>'
        f'<g fill="#888" opacity=".45">{_dots(truth)}</g><g fill="#d9480f" opacity=".7">{_dots(chains)}</g>{ticks}'
        f'<text x="{SIDE / 2:.0f}" y="{SIDE + 27}" text-anchor="middle">CA pseudo-dihedral</text></svg>'
    )


def _dots(chains: Sequence[Tensor]) -> str:
    long = [c for c in chains if len(c) > 3 and bool(torch.isfinite(c).all())]
    if not long:
        return ""
    twist = torch.cat([geometry.dihedrals(c) for c in long]).rad2deg()
    bend = torch.cat([geometry.angles(c)[:-1] for c in long]).rad2deg()
    every = max(1, math.ceil(len(twist) / DOTS))
    pairs = zip(twist[::every].tolist(), bend[::every].tolist(), strict=True)
    return "".join(
        f'<circle cx="{_across(t):.1f}" cy="{_up(b):.1f}" r="1.6"/>'
        for t, b in pairs
        if BEND[0] <= b <= BEND[1]
    )


def _across(degrees: float) -> float:
    return (degrees + 180) / 360 * SIDE


def _up(degrees: float) -> float:
    return (BEND[1] - degrees) / (BEND[1] - BEND[0]) * SIDE


def _truth(drawn: Mapping[str, Drawn]) -> list[Tensor]:
    batch: Batch | None = next((d.batch for d in drawn.values() if d.batch.x is not None), None)
    return [] if batch is None else real_chains(batch.x, batch.mask)


def size_table(drawn: Mapping[str, Drawn]) -> str:
    """Mean bond length and gyration radius by contender, in angstrom, as a table."""
    body = []
    for name, d in drawn.items():
        chains = real_chains(d.x, d.batch.mask)
        bond = torch.cat([geometry.bonds(c) for c in chains]) * ANGSTROM
        size = torch.stack([geometry.gyration_radius(c) for c in chains]) * ANGSTROM
        body.append([name, f"{bond.mean():.2f} \N{PLUS-MINUS SIGN} {bond.std():.2f}", f"{size.mean():.2f}"])
    return media.table(
        ["contender", "bond (angstrom)", "gyration radius (angstrom)"], body, "Bonds and sizes"
    )


def backbone_panels() -> tuple[Panel, ...]:
    """Sections of a backbone report."""
    return (
        Panel("Molecules", molecules),
        Panel("Angles and dihedrals", shapes),
        Panel("Bonds and sizes", size_table),
    )
