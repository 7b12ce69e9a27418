"""How large chains are for their length, and what they are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from torch import Tensor

from fewstep.protocol import Drawn
from fewstep.runs import media
from fewstep.runs.charts import Axis
from fewstep_protein.metrics.ensemble import Ensemble, seen
from fewstep_protein.panels.asides import pictured
from fewstep_protein.panels.molecules import real_of
from fewstep_protein.panels.plots import frame, svg
from fewstep_protein.structures import geometry
from fewstep_protein.structures.formats import ANGSTROM

DOTS = 300
"""Chains per plot."""
INK = {"helix": "#d0326e", "strand": "#c99700", "coil": "#8a94a0"}
"""Colors of a bar, those of the molecule viewer."""


def sizes(drawn: Mapping[str, Drawn]) -> str:
    """Gyration radius against length, with the law of compact chains, and a table."""
    truth, made = Ensemble(real_of(drawn)), _ensembles(drawn)
    shown = [one for one in (truth, *made.values()) if one.chains]
    across, up = _axes(shown)
    charts = "".join(_plot(name, one, truth, across, up) for name, one in made.items())
    note = (
        "<p>Every dot is a chain; gray dots are real ones. The line is 2.2 n<sup>0.38</sup> angstrom, the gyration "
        "radius of a globular chain of n residues (Skolnick et al. 1997).</p>"
    )
    return f'{note}<div class="charts">{charts}</div>' + _table(made, truth)


def composition(drawn: Mapping[str, Drawn]) -> str:
    """Shares of helix, strand and coil as bars, one under the other."""
    truth, made = real_of(drawn), _ensembles(drawn)
    rows = {**({"real chains": Ensemble(truth)} if truth else {}), **made}
    bars = "".join(_bar(name, one) for name, one in rows.items())
    key = " ".join(
        f'<span style="white-space:nowrap"><span aria-hidden="true" style="color:{ink}">'
        f"\N{BLACK SQUARE}</span> {kind}</span>"
        for kind, ink in INK.items()
    )
    return f"<p>Residues by secondary structure (P-SEA). {key}</p><dl>{bars}</dl>"


def _ensembles(drawn: Mapping[str, Drawn]) -> dict[str, Ensemble]:
    return {name: seen(item.x, item.batch.mask) for name, item in pictured(drawn).items()}


def _axes(shown: Sequence[Ensemble]) -> tuple[Axis, Axis]:
    """The same for all plots, so that they can be compared; a few chains that exploded do not set the scale."""
    lengths = [len(chain) for one in shown for chain in one.chains]
    radii = sorted(r for one in shown for r in one.columns["rg"].tolist() if math.isfinite(r))
    top = min(radii[-1], 2 * radii[int(0.9 * (len(radii) - 1))]) if radii else 1.0
    low, high = min(lengths), max(lengths)
    across = Axis("residues", low - 1, high + 1, False, 58.0, 424.0)
    return across, Axis("gyration radius (angstrom)", 0.0, 1.05 * top, False, 234.0, 30.0)


def _plot(name: str, made: Ensemble, truth: Ensemble, across: Axis, up: Axis) -> str:
    law = " ".join(
        f"{across.at(n):.1f},{up.at(geometry.compact_radius(n) * ANGSTROM):.1f}"
        for n in range(math.ceil(across.low), math.floor(across.high) + 1)
    )
    inner = (
        f'{frame(across, up)}<g fill="#888" opacity=".5">{_dots(truth, across, up)}</g>'
        f'<g fill="#d9480f" opacity=".75">{_dots(made, across, up)}</g>'
        f'<polyline class="curve c2" points="{law}"/>'
    )
    radius = made.columns["rg"]
    told = f"mean {radius[radius.isfinite()].mean():.1f} angstrom, {len(made.chains)} chains"
    return svg(name, f"Gyration radius against length: {told}", inner)


def _dots(made: Ensemble, across: Axis, up: Axis) -> str:
    if not made.chains:
        return ""
    radii, every = made.columns["rg"].tolist(), max(1, math.ceil(len(made.chains) / DOTS))
    pairs = zip(made.chains[::every], radii[::every], strict=True)
    return "".join(
        f'<circle cx="{across.at(len(chain)):.1f}" cy="{up.at(r):.1f}" r="2.2"/>'
        for chain, r in pairs
        if math.isfinite(r)
    )


def _bar(name: str, made: Ensemble) -> str:
    columns = made.columns
    helix, strand = float(columns["helix"].mean()), float(columns["strand"].mean())
    shares = {"helix": helix, "strand": strand, "coil": 1 - helix - strand}
    told = ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in shares.items())
    at, parts = 0.0, []
    for kind, share in shares.items():
        parts.append(f'<rect x="{at:.2f}" width="{100 * share:.2f}" height="10" fill="{INK[kind]}"/>')
        at += 100 * share
    return (
        f'<div style="justify-content:flex-start"><dt style="min-width:10rem">{escape(name)}</dt>'
        f'<dd style="flex:1 1 14rem;font-weight:400"><svg viewBox="0 0 100 10" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(f"{name}: {told}")}" style="width:100%;height:1rem;display:block">{"".join(parts)}</svg>'
        f"<small>{told}</small></dd></div>"
    )


def _table(made: Mapping[str, Ensemble], truth: Ensemble) -> str:
    rows = {**made, **({"real chains": truth} if truth.chains else {})}
    body = [
        [
            name,
            _spread(one.columns["bond_mean"]),
            _spread(one.columns["rg"]),
            _spread(one.columns["rg_ratio"], 2),
        ]
        for name, one in rows.items()
    ]
    head = ["contender", "bond (angstrom)", "gyration radius (angstrom)", "over that of a globule"]
    return media.table(head, body, "Mean over chains, and their standard deviation")


def _spread(values: Tensor, digits: int = 2) -> str:
    known = values[values.isfinite()]
    return f"{known.mean():.{digits}f} \N{PLUS-MINUS SIGN} {known.std(correction=0):.{digits}f}"
