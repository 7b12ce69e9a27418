"""What a network that was trained elsewhere says, in which unit, and how the core is told.

Elsewhere means x_t = (1 - t) noise + t data, t = 0 is noise (Proteina, FrameFlow, FoldFlow), noise of one nanometer.
The core counts from data to noise: its time is 1 - t. Everything else is a sign, a unit, and one of the core's
predictions, which convert in float64.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.processes import Gaussian
from fewstep.protocol import Cond, Denoiser
from fewstep_protein.networks.chain import ChainNet
from fewstep_protein.teachers.outputs import Output, Unit

PER_NANOMETER = {"nm": 1.0, "angstrom": 10.0}
PREDICTIONS = {"x1": "x0", "v": "flow", "eps": "eps", "score": "eps"}
LAST_KNOWN = 0.99
"""Noisiest time at which a clean chain is made of a noise or a score: at 1 nothing follows from them."""


@dataclass(frozen=True)
class Convention:
    """What the network says, and in which unit its coordinates are."""

    output: Output
    unit: Unit = "nm"

    @property
    def prediction(self) -> str:
        """Its name in the core."""
        return PREDICTIONS[self.output]

    @property
    def scale(self) -> float:
        """Its units in a nanometer."""
        return PER_NANOMETER[self.unit]

    def process(self, process: Gaussian) -> Gaussian:
        """Without the end at which its output says nothing about clean chains."""
        known = 1.0 if self.prediction in ("x0", "flow") else LAST_KNOWN
        return replace(process, t_max=min(known, process.t_max))

    def raw(self, said: Tensor, noise: Tensor) -> Tensor:
        """The prediction in nanometers, from what the network said at the core's time ``noise`` (B,).

        x1 and v have the unit of coordinates. The noise has none. A score has the inverse unit: with noise of standard
        deviation ``noise``, it is -eps / noise.
        """
        if self.output == "x1":
            return said / self.scale
        if self.output == "v":
            return -said / self.scale
        if self.output == "eps":
            return said
        return -self.scale * noise[:, None, None] * said


class Borrowed(nn.Module):
    """Somebody's network, called as the core calls one.

    Args:
        inner: called as ``inner(x_t, t, mask)`` with x_t (B, N, 3) in its own unit, t (B,) from noise (0) to data (1) and
            mask (B, N), True = real; with a fourth argument, labels (B, levels), if it has ``reads_labels``. Returns
            (B, N, 3). Without a convention it is called as core's networks are: ``inner(x, time, cond)``.
        convention: what it says.
        sigma_data: standard deviation of the data in nanometers, by which the core scales what it shows.
        told: a network of ours that learns what the borrowed one cannot be told (step, destination); its share begins
            at zero.
    """

    def __init__(
        self, inner: nn.Module, convention: Convention | None, sigma_data: float, told: ChainNet | None = None
    ) -> None:
        """Keep the parts."""
        super().__init__()
        self.inner, self.convention, self.sigma_data, self.told = inner, convention, sigma_data, told
        self.share = None if told is None else nn.Parameter(torch.zeros(()))

    @property
    def accepts(self) -> frozenset[str]:
        """What our own part takes."""
        return frozenset() if self.told is None else self.told.accepts

    def copied(self, reads_index: bool = False, lands: bool = False) -> Borrowed:
        """A copy that may learn. Where it must be told more than the network reads, a small network is added to it."""
        more = reads_index or lands
        told = ChainNet(sigma_data=self.sigma_data, reads_index=reads_index, lands=lands) if more else None
        inner = deepcopy(self.inner).requires_grad_(True).train()
        return Borrowed(inner, self.convention, self.sigma_data, told)

    def forward(self, x: Tensor, time: Tensor, cond: Cond, to: Tensor | None = None) -> Tensor:
        """(B, N, 3) of unit variance, (B,) 1000 t -> (B, N, 3) raw prediction."""
        raw = self._asked(x, time, cond)
        if self.told is None or self.share is None:
            return raw
        return raw + self.share * self.told(x, time, cond, to=to)

    def _asked(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        if self.convention is None:
            plain: Tensor = self.inner(x, time, cond)
            return plain
        noise = time / 1000
        size = (((1 - noise) * self.sigma_data).square() + noise.square()).sqrt()
        shown = self.convention.scale * size[:, None, None] * x
        real = torch.ones_like(x[..., 0], dtype=torch.bool) if cond.mask is None else cond.mask[..., 0]
        labels = (cond.data["cath"],) if getattr(self.inner, "reads_labels", False) else ()
        said: Any = self.inner(shown, 1 - noise, real, *labels)
        return self.convention.raw(said, noise) * real[..., None]


def borrowed(inner: nn.Module, convention: Convention, process: Gaussian) -> Denoiser:
    """A teacher made of a network that says what ``convention`` states."""
    net = Borrowed(inner, convention, process.sigma_data)
    return Denoiser(net, convention.process(process), convention.prediction)
