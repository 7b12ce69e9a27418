"""The denoiser of the known shapes: exact as a teacher, learnable as a fake and as a student."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fewstep.processes import Product
from fewstep.protocol import Cond
from fewstep_protein.frames.law import SHARES, WOBBLE_SHARES, ShapeLaw, evidence

PREDICTS = "place=x0,turn=tangent"
"""What the network says."""


class ShapeNet(nn.Module):
    """E[x0 | x_t] under a mixture of the law's shapes, with shares, variances and sharpness of its own in every step.

    Given shape m the place modes are mu_m + alpha v / (sigma^2 + alpha^2 v) (x_t - alpha mu_m), and the tangent of a
    rotation is the mean over wobbles; both are averaged over shapes. Beliefs are softmax(s (ln share + evidence)). With
    the law's own shares and v and s = 1 this is the exact denoiser. A fake learns the shares and v of a student that
    decides; a student decides where s is large, and any gain of the modes is some v.

    Args:
        process: the product process with leaves place and turn.
        law: the shapes.
        steps: rows of the tables, each beside one that all steps share; the condition's step index chooses one (the
            first without an index).
    """

    def __init__(self, process: Product, law: ShapeLaw, steps: int = 1) -> None:
        """Start as the exact denoiser."""
        super().__init__()
        self.process: Any = process.leaves["place"]
        self.law = law
        self.log_share = _table(torch.tensor(SHARES).log(), steps)
        self.log_wobble = _table(torch.tensor(WOBBLE_SHARES).log(), steps)
        self.log_variance = _table(law.modes[0].float().log(), steps)
        self.log_sharpness = _table(torch.zeros(2), steps)

    def forward(self, x: Any, time: Tensor, cond: Cond) -> dict[str, Tensor]:
        """Places (B, N, 3) and tangents (B, N, 3).

        Args:
            x: place (B, N, 3) in the scale of the process' network input, turn (B, N, 3, 3).
            time: (B,) 1000 t.
            cond: its index says the step.
        """
        t = time.double() / 1000
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        scale = self.process.network_input(torch.ones_like(t), t)
        step = torch.zeros(len(t), dtype=torch.int64) if cond.index is None else cond.index
        share, wobble, variance, sharp = (
            (table[0] + table[1 + step]).double()
            for table in (self.log_share, self.log_wobble, self.log_variance, self.log_sharpness)
        )
        variance, sharp = variance.exp(), sharp.exp()
        modes = self.law.residuals(x["place"].double() / scale[:, None, None], alpha)
        toward = self.law.toward(x["turn"])
        width = alpha[:, None].square() * variance + sigma[:, None].square()
        angle = toward.square().sum(-1).clamp(min=1e-18).sqrt()
        of_shape, of_both = evidence(angle, modes, t, width, wobble.log_softmax(1))
        belief = torch.softmax(sharp[:, :1] * (share.log_softmax(1) + of_shape), 1)[..., None, None]
        inner = torch.softmax(sharp[:, 1, None, None, None] * of_both, 2)[..., None]
        gain = (alpha[:, None] * variance / width)[:, None, :, None]
        place = (belief * (self.law.places + self.law.modes[1] @ (gain * modes))).sum(1)
        turn = (belief * (inner * toward).sum(2)).sum(1)
        return {"place": place.to(x["place"].dtype), "turn": turn.to(x["turn"].dtype)}


def _table(row: Tensor, steps: int) -> nn.Parameter:
    """(1 + steps, ...) what all steps share, then what each adds to it."""
    return nn.Parameter(torch.cat([row[None], torch.zeros(steps, len(row))]))
