"""A small student with weights that are nowhere zero, in float64, so that equalities mean something."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

pytest.importorskip("av", reason='pip install "fewstep[video]"')
pytest.importorskip("sklearn", reason='pip install "fewstep[video]"')

from fewstep.processes import flow
from fewstep.protocol import Batch, Cond
from fewstep_video.self_forcing.network import NetworkShape, VideoTransformer
from fewstep_video.self_forcing.student import CausalStudent, Roll, warped

SIZE = 8


@pytest.fixture
def make_student() -> Callable[..., CausalStudent]:
    """A student for 8 x 8 clips; arguments are those of ``Roll`` with small defaults."""

    def make(*, steps: int = 2, block: int = 2, window: int | None = 4, sink: int = 0) -> CausalStudent:
        generator = torch.Generator().manual_seed(0)
        net = VideoTransformer(NetworkShape((SIZE, SIZE), width=24, depth=2, heads=2)).double()
        for weight in net.parameters():
            weight.data = 0.3 * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        return CausalStudent(net, flow(sigma_data=0.5), "edm", Roll(warped(steps, 2.0), block, window, sink))

    return make


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """A request for clips of two classes, in float64."""

    def make(frames: int, rows: int = 2) -> Batch:
        like = torch.zeros(rows, frames, 1, SIZE, SIZE, dtype=torch.float64)
        return Batch(like=like, cond=Cond(data={"label": torch.arange(rows)}))

    return make
