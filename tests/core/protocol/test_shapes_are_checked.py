"""Shape annotations are alive under pytest: what breaks them raises."""

from __future__ import annotations

import jaxtyping
import pytest
import torch

from fewstep.processes import VarianceExploding
from fewstep.protocol import Euclidean, Sample, pathwise


def test_a_time_that_is_not_float64_is_refused() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        VarianceExploding().alpha(torch.ones(2, dtype=torch.float32))


def test_a_weight_with_an_event_dimension_is_refused() -> None:
    sample = Sample(torch.ones(2, 3))
    with pytest.raises(jaxtyping.TypeCheckError):
        pathwise(sample, torch.ones(2, 3), Euclidean(), torch.ones(2, 3))
