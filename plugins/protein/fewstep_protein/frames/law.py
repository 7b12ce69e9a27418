"""A law of frames that is known: a few shapes, whose places fluctuate and whose rotations wobble.

Shape m has the probability p_m. Its places are mu_m plus a Gaussian chain of root mean squared bond b
(:func:`fewstep.testing.analytic.rouse_modes`); each of its rotations is, independently, r_mi turned by one of two
angles, with probabilities q_j. Both leaves of the state tell which shape it is, so the posterior couples them: what is
tested is the product process, not two processes side by side.

Shape legend: B chains, N residues, M shapes, J wobbles, P = N - 1 modes. x is a mapping with place (B, N, 3) and turn
(B, N, 3, 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fewstep.processes.rotations import exp, to_quaternion
from fewstep.protocol import Centered
from fewstep.testing.analytic import rouse_modes
from fewstep.testing.rotations import log_density
from fewstep_protein.frames.rigid import chain_of

SHAPES = {"helix": (-57.0, -47.0), "strand": (-120.0, 125.0), "polyproline": (-75.0, 150.0)}
"""Phi and psi in degrees of the shapes, each along the whole chain."""
SHARES = (0.5, 0.3, 0.2)
"""Their probabilities p."""
WOBBLE = (25.0, -25.0)
"""Degrees by which a rotation is turned about its third axis."""
WOBBLE_SHARES = (0.7, 0.3)
"""Their probabilities q."""


@dataclass(frozen=True)
class ShapeLaw:
    """Ideal shapes that fluctuate and wobble.

    Args:
        residues: N, of every chain.
        bond: b in nanometers, root mean squared bond of the fluctuation alone.
    """

    residues: int = 8
    bond: float = 0.1

    @cached_property
    def places(self) -> Tensor:
        """(M, N, 3) centered mean places."""
        return Centered().project(self._ideal[0])

    @cached_property
    def turns(self) -> Tensor:
        """(M, J, N, 3, 3) every rotation that a residue may have."""
        axis = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
        angles = [math.radians(angle) for angle in WOBBLE]
        return torch.stack([self._ideal[1] @ exp(angle * axis) for angle in angles], 1)

    @cached_property
    def modes(self) -> tuple[Tensor, Tensor]:
        """(P,) variances and (N, P) orthonormal modes of the fluctuation."""
        return rouse_modes(self.residues, self.bond)

    @cached_property
    def _composed(self) -> Tensor:
        """(M, J, N, 4, 4) maps a quaternion q to q^-1 r, for every rotation r of the law."""
        a, b, c, d = to_quaternion(self.turns).unbind(-1)
        rows = [[a, b, c, d], [b, -a, -d, c], [c, d, -a, -b], [d, -c, b, -a]]
        return torch.stack([torch.stack(row, -1) for row in rows], -2)

    @cached_property
    def _ideal(self) -> tuple[Tensor, Tensor]:
        torsion = torch.deg2rad(torch.tensor(list(SHAPES.values()), dtype=torch.float64))
        phi, psi = (torsion[:, i, None].expand(-1, self.residues) for i in (0, 1))
        return chain_of(phi, psi)

    def draw(self, uniform: Tensor, normal: Tensor) -> dict[str, Tensor]:
        """Exact chains in the dtype of ``normal``.

        Args:
            uniform: (B, 1 + N) for the shape and for every residue's wobble.
            normal: (B, P, 3) for the modes.
        """
        shape, wobble = _choose(SHARES, uniform[:, 0]), _choose(WOBBLE_SHARES, uniform[:, 1:])
        variance, basis = self.modes
        moved = basis @ (variance.sqrt()[:, None] * normal.double())
        turn = self.turns[shape[:, None], wobble, torch.arange(self.residues)]
        return {"place": (self.places[shape] + moved).to(normal.dtype), "turn": turn.to(normal.dtype)}

    def toward(self, turn: Tensor) -> Tensor:
        """(B, M, J, N, 3) tangents from rotations to every rotation of the law, by quaternions: one conversion for all."""
        q = to_quaternion(turn.double())
        way = torch.einsum("mjnab,znb->zmjna", self._composed, q)
        way = torch.where(way[..., :1] < 0, -way, way)
        real, imaginary = way[..., :1], way[..., 1:]
        size = imaginary.square().sum(-1, keepdim=True).clamp(min=1e-24).sqrt()
        return 2 * torch.atan2(size, real) / size * imaginary

    def residuals(self, place: Tensor, alpha: Tensor) -> Tensor:
        """(B, M, P, 3) modes of noisy places around each shape's mean, which noise has shrunk by alpha (B,)."""
        return self.modes[1].T @ (place.double()[:, None] - alpha[:, None, None, None] * self.places)


class Nearest(NamedTuple):
    """Samples sorted by the law's atoms: which shape, which wobbles, and how far from them."""

    shape: Tensor
    wobble: Tensor
    angle: Tensor
    modes: Tensor


def nearest(law: ShapeLaw, x: Any) -> Nearest:
    """Shape (B,) of least squared angles, wobble (B, N), angle (B, N) in radians, modes (B, P, 3)."""
    least = law.toward(x["turn"]).norm(dim=-1).min(2)
    shape = least.values.square().sum(-1).argmin(1)
    rows = torch.arange(len(shape))
    modes = law.modes[1].T @ (x["place"].double() - law.places[shape])
    return Nearest(shape, least.indices[rows, shape], least.values[rows, shape], modes)


def angle_error(found: Nearest) -> Tensor:
    """() mean degrees from rotations to the nearest that the law allows; 0 under the law."""
    return torch.rad2deg(found.angle.mean())


def place_distance(law: ShapeLaw, found: Nearest) -> Tensor:
    """() Wasserstein-2 of the places around their shape to the Gaussian fluctuation, over its own size.

    Mode by mode (Gelbrich 1990), from second moments around the shape: 0 under the law, 1 where nothing fluctuates.
    """
    variance, exact = found.modes.square().mean((0, 2)), law.modes[0]
    return ((variance.sqrt() - exact.sqrt()).square().sum() / exact.sum()).sqrt()


def share_distance(found: Nearest) -> Tensor:
    """() total variation to the law's p, plus that of wobbles to q."""
    return _variation(found.shape, SHARES) + _variation(found.wobble.flatten(), WOBBLE_SHARES)


def evidence(
    angle: Tensor, modes: Tensor, t: Tensor, width: Tensor, log_wobble: Tensor
) -> tuple[Tensor, Tensor]:
    """Log density (B, M) of noisy frames given each shape, up to a constant of the row, and (B, M, J, N) given both.

    Args:
        angle: (B, M, J, N) from the noisy rotations to the law's.
        modes: (B, M, P, 3) as of ``ShapeLaw.residuals``.
        t: (B,) float64 times.
        width: (B, P) variance of each noisy mode given the shape.
        log_wobble: (B, J) log q.
    """
    each = log_density(angle, t[:, None, None, None]) + log_wobble[:, None, :, None]
    placed = -0.5 * (modes.square().sum(-1) / width[:, None]).sum(-1)
    return each.logsumexp(2).sum(-1) + placed, each


def _choose(shares: tuple[float, ...], uniform: Tensor) -> Tensor:
    edges = torch.tensor(shares, dtype=torch.float64).cumsum(0)
    return torch.searchsorted(edges, uniform.double().contiguous()).clamp(max=len(shares) - 1)


def _variation(which: Tensor, shares: tuple[float, ...]) -> Tensor:
    found = torch.bincount(which, minlength=len(shares)).double() / len(which)
    return (found - torch.tensor(shares, dtype=torch.float64)).abs().sum() / 2
