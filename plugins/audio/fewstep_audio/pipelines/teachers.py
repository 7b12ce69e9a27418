"""What a teacher from the field has to offer, whichever library it comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from fewstep.processes import Gaussian
from fewstep.processes.laws import noise_ratio
from fewstep.protocol import Cond, Denoiser, Guided, Tree, spread
from fewstep_audio.pipelines.network import Ask, PipelineNetwork


@runtime_checkable
class AudioTeacher(Protocol):
    """A denoiser of latents (or mels), and the way to them and from them."""

    @property
    def denoiser(self) -> Denoiser:
        """The conditional network, its process and what its output means."""
        ...

    @property
    def rate(self) -> int:
        """Samples per second of what ``decode`` returns."""
        ...

    @property
    def longest(self) -> float:
        """Seconds."""
        ...

    def shape(self, seconds: float) -> tuple[int, ...]:
        """Of one sample's latents."""
        ...

    def encode(self, prompts: Sequence[str], seconds: float) -> Tree:
        """Conditions of a batch: {"given": ..., "null": ...}, or None for a teacher that hears no prompt."""
        ...

    def latents(self, wave: Tensor) -> Tensor:
        """(B, N) mono samples at ``rate`` -> (B, *shape)."""
        ...

    def decode(self, latents: Tensor, seconds: float) -> Tensor:
        """(B, *shape) -> (B, channels, N) samples."""
        ...

    def guided(self, denoiser: Denoiser, scale: float) -> Denoiser:
        """Guidance as this teacher's own sampler does it."""
        ...

    def times(self, steps: int) -> tuple[float, ...]:
        """Start times of a student of so many steps."""
        ...


class PipelineTeacher(AudioTeacher, ABC):
    """A pipeline of diffusers.

    Args:
        pipeline: as its loader returns it.
    """

    network = "transformer"
    """Name of the denoising network among the pipeline's parts."""

    clock: str
    """Name of the first linear layer after the sinusoids of the time."""

    prediction: str
    """What the network's output means on the process."""

    def __init__(self, pipeline: Any) -> None:
        """Everything else is read from it."""
        self.pipeline = pipeline

    @property
    def denoiser(self) -> Denoiser:
        """The pipeline's network behind core's protocol; shares its weights."""
        inner = getattr(self.pipeline, self.network)
        return Denoiser(PipelineNetwork(inner, self.ask, self.clock), self.process, self.prediction)

    @property
    @abstractmethod
    def process(self) -> Gaussian:
        """What its scheduler does to latents."""

    @property
    @abstractmethod
    def ask(self) -> Ask:
        """How the pipeline calls its network."""

    @abstractmethod
    def encode(self, prompts: Sequence[str], seconds: float) -> Tree:
        """As :class:`AudioTeacher`."""

    @abstractmethod
    def times(self, steps: int) -> tuple[float, ...]:
        """Where the scheduler of an exported student begins its steps."""

    @abstractmethod
    def scheduler(self, steps: int) -> Any:
        """The scheduler of diffusers that takes a student's steps."""

    @abstractmethod
    def call(self, seconds: float, steps: int) -> Mapping[str, Any]:
        """Arguments with which the exported pipeline is called beside the prompt."""

    def clocked(self, network: Any) -> Any:
        """The exported network, told the time as that scheduler tells it."""
        return network

    def guided(self, denoiser: Denoiser, scale: float) -> Denoiser:
        """Classifier-free guidance, u + g (c - u)."""
        return Guided(denoiser, scale, untold)

    def edm(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """A state as Karras et al. 2022 write it: x / alpha = x0 + sigma eps, and that sigma (B,)."""
        return x / spread(self.process.alpha(t).to(x.dtype), x), noise_ratio(self.process.law, t.double())


def untold(cond: Cond) -> Cond:
    """The condition without its prompt."""
    return replace(cond, data={**cond.data, "given": cond.data["null"]})


def halves(tree: Mapping[str, Tensor]) -> Tree:
    """Pipelines return (null, given) in one batch."""
    null, given = ({name: half(leaf) for name, leaf in tree.items()} for half in (_first, _second))
    return {"given": given, "null": null}


def _first(leaf: Tensor) -> Tensor:
    return leaf[: len(leaf) // 2]


def _second(leaf: Tensor) -> Tensor:
    return leaf[len(leaf) // 2 :]


def stereo(wave: Tensor, channels: int) -> Tensor:
    """(B, N) -> (B, channels, N), the same in every channel."""
    return wave[:, None].expand(-1, channels, -1)


def fitted(wave: Tensor, samples: int) -> Tensor:
    """(..., N) cut or padded with silence to so many samples."""
    return torch.nn.functional.pad(wave[..., :samples], (0, max(0, samples - wave.shape[-1])))
