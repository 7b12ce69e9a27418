"""How wide a batch is: its real elements alone say it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.objectives.spreads import teacher_variance, variance
from fewstep.processes import Product, edm
from fewstep.protocol import Batch, Cond, Estimate, Key, Tree

MEAN, STD = 5.0, 0.5


def ragged() -> tuple[Tensor, Tensor]:
    """N(5, 0.25) in rows of different length, padded with zeros; every length is as frequent."""
    mask = torch.arange(8).unsqueeze(0) <= torch.arange(4096).unsqueeze(1) % 8
    x = MEAN + STD * Key(3).normal(torch.zeros(4096, 8, dtype=torch.float64))
    return x * mask, mask


def silent(x: Tree, t: Tensor) -> Estimate:
    raise AssertionError("data are there, no teacher is asked")


def test_padding_does_not_count_as_data() -> None:
    (x, mask), process = ragged(), edm()
    bound: Any = process.on(mask)
    assert variance(bound.geometry, x, mask) == pytest.approx(STD**2, rel=0.05)
    assert variance(bound.geometry, x) > 10 * STD**2
    batch = Batch(x, x, Cond(mask=mask))
    assert teacher_variance(bound, silent, batch, Key(0)) == variance(bound.geometry, x, mask)


def test_leaves_have_masks_of_their_own() -> None:
    """A leaf that is named in no mask is real throughout; the variance is that of both leaves' elements."""
    x, mask = ragged()
    bound: Any = Product({"a": edm(), "b": edm()}).on({"a": mask})
    other = 3 * (MEAN + STD * Key(4).normal(torch.zeros(4096, 2, dtype=torch.float64)))
    found = variance(bound.geometry, {"a": x, "b": other}, {"a": mask})
    assert found == pytest.approx(5 * STD**2, rel=0.05)
