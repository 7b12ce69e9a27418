"""Absorbing-state corruption of tokens: every position is hidden independently with probability t.

Shape legend: B batch, L positions, V vocabulary (the hidden token has id V). Linear alpha(t) = 1 - t
(Sahoo et al. 2024 MDLM, Shi et al. 2024 MD4); any other schedule is a change of the time variable.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from fewstep.protocol import Batch, Categorical, Estimate, Key, Tree, spread

NEVER = -1e4
"""Logit of what cannot be: probability 0 in float32, yet differences of logs stay finite."""


@dataclass(frozen=True)
class Masked:
    """States are ids (B, L) int64 in [0, V]; V is the hidden token.

    Noise is (B, L, 2) uniform: the first number decides *when* a position hides or shows (one number shared over
    times gives nested masks, the consistency coupling), the second decides *which* token appears.

    Args:
        vocabulary: V, without the hidden token.
        t_min: cleanest time that networks are asked about.
        t_max: 1 = all hidden.
        geometry: categorical, with the bound mask (B, L) of real positions.
    """

    vocabulary: int
    t_min: float = 1e-3
    t_max: float = 1.0
    geometry: Categorical = field(default_factory=Categorical)

    @property
    def hidden_token(self) -> int:
        """Id of the hidden token."""
        return self.vocabulary

    def on(self, mask: Tree) -> Self:
        """This process with a batch's mask bound."""
        return self if mask is None else replace(self, geometry=self.geometry.on(mask))

    def alpha(self, t: Tensor) -> Tensor:
        """Probability that a position is still visible, float64."""
        return 1 - t.double()

    def grid(self, steps: int) -> Tensor:
        """(steps + 1,) uniform times from t_max to 0: the last step shows everything."""
        if steps < 1:
            raise ValueError(f"a time grid needs at least one step, got {steps}")
        return self.t_max * (1 - torch.arange(steps + 1, dtype=torch.float64) / steps)

    def noise(self, batch: Batch, key: Key) -> Tensor:
        """(B, L, 2) uniform numbers in [0, 1)."""
        shape = (*batch.like.shape, 2)
        return key.uniform(shape, device=batch.like.device, dtype=torch.float64)

    def corrupt(self, x: Tensor | None, noise: Tensor, t: Tensor, *, since: Tensor | None = None) -> Tensor:
        """Hide where noise[..., 0] < 1 - alpha(t) / alpha(since). x = None is the prior: all hidden where t = t_max."""
        gate = noise[..., 0]
        if x is None:
            return torch.full(gate.shape, self.hidden_token, dtype=torch.int64, device=gate.device)
        kept = self.alpha(t) if since is None else self.alpha(t) / self.alpha(since).clamp(min=1e-12)
        return torch.where(self._acts(gate < spread(1 - kept, gate)), self.hidden_token, x)

    def hidden(self, xt: Tensor) -> Tensor:
        """(B, L) True where a real position is hidden."""
        return self._acts(xt == self.hidden_token)

    def x0(self, raw: Tensor, xt: Tensor, t: Tensor, prediction: str = "logits") -> Tensor:
        """Logits (B, L, V): the network's where hidden, certainty where visible (MDLM sec. 3.2.3, carry-over).

        Because visible positions are certain, every mean over positions already counts hidden ones only.
        """
        if prediction != "logits":
            raise ValueError(f"a masked process reads 'logits', not {prediction!r}")
        logits = raw[..., : self.vocabulary]
        known = F.one_hot(xt.clamp(max=self.vocabulary - 1), self.vocabulary).to(logits.dtype)
        certain = (1 - known) * NEVER
        return torch.where((xt == self.hidden_token).unsqueeze(-1), logits, certain)

    def posterior(self, xt: Tensor, est: Estimate, t: Tensor, s: Tensor, noise: Tensor) -> Tensor:
        """q(x_s | x_t, x0): a hidden position shows with probability (alpha_s - alpha_t) / (1 - alpha_t)."""
        gate, which = noise[..., 0], noise[..., 1]
        shows = self.hidden(xt) & (gate < spread(self._show(t, s), gate))
        return torch.where(shows, _inverse_cdf(est.x0, which), xt)

    def logp(self, xt: Tensor, est: Estimate, xs: Tensor) -> Tensor:
        """(B,) log-probability of the tokens that appeared between x_t and x_s. Which positions show has none to learn."""
        shown = self.hidden(xt) & (xs != self.hidden_token)
        each = (
            F.log_softmax(est.x0, -1).gather(-1, xs.clamp(max=self.vocabulary - 1).unsqueeze(-1)).squeeze(-1)
        )
        return torch.where(shown, each, torch.zeros_like(each)).sum(1)

    def network_input(self, xt: Tensor, t: Tensor) -> Tensor:
        """Ids as they are."""
        return xt

    def network_time(self, t: Tensor) -> Tensor:
        """T."""
        return t.double()

    def _show(self, t: Tensor, s: Tensor) -> Tensor:
        return (self.alpha(s) - self.alpha(t)) / (1 - self.alpha(t)).clamp(min=1e-12)

    def _acts(self, where: Tensor) -> Tensor:
        mask = self.geometry.mask
        return where if mask is None else where & mask.bool()


def _inverse_cdf(logits: Tensor, uniform: Tensor) -> Tensor:
    """(B, L) tokens whose cumulative probability first exceeds ``uniform``; float64, so that rare tokens survive."""
    cumulative = torch.softmax(logits.detach().double(), -1).cumsum(-1)
    index = torch.searchsorted(cumulative, uniform.double().unsqueeze(-1).contiguous(), right=True).squeeze(
        -1
    )
    return index.clamp(max=logits.shape[-1] - 1)
