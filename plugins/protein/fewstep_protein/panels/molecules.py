"""Molecules that turn, in the report and without a library. Everything is inside the page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files

import torch
from torch import Tensor

from fewstep.protocol import Drawn
from fewstep.runs import media
from fewstep_protein.metrics.secondary import secondary_structure
from fewstep_protein.panels.asides import pictured
from fewstep_protein.panels.traces import broad_side, letters
from fewstep_protein.structures.files import chain_points, real_chains

SHOWN = 6
"""Chains per viewer."""


def molecules(drawn: Mapping[str, Drawn]) -> str:
    """A viewer per contender, and one with real chains where the batch has them."""
    parts = {
        name: viewer(real_chains(d.x, d.batch.mask)[:SHOWN], name) for name, d in pictured(drawn).items()
    }
    truth = real_of(drawn)
    if truth:
        parts["real"] = viewer(truth[:SHOWN], "real chains")
    note = (
        "<p>CA traces: helices pink, strands yellow, or from blue (first residue) to red (last). Drag to turn, pinch or "
        "use plus and minus to zoom; with the keyboard: arrow keys, plus, minus, page up, page down, 0.</p>"
    )
    return note + media.columns(parts) + f"<script>{script()}</script>"


def script() -> str:
    """What turns elements into viewers; 9 kB."""
    return (files("fewstep_protein") / "panels" / "viewer.js").read_text(encoding="utf-8")


def viewer(chains: Sequence[Tensor], label: str) -> str:
    """An element that ``viewer.js`` turns into a molecule viewer.

    Args:
        chains: (n, 3) coordinates in nanometers; chains that are not finite are left out. Equally long ones are laid
            over the first, so that they can be looked at together.
        label: what it shows, for screen readers.
    """
    legal = [chain for chain in chains if bool(chain.isfinite().all())]
    if not legal:
        return "<p>No chain with finite coordinates.</p>"
    points = json.dumps(chain_points(laid_over(legal)), separators=(",", ":"))
    kinds = json.dumps([letters(codes) for codes in secondary_structure(legal)], separators=(",", ":"))
    sentence = "The viewer needs JavaScript; the files beside this report hold the same chains."
    return (
        f'<div class="molecule" data-label="{escape(label)}" data-chains="{points}" '
        f'data-structures="{escape(kinds)}"><noscript>{sentence}</noscript></div>'
    )


def laid_over(chains: Sequence[Tensor]) -> list[Tensor]:
    """Each chain turned broad side on; all over the first one, by least squares, where they are equally long."""
    turned = [broad_side(chain) for chain in chains]
    if len({len(chain) for chain in chains}) > 1:
        return turned
    return [turned[0], *(superposed(chain, turned[0]) for chain in turned[1:])]


def superposed(chain: Tensor, onto: Tensor) -> Tensor:
    """(n, 3) the chain turned and moved, never mirrored, to lie nearest to another of the same length (Kabsch 1976)."""
    here, there = (chain - chain.mean(0)).double(), (onto - onto.mean(0)).double()
    left, _, right = torch.linalg.svd(here.T @ there)
    hand = torch.ones(3, dtype=torch.float64)
    hand[2] = torch.linalg.det(left @ right).sign()
    return (here @ (left * hand) @ right + onto.mean(0)).to(chain.dtype)


def real_of(drawn: Mapping[str, Drawn]) -> list[Tensor]:
    """The real chains of the evaluation batch, none where it has no truth."""
    batch = next((item.batch for item in drawn.values() if item.batch.x is not None), None)
    return [] if batch is None else real_chains(batch.x, batch.mask)
