"""Seam 1b: how a state is corrupted. Times are float tensors (B, ...) that broadcast over leading dims of a state."""

from __future__ import annotations

from typing import Protocol, Self, runtime_checkable

from torch import Tensor

from fewstep.protocol.geometry import Geometry
from fewstep.protocol.key import Key
from fewstep.protocol.tree import Tree
from fewstep.protocol.values import Batch, Estimate


@runtime_checkable
class Process(Protocol):
    """Corruption, deterministic given its noise. Time grows with noise from ``t_min`` to ``t_max``."""

    @property
    def geometry(self) -> Geometry:
        """What a state is, with the bound mask."""
        ...

    @property
    def t_min(self) -> float:
        """The cleanest time that networks are asked about."""
        ...

    @property
    def t_max(self) -> float:
        """The noisiest time."""
        ...

    def on(self, mask: Tree) -> Self:
        """This process with a batch's mask bound."""
        ...

    def grid(self, steps: int) -> Tensor:
        """(steps + 1,) float64 decreasing times from t_max to t_min, the natural spacing of the process."""
        ...

    def noise(self, batch: Batch, key: Key) -> Tree:
        """Noise as a value, projected and masked; a prior with a mean overrides this."""
        ...

    def corrupt(self, x: Tree, noise: Tree, t: Tensor, *, since: Tensor | None = None) -> Tree:
        """A draw of q(x_t | x) made from ``noise``: x is clean, or stands at time ``since``; None = the prior at t."""
        ...

    def x0(self, raw: Tree, xt: Tree, t: Tensor, prediction: str) -> Tree:
        """What a network output means: the projected clean estimate."""
        ...

    def posterior(self, xt: Tree, est: Estimate, t: Tensor, s: Tensor, noise: Tree) -> Tree:
        """A draw of q(x_s | x_t, x0), s <= t, made from ``noise``."""
        ...

    def network_input(self, xt: Tree, t: Tensor) -> Tree:
        """The state as networks like to see it (unit variance where the process can say so)."""
        ...

    def network_time(self, t: Tensor) -> Tensor:
        """The time as networks like to see it."""
        ...


@runtime_checkable
class Flow(Process, Protocol):
    """A process with a probability-flow ODE."""

    def velocity(self, xt: Tree, est: Estimate, t: Tensor) -> Tree:
        """dx/dt along the flow."""
        ...

    def jump(self, xt: Tree, est: Estimate, t: Tensor, s: Tensor) -> Tree:
        """Keep the predicted noise and move to time s: the DDIM step."""
        ...
