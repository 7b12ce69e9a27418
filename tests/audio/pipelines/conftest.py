"""What tests of pipelines share: the tiny pipelines, loaded once, and the questions that all are asked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.protocol import Batch, Cond, Key

sys.path.insert(0, str(Path(__file__).parent))
from asking import PROMPTS, SECONDS


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pipelines")


@pytest.fixture(scope="session")
def teacher(cache: Path) -> Callable[[str], Any]:
    """By class of the pipeline, from its folder; loaded once."""
    from fewstep_audio.pipelines.adapters import load_teacher_pipeline
    from fewstep_audio.pipelines.tiny import tiny_pipeline

    made: dict[str, Any] = {}

    def find(kind: str) -> Any:
        if kind not in made:
            made[kind] = load_teacher_pipeline(tiny_pipeline(kind, 0, cache))
        return made[kind]

    return find


@pytest.fixture
def asked() -> Callable[[Any], tuple[Batch, Tensor]]:
    """Of a teacher: two prompts, and the noise for them."""

    def ask(teacher: Any) -> tuple[Batch, Tensor]:
        batch = Batch(
            like=torch.zeros(2, *teacher.shape(SECONDS)), cond=Cond(teacher.encode(PROMPTS, SECONDS))
        )
        return batch, Key(3).normal(batch.like)

    return ask


@pytest.fixture
def recorded() -> Callable[[Any, Sequence[Tensor]], Any]:
    """Of a teacher: its process, with these noises one after the other."""
    return lambda teacher, noises: Recorded(teacher.process, iter(noises))


class Recorded:
    """A process whose noises were written down."""

    def __init__(self, process: Any, noises: Iterator[Tensor]) -> None:
        self.process, self.noises = process, noises

    def on(self, mask: Any) -> Recorded:
        return self

    def noise(self, batch: Batch, key: Key) -> Tensor:
        return next(self.noises)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.process, name)
