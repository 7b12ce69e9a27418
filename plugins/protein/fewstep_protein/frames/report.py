"""What is measured on frames: their CA traces like any backbone, and what only frames say: peptide bonds and torsions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep.protocol import Batch, Drawn, Key, Metric, Panel, Score
from fewstep.runs import bootstrap, bootstrap_statistic, media
from fewstep_protein.frames.data import traces
from fewstep_protein.frames.rigid import C_N, C_N_CA, CA_C_N, atoms_of, torsions
from fewstep_protein.metrics import bonds, clashes, diversity, hands, shares, sizes
from fewstep_protein.panels.backbones import backbone_panels
from fewstep_protein.structures import files
from fewstep_protein.structures.files import real_chains
from fewstep_protein.structures.formats import Model

BOND_ERROR = 0.02
"""Nanometers by which a peptide bond may be off: 0.13 +- 0.02, where real frames have a spread of 0.003."""
ANGLE_ERROR = math.radians(20.0)
"""Radians by which each of its two angles may be off; real frames have a spread of about 3 degrees."""
TRANS = math.radians(150.0)
"""|omega| above which a peptide is trans."""
CELLS = 12
"""Cells of 30 degrees along each side of a Ramachandran histogram."""
SIDE = 240
"""Pixels along each side of its picture."""


def frame_metrics() -> tuple[Metric, ...]:
    """Peptide bonds, torsions, then CA traces."""
    own = (
        Metric(
            "peptide_bonds",
            "higher",
            _chain_mean(peptide_bonds),
            "",
            "share of peptides with C-N 1.13 to 1.53 angstrom and both angles within 20 degrees of ideal ones",
        ),
        Metric(
            "peptide_error",
            "lower",
            _chain_mean(_bond_error),
            "angstrom",
            "mean |C-N distance - 1.33 angstrom|",
        ),
        Metric(
            "trans", "higher", _chain_mean(_trans), "", "share of peptides with |omega| above 150 degrees"
        ),
        Metric("left_phi", "lower", left_phi_excess, "", "|share of residues with phi above 0 - real share|"),
        Metric(
            "ramachandran",
            "lower",
            ramachandran,
            "",
            "total variation to the phi, psi histogram of real chains",
        ),
    )
    ours = (bonds, clashes, sizes, hands, shares, diversity)
    return own + tuple(replace(m, fn=_of_traces(m.fn)) for part in ours for m in part.metrics())


def backbones(x: Any, mask: Any) -> list[Tensor]:
    """Each chain's atoms (n, 4, 3) without padding."""
    atoms = atoms_of(x["place"].detach(), x["turn"].detach())
    return real_chains(atoms, None if mask is None else mask["place"])


def peptide_bonds(atoms: Tensor) -> Tensor:
    """(n - 1,) 1 for each peptide bond whose length and angles are right."""
    right = (peptide_lengths(atoms) - C_N).abs() < BOND_ERROR
    for found, ideal in zip(peptide_angles(atoms), (CA_C_N, C_N_CA), strict=True):
        right = right & ((found - ideal).abs() < ANGLE_ERROR)
    return right.double()


def peptide_lengths(atoms: Tensor) -> Tensor:
    """(n - 1,) C-N distances."""
    return (atoms[1:, 0] - atoms[:-1, 2]).norm(dim=-1)


def peptide_angles(atoms: Tensor) -> tuple[Tensor, Tensor]:
    """(n - 1,) CA-C-N and C-N-CA in radians."""
    bond = atoms[1:, 0] - atoms[:-1, 2]
    return _angle(atoms[:-1, 1] - atoms[:-1, 2], bond), _angle(-bond, atoms[1:, 1] - atoms[1:, 0])


def ramachandran(x: Any, batch: Batch, key: Key) -> Score:
    """Total variation of phi, psi histograms; whole chains are resampled."""
    truth = torch.stack([_histogram(a) for a in backbones(batch.x, batch.mask)]).sum(0)
    made = torch.stack([_histogram(a) for a in backbones(x, batch.mask)])

    def statistic(rows: Tensor) -> Tensor:
        found = made[rows].sum(-2)
        share = found / found.sum(-1, keepdim=True).clamp(min=1)
        return (share - truth / truth.sum()).abs().sum(-1) / 2

    return bootstrap_statistic(statistic, len(made), key)


def left_phi_excess(x: Any, batch: Batch, key: Key) -> Score:
    """How far the share of left-handed residues is off: a mirror image has nearly all of them."""
    truth = torch.cat([_left(a) for a in backbones(batch.x, batch.mask)]).mean()
    left = [_left(a) for a in backbones(x, batch.mask)]
    sums = torch.stack([torch.stack([each.sum(), torch.ones_like(each).sum()]) for each in left])

    def statistic(rows: Tensor) -> Tensor:
        share, count = sums[rows].sum(-2).unbind(-1)
        return (share / count - truth).abs()

    return bootstrap_statistic(statistic, len(left), key)


def inner_torsions(atoms: Tensor) -> tuple[Tensor, Tensor]:
    """(n - 2,) phi and psi of the residues that have both, radians."""
    phi, psi, _ = torsions(atoms)
    return phi[:-1], psi[1:]


