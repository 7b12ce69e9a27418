"""Greedy decoding as a control: what cheap text looks like to metrics that can be cheated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fewstep.protocol import Cond, Estimate


@dataclass(frozen=True)
class Sharpened:
    """A denoiser with its logits multiplied: 1 leaves it as it is, far above 1 is greedy decoding.

    Args:
        model: the denoiser.
        sharpness: factor on the logits, an inverse temperature.
    """

    model: Any
    sharpness: float

    @property
    def process(self) -> Any:
        """The denoiser's."""
        return self.model.process

    @property
    def net(self) -> Any:
        """The denoiser's, not sharpened."""
        return self.model.net

    def __call__(self, xt: Tensor, t: Tensor, cond: Cond) -> Estimate:
        """Its estimate, sharpened."""
        est: Estimate = self.model(xt, t, cond)
        return est if self.sharpness == 1.0 else Estimate(est.x0 * self.sharpness)
