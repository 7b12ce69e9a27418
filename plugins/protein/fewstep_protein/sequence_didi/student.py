"""The student: unmasks in K calls, told one noise tensor that all its calls share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.protocol import Batch, Key, Sample, Step, Tree
from fewstep.samplers import FewStepTokens


class NoisyTokens(FewStepTokens):
    """A few-step student of tokens whose network reads noise (B, L, C) from ``cond.data``.

    The gradient of E_z E_{x|z}[log q(x) / p(x)] is that of the plain policy with log q(x | z) for log q(x): the noise is
    drawn before anything is chosen, so every objective that reads ``Sample.logp`` stays as it is.

    Args:
        net, process: as in :class:`FewStepTokens`.
        steps: K.
        noise: C; 0 = none, as published.
    """

    def __init__(self, net: nn.Module, process: Any, steps: int, noise: int) -> None:
        """Bind the channels."""
        super().__init__(net, process, "logits", steps)
        self.noise = noise

    def generate(
        self, batch: Batch, step: Step, *, noise: Tree | None = None, steps: int | None = None
    ) -> Sample:
        """A sample with the log-probability of each of its steps, given the noise."""
        return super().generate(self._told(batch, step.key), step, steps=steps)

    def sample(
        self, batch: Batch, step: Step, *, noise: Tree | None = None, steps: int | None = None
    ) -> Sample:
        """The whole roll."""
        return super().sample(self._told(batch, step.key), step, steps=steps)

    def logp(self, sample: Sample, batch: Batch) -> Tensor:
        """(B, K) of the sample's path given its own noise."""
        return super().logp(sample, replace(batch, cond=sample.cond))

    def _told(self, batch: Batch, key: Key) -> Batch:
        if not self.noise:
            return batch
        shape = (*batch.like.shape, self.noise)
        drawn = key.at("latent").normal(torch.zeros(shape, device=batch.like.device))
        return replace(batch, cond=replace(batch.cond, data=drawn))