def write_backbones(x: Any, batch: Batch, folder: Path) -> list[Path]:
    """One PDB and one mmCIF file per chain with N, CA, C, O of every residue."""
    folder.mkdir(parents=True, exist_ok=True)
    models = [Model(a, f"backbone_{i:03d}") for i, a in enumerate(backbones(x, batch.mask))]
    return [path for model in models for path in files.save(model, folder / model.name, ("pdb", "cif"))]


def frame_panels() -> tuple[Panel, ...]:
    """The Ramachandran plot, then sections of CA traces."""
    shown = (replace(panel, render=_of_drawn(panel.render)) for panel in backbone_panels())
    return (Panel("Ramachandran", ramachandran_panel), *shown)


def ramachandran_panel(drawn: Mapping[str, Drawn]) -> str:
    """Phi against psi, contender by contender, over real chains in gray."""
    truth = next((backbones(d.batch.x, d.batch.mask) for d in drawn.values() if d.batch.x is not None), [])
    parts = {name: _plot(backbones(d.x, d.batch.mask), truth, name) for name, d in drawn.items()}
    note = (
        "<p>Every dot is a residue; gray dots are real chains. Right-handed helices lie near -60, -45, strands near "
        "-120, 130; a mirror image would lie where phi is positive.</p>"
    )
    return note + media.columns(parts)


def _plot(made: Sequence[Tensor], truth: Sequence[Tensor], label: str) -> str:
    text = escape(f"{label}: phi against psi of {sum(max(0, len(a) - 2) for a in made)} residues")
    ticks = "".join(
        f'<text x="{_pixel(v):.0f}" y="{SIDE + 12}" text-anchor="middle">{v}</text>'
        f'<text x="-4" y="{SIDE - _pixel(v) + 3:.0f}" text-anchor="end">{v}</text>'
        for v in (-120, 0, 120)
    )
    return (
        f'<svg viewBox="-34 -4 {SIDE + 40} {SIDE + 20}" role="img" aria-label="{text}" '
        'style="width:100%;font:10px sans-serif" fill="currentColor">'
        f'<rect width="{SIDE}" height="{SIDE}" fill="none" stroke="currentColor" opacity=".4"/>'
        f'<g fill="#888" opacity=".5">{_dots(truth)}</g><g fill="#d9480f" opacity=".7">{_dots(made)}</g>{ticks}</svg>'
    )


def _dots(chains: Sequence[Tensor]) -> str:
    pairs = [
        torch.stack(inner_torsions(a), 1) for a in chains if len(a) > 2 and bool(torch.isfinite(a).all())
    ]
    if not pairs:
        return ""
    degrees = torch.cat(pairs).rad2deg()
    degrees = degrees[:: max(1, len(degrees) // 700)].tolist()
    return "".join(f'<circle cx="{_pixel(p):.1f}" cy="{SIDE - _pixel(q):.1f}" r="1.5"/>' for p, q in degrees)


def _pixel(degrees: float) -> float:
    return (degrees + 180) / 360 * SIDE


def _chain_mean(values: Callable[[Tensor], Tensor]) -> Callable[[Any, Batch, Key], Score]:
    """Metric function: the mean over chains of the mean of ``values`` of each chain's atoms."""

    def measure(x: Any, batch: Batch, key: Key) -> Score:
        found = [values(atoms.double()).double().mean() for atoms in backbones(x, batch.mask)]
        return bootstrap(torch.stack(found), key)

    return measure


def _bond_error(atoms: Tensor) -> Tensor:
    return (peptide_lengths(atoms) - C_N).abs() * files.ANGSTROM


def _trans(atoms: Tensor) -> Tensor:
    return (torsions(atoms)[2].abs() > TRANS).double()


def _left(atoms: Tensor) -> Tensor:
    return (inner_torsions(atoms)[0] > 0).double()


def _histogram(atoms: Tensor) -> Tensor:
    """(CELLS^2,) counts of phi, psi."""
    cells = [((v.double() + math.pi) / (2 * math.pi) * CELLS).long() % CELLS for v in inner_torsions(atoms)]
    return torch.bincount(cells[0] * CELLS + cells[1], minlength=CELLS**2).double()


def _angle(a: Tensor, b: Tensor) -> Tensor:
    cosine = (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1)).clamp(min=1e-9)
    return torch.acos(cosine.clamp(-1, 1))


def _of_traces(fn: Callable[[Tensor, Batch, Key], Score]) -> Callable[[Any, Batch, Key], Score]:
    """A metric of CA traces as one of frames."""

    def measure(x: Any, batch: Batch, key: Key) -> Score:
        return fn(x["place"], traces(batch), key)

    return measure


def _of_drawn(fn: Callable[[Mapping[str, Drawn]], str]) -> Callable[[Mapping[str, Drawn]], str]:
    """A panel of CA traces as one of frames."""

    def show(drawn: Mapping[str, Drawn]) -> str:
        return fn({name: replace(d, x=d.x["place"], batch=traces(d.batch)) for name, d in drawn.items()})

    return show
