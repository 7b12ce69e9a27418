"""Maps of chains: angle against dihedral, and which residues touch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import torch
from torch import Tensor

from fewstep.protocol import Drawn
from fewstep.runs import media
from fewstep_protein.metrics.contacts import CONTACT, SEPARATE
from fewstep_protein.panels.asides import pictured
from fewstep_protein.panels.molecules import real_of
from fewstep_protein.structures import geometry
from fewstep_protein.structures.files import real_chains

DOTS = 700
"""Points per plot."""
SIDE = 260
"""Width and height of a plot in pixels."""
BEND = (70.0, 165.0)
"""Range of the CA angle in degrees."""
CELLS = 32
"""Rows of a contact map; fewer where a chain is shorter."""
RAMP = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], dtype=float)
"""Dark to bright, even in lightness: viridis at every quarter."""
NONE = 128
"""Gray of a cell that no pair falls into."""


def shapes(drawn: Mapping[str, Drawn]) -> str:
    """CA angle against CA pseudo-dihedral, the Ramachandran plot of a CA trace, contender by contender."""
    truth = real_of(drawn)
    parts = {
        name: shape_plot(real_chains(d.x, d.batch.mask), truth, name) for name, d in pictured(drawn).items()
    }
    note = (
        "<p>Every dot is four residues in a row; gray dots are real chains. Helices lie near 50 degrees of "
        "pseudo-dihedral and 90 degrees of angle, strands near -170 and 125.</p>"
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
        'style="width:100%;max-width:24rem;font:10px sans-serif" fill="currentColor">'
        f'<rect width="{SIDE}" height="{SIDE}" fill="none" stroke="currentColor" opacity=".4"/>'
        f'<g fill="#888" opacity=".45">{_dots(truth)}</g><g fill="#d9480f" opacity=".7">{_dots(chains)}</g>{ticks}'
        f'<text x="{SIDE / 2:.0f}" y="{SIDE + 27}" text-anchor="middle">CA pseudo-dihedral</text></svg>'
    )


def contacts(drawn: Mapping[str, Drawn]) -> str:
    """Mean contact maps: a contender above the diagonal, real chains below it."""
    truth = real_of(drawn)
    made = {name: real_chains(d.x, d.batch.mask) for name, d in pictured(drawn).items()}
    cells = min([CELLS, *(len(c) for chains in (*made.values(), truth) for c in chains)])
    real = contact_map(truth, cells)
    below = torch.ones(cells, cells).tril(-1).bool()
    parts = {
        name: _map_picture(torch.where(below, real, contact_map(chains, cells)), name, bool(truth))
        for name, chains in made.items()
    }
    note = (
        f"<p>How often two residues at least {SEPARATE} apart come within {10 * CONTACT:g} angstrom; both axes run "
        "from the first residue (top left) to the last, whatever the length. Helices lie along the diagonal, hairpins "
        "across it. Brightness is the square root of the share of chains.</p>"
    )
    return note + media.columns(parts)


def contact_map(chains: Sequence[Tensor], cells: int) -> Tensor:
    """(cells, cells) mean share of touching residue pairs, by their places along the chain.

    Residues closer along the chain than SEPARATE touch always and count nowhere; a cell that holds no pair is not a number.
    """
    touching, seen = torch.zeros(cells * cells), torch.zeros(cells * cells)
    for chain in chains:
        if not bool(chain.isfinite().all()):
            continue
        place = torch.arange(len(chain))
        row, column = torch.meshgrid(place, place, indexing="ij")
        far = (row - column).abs() >= SEPARATE
        cell = ((row * cells // len(chain)) * cells + column * cells // len(chain))[far]
        touching.index_add_(0, cell, (torch.cdist(chain, chain)[far] < CONTACT).float())
        seen.index_add_(0, cell, torch.ones(len(cell)))
    return (touching / seen).reshape(cells, cells)


def _map_picture(share: Tensor, name: str, compared: bool) -> str:
    level = share.clamp(0, 1).sqrt().numpy() * (len(RAMP) - 1)
    pixels = np.stack([np.interp(level, range(len(RAMP)), RAMP[:, c]) for c in range(3)], -1)
    pixels[np.isnan(level)] = NONE
    label = f"{name} above the diagonal, real chains below" if compared else name
    shown = media.picture(media.png(pixels.round().astype(np.uint8)), f"Contacts: {label}", caption=False)
    style = 'style="width:100%;max-width:18rem;image-rendering:pixelated" '
    return media.captioned(shown.replace("<img ", f"<img {style}"), label)


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
