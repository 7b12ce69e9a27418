"""How the teacher of frames learns: both velocities, and near the data the distances between bonded atoms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewstep.objectives.corruption import draw_times
from fewstep.objectives.denoising import weighted_nll
from fewstep.processes import TimeLaw
from fewstep.protocol import Batch, Loss, Phase, Role, Roles, Step
from fewstep_protein.frames.process import of_velocity
from fewstep_protein.frames.rigid import atoms_of

NEAR = 0.25
"""Flow time below which atoms are compared (Yim et al. 2023, FrameDiff, section 4.2)."""
APART = 5
"""Backbone atoms along the chain whose distances are compared: angles at CA, peptide planes and their bonds."""


@dataclass(frozen=True)
class FrameDenoising:
    """Flow matching of places and rotations, plus squared errors of atom distances weighted alike.

    Errors of frames that share a move or a turn cost nothing in a bond; alone they break it. The velocities weight both
    alike, so a network that can do little spends it on the wrong ones; the second term says which ones matter. It has
    the same minimum where belief is sharp, and is used only there.

    Args:
        times: law of the times.
        atoms: weight of the second term.
        role: the denoiser that learns.
    """

    times: TimeLaw
    atoms: float = 1.0
    role: str = "teacher"

    @property
    def roles(self) -> Mapping[str, Role]:
        """The denoiser alone."""
        return {self.role: Role()}

    @property
    def reads(self) -> frozenset[str]:
        """Clean frames."""
        return frozenset({"x"})

    def phases(self, index: int) -> Sequence[Phase]:
        """One update."""
        return (Phase(self.role, (self.role,)),)

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss:
        """Both terms at a drawn time."""
        model: Any = roles[self.role]
        process = model.process.on(batch.mask)
        t = draw_times(self.times, batch.x, step, step.key.at("time"))
        xt = process.corrupt(batch.x, process.noise(batch, step.key.at("noise")), t)
        est, weight = model(xt, t, batch.cond), of_velocity(process, t)
        frames = weighted_nll(process.geometry, est, batch.x, weight, xt).mean()
        near = (weight * (t < NEAR)).to(frames.dtype)
        atoms = (near * distance_error(est.x0, batch.x, batch.mask["place"])).mean()
        return Loss(frames + self.atoms * atoms, {"frames": frames.detach(), "atoms": atoms.detach()})


def distance_error(found: Any, truth: Any, real: Tensor) -> Tensor:
    """(B,) squared errors in nm^2 of distances between backbone atoms up to APART along the chain, summed over how far.

    Args:
        found: place (B, N, 3) and turn (B, N, 3, 3).
        truth: the same, clean.
        real: (B, N, 1) residues that count.
    """
    here = real.expand(-1, -1, 3).flatten(1)
    ours, theirs = (atoms_of(x["place"], x["turn"])[..., :3, :].flatten(1, 2) for x in (found, truth))
    total = torch.zeros_like(ours[:, 0, 0])
    for apart in range(1, APART + 1):
        both = (here[:, apart:] & here[:, :-apart]).to(ours.dtype)
        error = _gaps(ours, apart) - _gaps(theirs, apart)
        total = total + (both * error.square()).sum(1) / both.sum(1).clamp(min=1)
    return total


def _gaps(atoms: Tensor, apart: int) -> Tensor:
    """(B, A - apart) distances; the small constant keeps the slope finite where two atoms meet in the padding."""
    return (atoms[:, apart:] - atoms[:, :-apart]).square().sum(-1).add(1e-8).sqrt()
