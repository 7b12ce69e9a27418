"""How long each phone lasts: a small predictor, and the objective that trains it beside a teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.protocol import Batch, Cond, Loss, Phase, Role, Roles, Step
from fewstep_audio.speech.phones import ALPHABET, STRESSES


class PhoneEncoder(nn.Module):
    """Phones in their context: embeddings and two residual convolutions over five neighbors.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        """Embeddings of phone and stress are added; padding stays zero."""
        super().__init__()
        self.phone = nn.Embedding(len(ALPHABET) + 1, channels)
        self.stress = nn.Embedding(STRESSES, channels)
        self.layers = nn.ModuleList(nn.Conv1d(channels, channels, 5, padding=2) for _ in range(2))

    def forward(self, phones: Tensor, stress: Tensor) -> Tensor:
        """(B, P) numbers and stresses -> (B, C, P), zero at padding."""
        real = (phones > 0)[:, None]
        hidden = (self.phone(phones) + self.stress(stress)).transpose(1, 2) * real
        for layer in self.layers:
            hidden = (hidden + F.relu(layer(hidden))) * real
        return hidden


class Durations(nn.Module):
    """Logarithm of one plus the frames of each phone.

    Args:
        channels: width.
        voices: how many speakers there are to be told apart; 0 = nobody is told.
    """

    def __init__(self, channels: int = 64, voices: int = 0) -> None:
        """An encoder of its own, so that it can be trained beside any teacher."""
        super().__init__()
        self.encoder = PhoneEncoder(channels)
        self.voice = nn.Embedding(voices, channels) if voices else None
        self.head = nn.Conv1d(channels, 1, 1)

    def forward(self, cond: Cond) -> Tensor:
        """(B, P) log(1 + frames)."""
        hidden = self.encoder(cond.data["phones"], cond.data["stress"])
        if self.voice is not None:
            hidden = hidden + self.voice(cond.data["voice"])[:, :, None]
        return self.head(hidden)[:, 0]

    def frames(self, cond: Cond, pace: float = 1.0) -> Tensor:
        """(B, P) int64 frames, at least one for each phone; ``pace`` 2 speaks twice as fast."""
        long = torch.expm1(self(cond)) / pace
        return long.round().clamp(min=1).long() * (cond.data["phones"] > 0)


@dataclass(frozen=True)
class DurationFit:
    """Squared error of log durations over real phones (Ren et al. 2021 FastSpeech 2 sec. 2.3).

    Args:
        role: the predictor.
        phase: name of the phase, so that it can be mixed into another objective's.
    """

    role: str = "durations"
    phase: str = "durations"

    @property
    def roles(self) -> Mapping[str, Role]:
        """The predictor alone."""
        return {self.role: Role(kind=nn.Module)}

    @property
    def reads(self) -> frozenset[str]:
        """Exact frames of each phone."""
        return frozenset({"extra.frames"})

    def phases(self, index: int) -> Sequence[Phase]:
        """One update."""
        return (Phase(self.phase, (self.role,)),)

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss:
        """Mean over real phones of all rows."""
        real = batch.cond.data["phones"] > 0
        error = roles[self.role](batch.cond) - torch.log1p(batch.extra["frames"].float())
        total = (error.square() * real).sum() / real.sum().clamp(min=1)
        return Loss(total, {"loss": total.detach()})
