"""Perceptrons over a whole sequence: large enough to be exact on a small chain.

Shape legend: B batch, L positions, V vocabulary (the hidden token has id V).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.protocol import Cond


class SequenceNet(nn.Module):
    """One-hot tokens of a sequence to ``out`` numbers per position.

    Args:
        vocabulary: V.
        length: L, fixed.
        width: hidden channels.
        out: numbers per position: V for a denoiser; 1 for a discriminator, whose last dimension is then dropped.
    """

    def __init__(self, vocabulary: int, length: int, width: int, out: int) -> None:
        """Two hidden layers."""
        super().__init__()
        self.vocabulary, self.length, self.out = vocabulary, length, out
        self.layers = nn.Sequential(
            nn.Linear((vocabulary + 1) * length, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, length * out),
        )

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        """(B, L) ids -> (B, L, out), or (B, L) if out is 1. The best guess does not depend on the time."""
        shown = F.one_hot(x, self.vocabulary + 1).float()
        raw = self.layers(shown.flatten(1)).unflatten(1, (self.length, self.out))
        return raw.squeeze(-1) if self.out == 1 else raw
