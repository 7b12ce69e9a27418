"""What tests of pipelines ask: two prompts of a third of a second, of every class, at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fewstep.protocol import Batch
from fewstep_audio.pipelines.teachers import PipelineTeacher
from fewstep_audio.pipelines.tiny import TINY

PROMPTS = ("a low tone", "a high pulse")
SECONDS = 0.3
KINDS = tuple(TINY)

Asked = Callable[[PipelineTeacher], tuple[Batch, Tensor]]
Told = Callable[[PipelineTeacher, Sequence[Tensor]], Any]


def at(time: float) -> Tensor:
    return torch.full((2,), time, dtype=torch.float64)
