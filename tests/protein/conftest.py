"""Chains whose numbers are known: ideal helices and strands, made from the geometry of CA atoms."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor


@pytest.fixture(scope="session")
def helix() -> Callable[..., Tensor]:
    """(count, hand) -> an ideal alpha helix (count, 3): radius 2.3, rise 1.5 angstrom, 100 degrees; hand -1 mirrors it."""

    def make(count: int, hand: float = 1.0) -> Tensor:
        step = torch.arange(count, dtype=torch.float64)
        turn = step * math.radians(100)
        return torch.stack([2.3 * turn.cos(), hand * 2.3 * turn.sin(), 1.5 * step], -1) / 10

    return make


@pytest.fixture(scope="session")
def strand() -> Callable[[int], Tensor]:
    """Count -> an ideal beta strand (count, 3): bonds of 3.8 angstrom, CA angles of 124, dihedrals of -170 degrees."""

    def make(count: int) -> Tensor:
        return linked([0.38] * (count - 1), [124.0] * (count - 2), [-170.0] * (count - 3))

    return make


def linked(bonds: list[float], angles: list[float], dihedrals: list[float]) -> Tensor:
    """The chain with these internal coordinates, lengths as given, angles in degrees (Parsons et al. 2005)."""
    bend = math.radians(angles[0])
    x = [torch.zeros(3).double(), torch.tensor([bonds[0], 0, 0]).double()]
    x.append(x[1] + bonds[1] * torch.tensor([-math.cos(bend), math.sin(bend), 0]).double())
    for length, angle, twist in zip(bonds[2:], angles[1:], dihedrals, strict=True):
        ahead = (x[-1] - x[-2]) / (x[-1] - x[-2]).norm()
        across = torch.linalg.cross(x[-2] - x[-3], ahead)
        across = across / across.norm()
        beside = torch.linalg.cross(across, ahead)
        bend, turn = math.radians(180 - angle), math.radians(twist)
        step = ahead * math.cos(bend) + math.sin(bend) * (beside * math.cos(turn) + across * math.sin(turn))
        x.append(x[-1] + length * step)
    return torch.stack(x)
