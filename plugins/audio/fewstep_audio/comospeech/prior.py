"""Noise around what the encoder expects: the second prior of CoMoSpeech, which Grad-TTS began (Popov et al. 2021 sec. 3.1).

x_t = x0 + sigma w with w = eps + mu, mu the mel that the encoder predicts. A denoiser estimates E[x0 | x_t] whatever the
mean of the noise, and along the flow dx/dsigma = (x - D) / sigma all the same. So nothing changes but the noise, as
long as training, the start of the flow and fresh noise between two steps take the same w.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.processes import Gaussian
from fewstep.protocol import Batch, Cond, Estimate, Key, Loss, Phase, Role, Roles, Step
from fewstep_audio.networks import MelNetwork

Mean = Callable[[Cond, torch.dtype], Tensor]


@dataclass(frozen=True)
class Around(Gaussian):
    """A process whose noise has a mean that the condition tells.

    Steps that draw only *part* of the noise anew (ancestral, stochastic solvers, transitions between two noisy times)
    would need that mean in another proportion, and are refused.

    Args:
        mean: (condition, dtype) -> mu, as large as a state. It takes no gradient from what is made of the noise.
    """

    mean: Mean | None = field(default=None, compare=False, repr=False)

    def noise(self, batch: Batch, key: Key) -> Tensor:
        """Eps + mu, projected and masked."""
        noise = super().noise(batch, key)
        if self.mean is None:
            return noise
        with torch.no_grad():
            return self.geometry.on(batch.mask).project(noise + self.mean(batch.cond, noise.dtype))

    def corrupt(self, x: Tensor | None, noise: Tensor, t: Tensor, *, since: Tensor | None = None) -> Tensor:
        """As for any Gaussian, from clean states."""
        if since is not None:
            raise _whole("a transition between two noisy times")
        return super().corrupt(x, noise, t)

    def posterior(self, xt: Tensor, est: Estimate, t: Tensor, s: Tensor, noise: Tensor) -> Tensor:
        """Refused."""
        raise _whole("an ancestral step")

    def stochastic_jump(
        self, xt: Tensor, est: Estimate, t: Tensor, s: Tensor, noise: Tensor, eta: float
    ) -> Tensor:
        """Refused."""
        raise _whole("a step of the reverse SDE")


def _whole(what: str) -> ValueError:
    return ValueError(
        f"{what} draws a part of the noise anew, but noise around mu is drawn as a whole; "
        "take noise.prior=zero, or an objective and a sampler without such steps (consistency, ode-pairs, heun, renoise)"
    )


def around(process: Gaussian, net: MelNetwork) -> Gaussian:
    """The process with noise around what the network's encoder expects, or as it is where the encoder expects nothing."""
    if net.expected is None:
        return process
    same: dict[str, Any] = {one.name: getattr(process, one.name) for one in fields(Gaussian)}
    return Around(**same, mean=net.mu)


@dataclass(frozen=True)
class PriorFit:
    """The encoder's own loss, 1/2 |x0 - mu|^2 per element (Popov et al. 2021 sec. 3.2, without its constant).

    Args:
        role: a denoiser whose net is a :class:`MelNetwork` that predicts mu; its phase has the same name.
    """

    role: str = "teacher"

    @property
    def roles(self) -> Mapping[str, Role]:
        """The denoiser."""
        return {self.role: Role(kind=nn.Module)}

    @property
    def reads(self) -> frozenset[str]:
        """Clean states."""
        return frozenset({"x"})

    def phases(self, index: int) -> Sequence[Phase]:
        """One update."""
        return (Phase(self.role, (self.role,)),)

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss:
        """Mean over real elements of all rows."""
        model: Any = roles[self.role]
        mu = model.net.mu(batch.cond, batch.x.dtype)
        total = 0.5 * model.process.on(batch.mask).geometry.nll(Estimate(mu), batch.x).mean()
        return Loss(total, {"loss": total.detach()})
