"""The discrete chains of DDPM networks as a row of the process table: time is the index of the chain."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from fewstep.processes.gaussian import Gaussian
from fewstep.processes.laws import Time
from fewstep.protocol import Euclidean

GONE = -80.0
"""ln alpha^2 that stands for no signal at all: alpha = 4e-18."""


@dataclass(frozen=True)
class Chain:
    """alpha^2 given at n = 0 ... N - 1, log-linear in between, so that slopes exist; -1 is the end of the last step.

    At a whole time the slopes are those of the interval below it, where a sampler goes next; at n = 0, if the last step
    stays there, those of the interval above: a flow that stands still has no clock.

    Args:
        alpha_bars: (N,) falling alpha^2 of the chain (Ho et al. 2020 eq. 4).
        final: alpha^2 at n = -1: 1, or alpha_bars[0] where the last step stays at the cleanest noise.
    """

    alpha_bars: tuple[float, ...]
    final: float = 1.0

    @cached_property
    def _minus_logs(self) -> Tensor:
        """(N + 1,) -ln alpha^2 at n = -1, 0, ..., N - 1."""
        values = torch.tensor((self.final, *self.alpha_bars), dtype=torch.float64)
        return -values.log().clamp(min=GONE)

    @cached_property
    def _copies(self) -> dict[torch.device, Tensor]:
        return {}

    def _knots(self, device: torch.device) -> Tensor:
        """The table on a device, copied there once."""
        if device not in self._copies:
            self._copies[device] = self._minus_logs.to(device)
        return self._copies[device]

    def _interval(self, t: Time) -> tuple[Tensor, Tensor, Tensor]:
        """The interval below t: its index n + 1, and -ln alpha^2 at both ends."""
        knots = self._knots(t.device)
        lower = (torch.ceil(t).long()).clamp(0, len(knots) - 2)
        return lower, knots[lower], knots[lower + 1]

    def _minus_log(self, t: Time) -> Time:
        lower, low, high = self._interval(t)
        return low + (t + 1 - lower) * (high - low)

    def alpha(self, t: Time) -> Time:
        """sqrt(alpha^2)."""
        return torch.exp(-self._minus_log(t) / 2)

    def sigma(self, t: Time) -> Time:
        """sqrt(1 - alpha^2) through expm1."""
        return (-torch.expm1(-self._minus_log(t))).sqrt()

    def alpha_slope(self, t: Time) -> Time:
        """Alpha (ln alpha)', constant times alpha between whole times."""
        stays = self.final == self.alpha_bars[0]
        _, low, high = self._interval(t.clamp(min=0.5) if stays else t)
        return self.alpha(t) * (low - high) / 2

    def sigma_slope(self, t: Time) -> Time:
        """-alpha alpha' / sigma."""
        return -self.alpha(t) * self.alpha_slope(t) / self.sigma(t)

    def time_of_ratio(self, ratio: Time) -> Time:
        """The inverse, interval by interval."""
        knots = self._knots(ratio.device)
        wanted = torch.log1p(ratio.square()).clamp(knots[0], knots[-1])
        lower = (torch.searchsorted(knots, wanted.contiguous(), right=True) - 1).clamp(0, len(knots) - 2)
        low, high = knots[lower], knots[lower + 1]
        return lower - 1 + (wanted - low) / (high - low).clamp(min=1e-300)

    def network_time(self, t: Time) -> Time:
        """The index."""
        return t


def ddpm(
    betas: Literal["linear", "scaled_linear"] = "linear",
    *,
    steps: int = 1000,
    beta_start: float | None = None,
    beta_end: float | None = None,
    set_alpha_to_one: bool = True,
    zero_terminal_snr: bool = False,
    geometry: Euclidean | None = None,
) -> Gaussian:
    """DDPM chain, t in [0, steps - 1].

    Args:
        betas: "linear" from 1e-4 to 2e-2 (Ho et al. 2020 sec. 4), or "scaled_linear": linear in sqrt(beta) from
            0.00085 to 0.012 (Rombach et al. 2022).
        steps: N.
        beta_start: beta of n = 0, where it is another one.
        beta_end: beta of n = N - 1, where it is another one.
        set_alpha_to_one: whether the step below n = 0 ends on clean states, or stays at n = 0.
        zero_terminal_snr: rescale sqrt(alpha^2) so that no signal is left at N - 1 (Lin et al. 2024 algorithm 1).
        geometry: what a state is.
    """
    usual = (1e-4, 2e-2) if betas == "linear" else (0.00085, 0.012)
    start, end = (
        own if given is None else given for given, own in zip((beta_start, beta_end), usual, strict=True)
    )
    power = 1 if betas == "linear" else 2
    beta = torch.linspace(start ** (1 / power), end ** (1 / power), steps, dtype=torch.float64) ** power
    alpha_bars = torch.cumprod(1 - beta, 0)
    if zero_terminal_snr:
        roots = alpha_bars.sqrt()
        alpha_bars = (roots[0] * (roots - roots[-1]) / (roots[0] - roots[-1])).square()
    listed = tuple(alpha_bars.tolist())
    law = Chain(listed, 1.0 if set_alpha_to_one else listed[0])
    return Gaussian(law, 0.0, steps - 1.0, geometry=geometry or Euclidean(), whole=True)
