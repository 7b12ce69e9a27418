"""Every method on a ring of eight Gaussians: one command, one table."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from tables import main
from torch import Tensor
from toys import Toy, energy_distance

from fewstep.processes import edm, flow, trig
from fewstep.protocol import Key
from fewstep.testing.analytic import ring

STD = 0.15
SIGMA_DATA = math.sqrt(2.0**2 / 2 + STD**2)
LOW, HIGH = 0.02, 20.0
PROCESSES = {
    "edm": edm(sigma_min=LOW, sigma_max=HIGH, sigma_data=SIGMA_DATA),
    "trig": trig(t_min=math.atan(LOW / SIGMA_DATA), sigma_data=SIGMA_DATA),
    "flow": flow(t_min=LOW / (1 + LOW), sigma_data=SIGMA_DATA),
}
DATA = ring(PROCESSES["edm"], std=STD)


def draw(key: Key, count: int) -> Tensor:
    """Fresh data."""
    normal = key.at("normal").normal(torch.zeros(count, 2, dtype=torch.float64))
    return DATA.draw(key.at("mode").uniform((count,)), normal).float()


def measure(x: Tensor) -> dict[str, float]:
    """Energy distance to fresh data, the share within three standard deviations of a mode, the smallest mode's share."""
    gap, mode = torch.cdist(x, DATA.means.to(x)).min(1)
    near = gap < 3 * STD
    shares = torch.bincount(mode[near], minlength=len(DATA.means)) / len(x)
    return {
        "energy distance": energy_distance(x, draw),
        "near a mode": float(near.float().mean()),
        "smallest mode": float(shares.min()),
    }


def passes(found: Mapping[str, float]) -> bool:
    """The gate: an energy distance below .05 with every mode held."""
    return found["energy distance"] < 0.05 and found["smallest mode"] > 0.03


RING = Toy("ring", 2, PROCESSES, lambda process: ring(process, std=STD), draw, measure, passes)

if __name__ == "__main__":
    main(RING, str(__doc__))
