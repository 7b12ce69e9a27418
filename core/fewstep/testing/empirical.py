"""The exact denoiser of stored points, which turns any data set into an oracle. Shapes: B batch, N stored, ... event."""

from __future__ import annotations

import torch
from torch import Tensor

from fewstep.processes import Gaussian
from fewstep.protocol import Cond
from fewstep.testing.exact import Exact


class EmpiricalTeacher(Exact):
    """The exact denoiser of stored points, each blurred by ``std``: a kernel sum over all of them.

    D = g x_t + (1 - g alpha) sum_i w_i y_i with w = softmax(-|x_t - alpha y_i|^2 / (2 V)), V = alpha^2 std^2 + sigma^2
    and g = alpha std^2 / V. Without blur its samples are the stored points themselves.

    Args:
        process: a Gaussian process.
        data: (N, ...) events; sums are made in its precision.
        labels: (N,) classes; a condition (B,) of classes then restricts the sum, a negative class leaves it whole.
        std: blur of every point.
    """

    def __init__(
        self, process: Gaussian, data: Tensor, labels: Tensor | None = None, std: float = 0.0
    ) -> None:
        """Keep the points around their mean, which spares digits in the sums."""
        super().__init__(process)
        self.event = data.shape[1:]
        self.std = std
        flat = data.flatten(1)
        self.register_buffer("center", flat.mean(0))
        self.register_buffer("points", flat - flat.mean(0))
        self.register_buffer("labels", labels)

    center: Tensor
    points: Tensor
    labels: Tensor | None

    def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """Eq. above; masked elements carry no evidence."""
        alpha, sigma = self.process.alpha(t)[:, None], self.process.sigma(t)[:, None]
        total = (alpha * self.std).square() + sigma.square()
        gain = alpha * self.std**2 / total
        flat = xt.flatten(1).to(self.points.dtype)
        mean = torch.softmax(self._log_weights(flat, alpha, total, cond), 1) @ self.points + self.center
        found = gain.to(flat) * flat + (1 - gain * alpha).to(flat) * mean
        return found.reshape(xt.shape).to(xt.dtype)

    def draw(self, uniform: Tensor, normal: Tensor) -> Tensor:
        """(B, ...) exact samples from (B,) uniform and (B, ...) normal numbers."""
        which = (uniform * len(self.points)).long().clamp(max=len(self.points) - 1)
        stored = (self.points + self.center)[which].reshape(-1, *self.event)
        return stored + self.std * normal

    def _log_weights(self, flat: Tensor, alpha: Tensor, total: Tensor, cond: Cond) -> Tensor:
        """(B, N) up to a number per row: (alpha x y - alpha^2 |y|^2 / 2) / V, without the square of x."""
        residual, squares = flat - alpha.to(flat) * self.center, self.points.square()
        if cond.mask is None:
            norms = squares.sum(1)
        else:
            shown = cond.mask.expand(len(flat), *self.event).flatten(1).to(flat.dtype)
            residual, norms = residual * shown, shown @ squares.T
        log = (alpha / total).to(flat) * (residual @ self.points.T) - (alpha.square() / total / 2).to(
            flat
        ) * norms
        if self.labels is None or cond.data is None:
            return log
        wanted = cond.data.reshape(-1, 1)
        return log.masked_fill((wanted >= 0) & (self.labels != wanted), -torch.inf)
