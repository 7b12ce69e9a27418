"""A descriptor of chains that needs no network: 46 numbers of known meaning, blind to rotations but not to mirrors.

| numbers | what |
|---|---|
| 4 + 5 + 5 + 5 | shares of distances of residues 2, 3, 4, 5 apart in the bins below |
| 5 + 5 | the same for residues 6 to 10, and more than 10 apart |
| 5 + 8 | shares of angles and of dihedrals of CA atoms |
| 1 + 1 | relative contact order; gyration radius over that of a globule |
| 1 + 1 | shares of helix and strand by P-SEA |

The last bin of each histogram is left out: the others tell it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fewstep_protein.metrics import contacts, secondary
from fewstep_protein.structures import geometry
from fewstep_protein.structures.files import ANGSTROM

EDGES: tuple[tuple[int, int, tuple[float, ...]], ...] = (
    (2, 2, (5.2, 5.8, 6.4, 7.0)),
    (3, 3, (4.8, 5.6, 7.0, 8.5, 10.0)),
    (4, 4, (5.5, 6.8, 8.5, 10.5, 12.5)),
    (5, 5, (7.0, 9.0, 11.0, 13.0, 15.5)),
    (6, 10, (8.0, 11.0, 14.0, 18.0, 23.0)),
    (11, 10**6, (8.0, 12.0, 17.0, 23.0, 32.0)),
)
"""Smallest and largest |i - j|, and edges of the bins in angstrom; one bin lies before each edge."""
ANGLES = (85.0, 95.0, 110.0, 125.0, 140.0)
"""Edges in degrees."""
DIHEDRALS = (-140.0, -100.0, -60.0, -20.0, 20.0, 60.0, 100.0, 140.0)
"""Edges in degrees."""
FAILED = 10.0
"""Every number of a chain that is not finite; those of chains lie between 0 and about 2."""
SIZE = sum(len(edges) for *_, edges in EDGES) + len(ANGLES) + len(DIHEDRALS) + 4


def describe_shapes(chains: Sequence[Tensor]) -> Tensor:
    """(B, SIZE) float64 rows of chains (n, 3) in nanometers; a chain that is not finite lies far from all others."""
    share = secondary.shares(secondary.secondary_structure(chains))[:, : secondary.COIL]
    rows = torch.stack([_shape(chain.double()) for chain in chains])
    return torch.cat([rows, share], 1)


def _shape(chain: Tensor) -> Tensor:
    if not bool(chain.isfinite().all()):
        return torch.full((SIZE - 2,), FAILED, dtype=torch.float64)
    length = len(chain)
    apart = torch.arange(length)
    between = (apart[:, None] - apart).abs()
    distance = geometry.distances(chain) * ANGSTROM
    upper = torch.ones_like(between).triu(1).bool()
    parts = [
        _histogram(distance[upper & (between >= low) & (between <= high)], edges)
        for low, high, edges in EDGES
    ]
    order = contacts.separations(chain[None]).mean / length
    size = geometry.gyration_radius(chain) / geometry.compact_radius(length)
    return torch.cat(
        [
            *parts,
            _histogram(geometry.angles(chain) * (180 / math.pi), ANGLES),
            _histogram(geometry.dihedrals(chain) * (180 / math.pi), DIHEDRALS),
            order,
            size[None],
        ]
    )


def _histogram(values: Tensor, edges: tuple[float, ...]) -> Tensor:
    """Shares of values in the bins that end at each edge."""
    place = torch.bucketize(values, torch.tensor(edges, dtype=values.dtype))
    return torch.bincount(place, minlength=len(edges) + 1)[:-1].double() / max(1, len(values))
