"""A pipeline's network as fewstep calls one, and the guidance scale as one more of its inputs.

Shape legend: B batch, ... the pipeline's own latents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from fewstep.protocol import Cond

Ask: TypeAlias = Callable[[Any, Tensor, Tensor, Mapping[str, Tensor]], Tensor]
"""``(network, x, time, given) -> raw``: how a pipeline calls its network; ``given`` is what it made of a prompt."""

WAVES = 256
"""Sinusoids of a guidance scale, as in Luo et al. 2023 (LCM)."""


class PipelineNetwork(nn.Module):
    """A network of diffusers behind ``net(x, time, cond)``.

    ``cond.data`` holds "given" and "null", what the pipeline's encoders made of the prompt and of none; the network
    sees "given" alone, so that guidance can put the other in its place.

    Args:
        inner: the pipeline's own network, whose parameter names stay what they are.
        ask: how it is called.
        clock: name of the first linear layer after the sinusoids of the time, where a guidance scale enters.
    """

    def __init__(self, inner: nn.Module, ask: Ask, clock: str) -> None:
        """Bind the three."""
        super().__init__()
        self.inner = inner
        self.ask = ask
        self.clock = clock

    @property
    def accepts(self) -> frozenset[str]:
        """``guidance``, where the clock was opened for it."""
        return frozenset({"guidance"} if isinstance(self._clock, ToldLinear) else ())

    def copied(self, *, told: bool) -> PipelineNetwork:
        """A copy that may learn, and if ``told`` also takes a guidance scale, which changes nothing at first."""
        copy = PipelineNetwork(deepcopy(self.inner), self.ask, self.clock).requires_grad_(True)
        if told and not copy.accepts:
            copy._put_clock(ToldLinear.from_linear(copy._clock))
        return copy

    def settled(self, guidance: float | None) -> nn.Module:
        """A copy of the network as its pipeline knows it, with one guidance scale for good.

        What a scale adds does not depend on the time, so it becomes a part of the bias: nothing is approximated.
        """
        copy = self.copied(told=False)
        if isinstance(copy._clock, ToldLinear):
            copy._put_clock(copy._clock.settled(guidance))
        return copy.inner.requires_grad_(False).eval()

    def forward(self, x: Tensor, time: Tensor, cond: Cond, guidance: Tensor | None = None) -> Tensor:
        """(B, ...) latents, (B,) network times, condition, (B,) scales -> (B, ...) raw prediction."""
        if not isinstance(self._clock, ToldLinear):
            return self.ask(self.inner, x, time, cond.data["given"])
        self._clock.scale = guidance
        try:
            return self.ask(self.inner, x, time, cond.data["given"])
        finally:
            self._clock.scale = None

    @property
    def _clock(self) -> nn.Linear:
        found: Any = self.inner.get_submodule(self.clock)
        return found

    def _put_clock(self, layer: nn.Linear) -> None:
        parent, _, name = self.clock.rpartition(".")
        setattr(self.inner.get_submodule(parent), name, layer)


class ToldLinear(nn.Linear):
    """A linear layer that also hears a guidance scale: W x + b + G sinusoids(g), G = 0 at first.

    LCM adds P sinusoids(g) to x instead (Luo et al. 2023 sec. 4.2); G = W P says the same.
    """

    scale: Tensor | None = None
    """(B,) while the network runs."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """The second input begins silent."""
        super().__init__(inputs, outputs)
        self.guidance = nn.Linear(WAVES, outputs, bias=False)
        nn.init.zeros_(self.guidance.weight)

    @classmethod
    def from_linear(cls, layer: nn.Linear) -> ToldLinear:
        """With the weights of a plain layer.

        Raises:
            ValueError: the layer has no bias, into which a scale could be settled.
        """
        if layer.bias is None:
            raise ValueError("the first layer of the clock has no bias, where a guidance scale could settle")
        made = cls(layer.in_features, layer.out_features).to(layer.weight)
        made.load_state_dict(layer.state_dict(), strict=False)
        return made

    def settled(self, guidance: float | None) -> nn.Linear:
        """The plain layer that says the same at one scale; None = as if it was never told one."""
        plain = nn.Linear(self.in_features, self.out_features).to(self.weight)
        with torch.no_grad():
            plain.weight.copy_(self.weight)
            plain.bias.copy_(self.bias)
            if guidance is not None:
                heard = self.guidance(scale_waves(torch.tensor([guidance]), self.weight.dtype))
                plain.bias.add_(heard[0])
        return plain

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) -> (B, outputs)."""
        plain = super().forward(x)
        return plain if self.scale is None else plain + self.guidance(scale_waves(self.scale, x.dtype))


def scale_waves(scale: Tensor, dtype: torch.dtype) -> Tensor:
    """(B,) -> (B, WAVES) sines and cosines of 1000 times the scale."""
    half = WAVES // 2
    rates = torch.exp(
        -math.log(10_000) * torch.arange(half, device=scale.device, dtype=torch.float64) / (half - 1)
    )
    angles = 1000 * scale.double()[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1).to(dtype)
