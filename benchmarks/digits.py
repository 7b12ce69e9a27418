"""Every method on scikit-learn's handwritten digits: 64 numbers per sample, 1,437 stored points as the law."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from sklearn.datasets import load_digits
from tables import main
from torch import Tensor
from toys import Toy, energy_distance

from fewstep.processes import edm, flow, trig
from fewstep.protocol import Key
from fewstep.testing.empirical import EmpiricalTeacher

BLUR = 0.1
"""Standard deviation around every stored digit: a density, so that divergences exist."""
SIGMA_DATA, LOW, HIGH = 0.75, 0.03, 10.0
PROCESSES = {
    "edm": edm(sigma_min=LOW, sigma_max=HIGH, sigma_data=SIGMA_DATA),
    "trig": trig(t_min=math.atan(LOW / SIGMA_DATA), sigma_data=SIGMA_DATA),
    "flow": flow(t_min=LOW / (1 + LOW), sigma_data=SIGMA_DATA),
}


def _loaded() -> tuple[Tensor, Tensor, Tensor]:
    """Stored digits in [-1, 1], their classes, and digits that nobody trains on."""
    pixels, classes = load_digits(return_X_y=True)
    order = Key(0).at("digits").permutation(len(pixels))
    stored, held = order[:1437], order[1437:]
    x = torch.from_numpy(pixels).float() / 8 - 1
    return x[stored], torch.from_numpy(classes)[stored], x[held]


STORED, CLASSES, HELD = _loaded()
DATA = EmpiricalTeacher(PROCESSES["edm"], STORED, std=BLUR)


def draw(key: Key, count: int) -> Tensor:
    """Fresh data: a stored digit and its blur."""
    return DATA.draw(key.at("which").uniform((count,)), key.at("normal").normal(torch.zeros(count, 64)))


def measure(x: Tensor) -> dict[str, float]:
    """Energy distance to fresh data, and what a nearest-neighbor classifier says.

    A sample reads as a digit if its nearest stored digit is clearly nearer than the nearest of any other class: by
    a factor .85, as 95 in 100 held-out digits are. It is a copy if it lies nearer to a stored digit than 95 in
    100 held-out digits do.
    """
    nearest, own, other = neighbors(x)
    clear = nearest < 0.85 * other
    shares = torch.bincount(own[clear], minlength=10) / len(x)
    return {
        "energy distance": energy_distance(x, draw),
        "reads as a digit": float(clear.float().mean()),
        "smallest class": float(shares.min()),
        "copies": float((nearest < COPY).float().mean()),
    }


def neighbors(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distance to the nearest stored digit, its class, and the distance to the nearest of another class."""
    gaps = torch.cdist(x, STORED)
    nearest, index = gaps.min(1)
    own = CLASSES[index]
    other = gaps.masked_fill(own[:, None] == CLASSES, math.inf).min(1).values
    return nearest, own, other


COPY = float(neighbors(HELD)[0].quantile(0.05))


def passes(found: Mapping[str, float]) -> bool:
    """The gate: near the law, readable, and no class lost."""
    near = found["energy distance"] < 0.1
    return near and found["reads as a digit"] > 0.6 and found["smallest class"] > 0.03


DIGITS = Toy(
    "digits",
    64,
    PROCESSES,
    lambda process: EmpiricalTeacher(process, STORED, std=BLUR),
    draw,
    measure,
    passes,
    width=256,
    share=0.4,
)

if __name__ == "__main__":
    main(DIGITS, str(__doc__))
