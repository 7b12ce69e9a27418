"""What several tests share: the smallest speaker, and sounds to listen to with worse and worse copies of them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import fewstep
from fewstep.runs import Run

SMALLEST = {
    "speech": {"sentences": 4, "takes": 1, "held_out": 2},
    "network": {"channels": 16, "dilations": (1, 2)},
    "batch": 2,
    "crop": 16,
    "teacher_updates": 2,
    "teacher_steps": 2,
    "updates": 2,
}


@pytest.fixture(scope="session")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run, trained for two updates: it says nothing that one understands, but in the right way."""
    place = tmp_path_factory.mktemp("speaking")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        return fewstep.run("audio/comospeech", out=place / "runs", quiet=True, **SMALLEST)


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


@pytest.fixture(scope="session")
def song(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four tones of a second each, as a file."""
    import soundfile

    time = torch.arange(22050) / 22050
    wave = torch.cat([0.2 * torch.sin(2 * torch.pi * hertz * time) for hertz in (262, 330, 392, 523)])
    file = tmp_path_factory.mktemp("song") / "song.wav"
    soundfile.write(file, wave.numpy(), 22050)
    return str(file)
