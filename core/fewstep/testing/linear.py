"""The smallest student with closed-form gradients, and the fake that knows it exactly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fewstep.processes import Gaussian
from fewstep.protocol import Batch, Cond, Sample, Step, spread
from fewstep.testing.exact import Exact


class LinearStudent(nn.Module):
    """x = a z + b with z the noise of the process.

    Args:
        process: makes and masks the noise.
        gain: a.
        shift: b.
    """

    def __init__(self, process: Any, gain: float = 1.0, shift: float = 0.0) -> None:
        """Two parameters, float64."""
        super().__init__()
        self.process = process
        self.gain = nn.Parameter(torch.tensor(gain, dtype=torch.float64))
        self.shift = nn.Parameter(torch.tensor(shift, dtype=torch.float64))

    def generate(
        self, batch: Batch, step: Step, *, noise: Tensor | None = None, steps: int | None = None
    ) -> Sample:
        """One sample per row of ``batch.like``."""
        process = self.process.on(batch.mask)
        z = process.noise(batch, step.key.at("noise")) if noise is None else noise
        return Sample(process.geometry.project(self.gain * z + self.shift), batch.cond)

    def sample(
        self, batch: Batch, step: Step, *, noise: Tensor | None = None, steps: int | None = None
    ) -> Sample:
        """The same."""
        return self.generate(batch, step, noise=noise, steps=steps)


class LinearFake(Exact):
    """The exact denoiser of what a linear student makes now: data N(b, a^2). It has no parameters of its own.

    Args:
        process: of the judges.
        student: whose numbers are read, without a gradient, at every call.
    """

    def __init__(self, process: Gaussian, student: LinearStudent) -> None:
        """Look at the student without owning it."""
        super().__init__(process)
        object.__setattr__(self, "student", student)

    student: LinearStudent

    def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """Mean of the posterior: b + alpha a^2 / (alpha^2 a^2 + sigma^2) (x_t - alpha b)."""
        alpha, sigma = spread(self.process.alpha(t), xt), spread(self.process.sigma(t), xt)
        variance, mean = self.student.gain.detach().square(), self.student.shift.detach()
        gain = alpha * variance / (alpha.square() * variance + sigma.square())
        return (mean + gain * (xt - alpha * mean)).to(xt.dtype)
