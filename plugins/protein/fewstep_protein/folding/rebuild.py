"""N, C and O for a CA trace: where they lie on average in real chains, given the four CA atoms around a peptide.

A peptide is flat and nearly rigid, so between two CA atoms only its turn about their axis is unknown, and the two
neighbours along the chain tell most of that (Purisima & Scheraga 1984; Gront et al. 2007, "BBQ"). Where those average
over bins of three distances, ours is a linear fit of the atoms' places in a frame of the four CA atoms to smooth functions
of their two angles and their dihedral. It is fitted when it is first used, to the training side of the shipped
structures, in closed form.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewstep.errors import FewstepError
from fewstep_protein.structures import geometry
from fewstep_protein.structures.segments import split

SHORTEST = 4
"""Residues that define an angle and a dihedral, from which the chain goes on at its ends."""
TO_AMINE, TO_CARBONYL, TO_OXYGEN = 0.1459, 0.1525, 0.1231
"""Bond lengths CA-N, CA-C and C=O in nanometers (Engh & Huber 1991)."""
WAVES = 5
"""Overtones of the dihedral."""
SHARPEST, WIDEST = 80.0, 155.0
"""Degrees: angles beyond those of real chains are read as these."""


def rebuild(chain: Tensor) -> Tensor:
    """(n, 3) CA in nanometers -> (n, 4, 3) N, CA, C and O; the CA atoms stay where they are.

    Raises:
        FewstepError: fewer than four residues, or coordinates that are not finite.
    """
    if len(chain) < SHORTEST or not bool(chain.isfinite().all()):
        raise FewstepError(
            f"a backbone of {len(chain)} residues cannot be rebuilt",
            f"finite CA coordinates of at least {SHORTEST} residues",
            "leave this chain out",
        )
    places = prolonged(chain.double())
    frames, features = peptides(places)
    arms = (features @ fitted()).unflatten(-1, (2, 3))
    carbonyl, amine = (lengthened(arms[:, k], size) for k, size in enumerate((TO_CARBONYL, TO_AMINE)))
    carbonyl, amine = ((arm[:, None] @ frames)[:, 0] for arm in (carbonyl, amine))
    # Peptide k lies between places k + 1 and k + 2; the chain begins at place 2.
    here = places[2:-2]
    c, following = here + carbonyl[1:], places[3:-1] + amine[1:]
    o = c + TO_OXYGEN * normalize(normalize(c - here, dim=-1) + normalize(c - following, dim=-1), dim=-1)
    return torch.stack([here + amine[:-1], here, c, o], 1).to(chain.dtype)


def lengthened(arms: Tensor, size: float) -> Tensor:
    """(n, 3) the same with length ``size``: a mean over turns about the first axis is too short across it, not along it."""
    along = arms[:, :1].clamp(-0.99 * size, 0.99 * size)
    across = normalize(arms[:, 1:], dim=-1) * (size**2 - along**2).sqrt()
    return torch.cat([along, across], 1)


def prolonged(x: Tensor) -> Tensor:
    """(n, 3) -> (n + 4, 3): two more residues at each end, going on with the turn of the last ones."""
    for _ in range(2):
        x = torch.cat([_next(x[:4].flip(0)), x, _next(x[-4:])])
    return x


def _next(four: Tensor) -> Tensor:
    """(1, 3) the fifth place after four, seen from the last three as the fourth is seen from the first three."""
    before, after = _corner(four[:3]), _corner(four[1:])
    return four[-1:] + ((four[3] - four[2]) @ before.T @ after)[None]


def _corner(three: Tensor) -> Tensor:
    """(3, 3) the rows are an orthonormal frame of three places."""
    first = normalize(three[2] - three[1], dim=-1)
    normal = normalize(torch.linalg.cross(three[1] - three[0], first), dim=-1)
    return torch.stack([first, normal, torch.linalg.cross(first, normal)])


def peptides(x: Tensor) -> tuple[Tensor, Tensor]:
    """Frames (n - 3, 3, 3), rows, and features (n - 3, F) of the peptides between places 1 and 2, 2 and 3, ... of (n, 3).

    A frame has the axis between the two CA atoms, and the diagonal between their outer neighbours at right angles to it.
    """
    axis = normalize(x[2:-1] - x[1:-2], dim=-1)
    diagonal = x[3:] - x[:-3]
    side = normalize(diagonal - (diagonal * axis).sum(-1, keepdim=True) * axis, dim=-1)
    frames = torch.stack([axis, side, torch.linalg.cross(axis, side)], 1)
    bend = geometry.angles(x).clamp(math.radians(SHARPEST), math.radians(WIDEST)) - math.radians(110)
    first, second, twist = bend[:-1], bend[1:], geometry.dihedrals(x)
    waves = [torch.ones_like(twist)]
    for k in range(1, WAVES + 1):
        waves += [(k * twist).cos(), (k * twist).sin()]
    bends = [torch.ones_like(first), first, second, first**2, first * second, second**2]
    features = torch.stack(waves, -1)[:, :, None] * torch.stack(bends, -1)[:, None]
    return frames, features.flatten(1)


@lru_cache(maxsize=1)
def fitted() -> Tensor:
    """(F, 6) coefficients of C seen from its CA, and of N seen from its CA, by least squares over the training chains."""
    seen = [_seen(s.backbone.double()) for s in split(held_out=False) if s.backbone is not None]
    squares = sum(features.mT @ features for features, _ in seen)
    products = sum(features.mT @ arms for features, arms in seen)
    found: Tensor = torch.linalg.solve(squares, products)
    return found


def _seen(backbone: Tensor) -> tuple[Tensor, Tensor]:
    """Features (n - 3, F) and arms (n - 3, 6) in their frames, of one real chain (n, 3, 3)."""
    frames, features = peptides(backbone[:, 1])
    carbonyl, amine = backbone[1:-2, 2] - backbone[1:-2, 1], backbone[2:-1, 0] - backbone[2:-1, 1]
    return features, (torch.stack([carbonyl, amine], 1) @ frames.mT).flatten(1)
