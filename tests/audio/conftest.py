"""Sounds that tests listen to: a few held-out sentences, through the vocoder, and worse and worse copies of them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Sounds:
    """Sentences of two voices in turn."""

    utterances: tuple[Any, ...]
    resynthesized: tuple[Tensor, ...]
    rate: int = 22050

    @property
    def texts(self) -> list[str]:
        return [one.text for one in self.utterances]

    def noisy(self, size: float) -> list[Tensor]:
        """White noise of that standard deviation on top."""
        draw = torch.Generator().manual_seed(0)
        return [wave + size * torch.randn(wave.shape, generator=draw) for wave in self.resynthesized]

    def smeared(self, frames: int) -> list[Tensor]:
        """Log-mels in which each frame is the mean of its neighbors."""
        return [
            F.avg_pool1d(one.mel[None], frames, 1, frames // 2, count_include_pad=False)[0]
            for one in self.utterances
        ]

    @staticmethod
    def rising(values: list[float]) -> bool:
        return all(first < second for first, second in pairwise(values))


@pytest.fixture(scope="session")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Sounds:
    from fewstep_audio.sound.vocoder import GriffinLim
    from fewstep_audio.speech.corpus import CorpusSettings, load_corpus

    folder: Path = tmp_path_factory.mktemp("corpus")
    found = load_corpus(CorpusSettings(sentences=1, takes=1, held_out=6), folder).testing
    return Sounds(found, tuple(GriffinLim()(one.mel) for one in found))
