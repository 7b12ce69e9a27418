"""Sections of the report: sequences with their kinds of residues in color, composition, likes and dislikes of pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from html import escape

import torch
from torch import Tensor

from fewstep.protocol import Drawn, Panel
from fewstep.runs import media
from fewstep_protein.sequence_didi.alphabet import LETTERS, rows_of
from fewstep_protein.sequence_didi.metrics import letter_counts, pair_counts

KINDS = {
    "hydrophobic": ("AVLIMFWY", "hsl(45 90% 80%)"),
    "polar": ("STNQ", "hsl(140 50% 80%)"),
    "positive": ("KRH", "hsl(210 85% 84%)"),
    "negative": ("DE", "hsl(0 85% 86%)"),
    "special": ("CGP", "hsl(285 45% 87%)"),
}
"""Kind -> its letters and a light color: black text on it has a contrast above 10 to 1."""
COLOR = {letter: color for letters, color in KINDS.values() for letter in letters}
ORDER = "AVLIMFWYSTNQKRHDECGP"
"""Letters of axes, kind by kind."""
SHOWN = 8
"""Sequences per contender."""
CELL = 9
"""Pixels of a cell of the pair map."""
BAR = (12, 120)
"""Width and largest height of a bar in pixels."""
FOLD = 3.0
"""Largest |ln ratio| of the pair map's colors."""


def sequence_panels(pairs: Tensor) -> tuple[Panel, ...]:
    """Sections of a report.

    Args:
        pairs: (20, 20) reference probabilities of neighbors.
    """
    return (
        Panel("Sequences", sequences),
        Panel("Composition", partial(composition, pairs.sum(1))),
        Panel("Pairs of neighbors", partial(pair_maps, pairs)),
    )


def sequences(drawn: Mapping[str, Drawn]) -> str:
    """Some sequences of every contender, each letter on the color of its kind, and the truth."""
    parts = {name: _lines(item.x, item.batch.mask) for name, item in drawn.items()}
    batch = next(iter(drawn.values())).batch
    if batch.x is not None:
        parts["reference"] = _lines(batch.x, batch.mask)
    legend = " ".join(
        f'<span style="background:{color};color:#000;padding:0 .3em;display:inline-block">{kind}: {" ".join(letters)}</span>'
        for kind, (letters, color) in KINDS.items()
    )
    return f"<p>{legend}</p>" + media.columns(parts)


def composition(letters: Tensor, drawn: Mapping[str, Drawn]) -> str:
    """Share of every letter as a bar, the reference as a line across it."""
    parts = {name: _bars(_total(letter_counts, d), letters, name) for name, d in drawn.items()}
    return "<p>A bar is the share of a residue, the line across it the reference.</p>" + media.columns(parts)


def pair_maps(pairs: Tensor, drawn: Mapping[str, Drawn]) -> str:
    """Ln of the share of each pair of neighbors over its share in the reference, blue too rare, red too frequent."""
    parts = {name: _map(_total(pair_counts, d).reshape(20, 20), pairs, name) for name, d in drawn.items()}
    note = (
        "<p>Rows are the first residue, columns the second. Red pairs are made too often, blue ones too rarely, by up to "
        f"e^{FOLD:g}; white is right. Pairs that the reference hardly has and nobody made are white too.</p>"
    )
    return note + media.columns(parts)


def _total(counted: Callable[[Tensor], Tensor], drawn: Drawn) -> Tensor:
    rows = rows_of(drawn.x, drawn.batch.mask)
    return torch.stack([counted(row) for row in rows]).sum(0)


def _lines(x: Tensor, mask: Tensor | None) -> str:
    return "".join(_line(row.tolist()) for row in rows_of(x[:SHOWN], None if mask is None else mask[:SHOWN]))


def _line(ids: list[int]) -> str:
    text = "".join(LETTERS[i] for i in ids)
    inner = "".join(f'<span style="background:{COLOR[letter]}">{letter}</span>' for letter in text)
    return (
        f'<p role="img" aria-label="{text}" style="font-family:ui-monospace,monospace;overflow-wrap:anywhere;'
        f'margin:.2rem 0;color:#000;line-height:1.35">{inner}</p>'
    )


def _bars(counts: Tensor, expected: Tensor, name: str) -> str:
    share = counts / counts.sum()
    wide, tall = BAR
    top = float(torch.cat([share, expected]).max())
    parts = []
    for place, letter in enumerate(ORDER):
        mine, theirs = (float(law[LETTERS.index(letter)]) for law in (share, expected))
        x, height, line = place * wide, tall * mine / top, tall * (1 - theirs / top)
        parts.append(
            f'<rect x="{x + 1}" y="{tall - height:.1f}" width="{wide - 2}" height="{height:.1f}" '
            f'fill="{COLOR[letter]}" stroke="currentColor" stroke-width=".5"><title>{letter}: {mine:.3f}, reference '
            f"{theirs:.3f}</title></rect>"
            f'<line x1="{x}" x2="{x + wide}" y1="{line:.1f}" y2="{line:.1f}" stroke="currentColor" stroke-width="1.5"/>'
            f'<text x="{x + wide / 2}" y="{tall + 11}" text-anchor="middle">{letter}</text>'
        )
    size, label = f"-2 -4 {20 * wide + 4} {tall + 20}", f"{name}: composition of {int(counts.sum())} residues"
    return _svg(size, label, "".join(parts))


def _map(counts: Tensor, pairs: Tensor, name: str) -> str:
    seen = counts + 0.5
    expected = pairs * counts.sum() + 0.5
    ratio = (seen / seen.sum()).log() - (expected / expected.sum()).log()
    order = [LETTERS.index(letter) for letter in ORDER]
    cells = "".join(
        f'<rect x="{CELL * (c + 1)}" y="{CELL * (r + 1)}" width="{CELL}" height="{CELL}" '
        f'fill="{_shade(float(ratio[a, b]))}"><title>{LETTERS[a]}{LETTERS[b]}: {float(ratio[a, b].exp()):.2f} times'
        "</title></rect>"
        for r, a in enumerate(order)
        for c, b in enumerate(order)
    )
    names = "".join(
        f'<text x="{CELL * (i + 1.5)}" y="{CELL - 1}" text-anchor="middle">{letter}</text>'
        f'<text x="{CELL / 2}" y="{CELL * (i + 2) - 1}" text-anchor="middle">{letter}</text>'
        for i, letter in enumerate(ORDER)
    )
    worst = float(ratio.abs().mean())
    return _svg(
        f"0 0 {21 * CELL} {21 * CELL}",
        f"{name}: pairs are off by {worst:.2f} in ln on average",
        cells + names,
    )


def _shade(value: float) -> str:
    """White at 0, red above, blue below."""
    share = max(-1.0, min(1.0, value / FOLD))
    hue = 12 if share > 0 else 215
    return f"hsl({hue} 80% {100 - 55 * abs(share):.0f}%)"


def _svg(box: str, label: str, inner: str) -> str:
    return (
        f'<svg viewBox="{box}" role="img" aria-label="{escape(label)}" fill="currentColor" '
        f'style="width:100%;max-width:24rem;font:8px sans-serif">{inner}</svg><p>{escape(label)}</p>'
    )
