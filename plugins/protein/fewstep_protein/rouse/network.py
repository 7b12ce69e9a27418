"""A denoiser that is linear in the modes of a chain: exact as a teacher, learnable as a fake and as a student."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fewstep.processes import Gaussian
from fewstep.protocol import Cond
from fewstep.testing.analytic import rouse_modes
from fewstep_protein.rouse.chain import BOND


class ModeNet(nn.Module):
    """E[x0 | x_t] of a chain whose modes are independent with variance v: alpha v / (sigma^2 + alpha^2 v) x_t.

    One variance per step, length and mode. The teacher has the chain's own variances in every step. A fake learns
    them from samples, step by step. A student may choose any: since v -> gain is onto (0, 1 / alpha), the same
    parameter spans every linear student. Told where to land, it is the flow map of the same Gaussian, without another
    parameter: a student that is asked for maps begins with the exact ones.

    Args:
        process: the process of the denoiser around it; says alpha, sigma and how inputs were scaled.
        lengths: beads of the chains it knows.
        steps: rows of the table; the condition's step index chooses one (row 0 without an index).
        pooled: read row 0 whatever the index: what a fake is that does not know the step.
    """

    def __init__(
        self, process: Gaussian, lengths: Sequence[int], steps: int = 1, pooled: bool = False
    ) -> None:
        """Start as the exact denoiser."""
        super().__init__()
        self.process = process
        self.lengths = tuple(sorted(set(lengths)))
        self.pooled = pooled
        longest = max(self.lengths)
        table = torch.zeros(steps, len(self.lengths), longest - 1)
        basis = torch.zeros(len(self.lengths), longest, longest - 1, dtype=torch.float64)
        for row, beads in enumerate(self.lengths):
            variances, modes = rouse_modes(beads, BOND)
            table[:, row, : beads - 1] = variances.log()
            basis[row, :beads, : beads - 1] = modes
        self.log_variance = nn.Parameter(table)
        self.register_buffer("basis", basis, persistent=False)

    basis: Tensor
    accepts = frozenset({"to"})

    def forward(self, x: Tensor, time: Tensor, cond: Cond, to: Tensor | None = None) -> Tensor:
        """The clean estimate (B, N, 3).

        Args:
            x: (B, N, 3) scaled input of the process.
            time: (B,) 1000 t.
            cond: mask (B, N, 1); without it every chain has N beads.
            to: (B,) 1000 s, where a flow map lands; None = the denoiser, which is the map from t to t.
        """
        t = time.double() / 1000
        row = self._row(x, cond)
        basis = self.basis[row, : x.shape[1]].to(x.dtype)
        step = self._step(cond, row)
        gain = self.gain(t, step, row) if to is None else self.gain_to(to.double() / 1000, t, step, row)
        gain = gain / self.process.network_input(torch.ones_like(t), t)[:, None]
        return basis @ (gain.to(x.dtype)[..., None] * (basis.mT @ x))

    def gain(self, t: Tensor, step: Tensor, row: Tensor) -> Tensor:
        """(B, modes) gain from x_t to the clean estimate at time t (B,), for table rows ``step`` and ``row`` (B,)."""
        alpha, sigma = self.process.alpha(t)[:, None], self.process.sigma(t)[:, None]
        variance = self.log_variance[step, row].to(t.dtype).exp()
        return alpha * variance / (sigma.square() + alpha.square() * variance)

    def gain_to(self, s: Tensor, t: Tensor, step: Tensor, row: Tensor) -> Tensor:
        """(B, modes) gain to the clean estimate with which a jump from t lands at s (B,) where the flow does.

        The flow multiplies a mode by the ratio of its standard deviations; solved for x0 without a difference.
        """
        alpha, sigma = self.process.alpha(t)[:, None], self.process.sigma(t)[:, None]
        alpha_s, sigma_s = self.process.alpha(s)[:, None], self.process.sigma(s)[:, None]
        variance = self.log_variance[step, row].to(t.dtype).exp()
        here = sigma.square() + alpha.square() * variance
        ratio = ((sigma_s.square() + alpha_s.square() * variance) / here).sqrt()
        return variance * (alpha_s * sigma + alpha * sigma_s) / (here * (sigma * ratio + sigma_s))

    def _step(self, cond: Cond, row: Tensor) -> Tensor:
        return torch.zeros_like(row) if cond.index is None or self.pooled else cond.index

    def _row(self, x: Tensor, cond: Cond) -> Tensor:
        """(B,) which known length each chain has.

        Raises:
            ValueError: for a length it does not know.
        """
        count = x.new_full((len(x),), x.shape[1]) if cond.mask is None else cond.mask[..., 0].sum(1)
        known = torch.tensor(self.lengths, device=x.device)
        same = count.long()[:, None] == known
        if not bool(same.any(1).all()):
            strange = sorted({int(n) for n in count} - set(self.lengths))
            raise ValueError(f"this Rouse chain knows lengths {self.lengths}, got {strange}")
        return same.long().argmax(1)
