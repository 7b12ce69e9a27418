"""The only class that knows what a network's output means, and guidance over it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from fewstep.protocol.process import Process
from fewstep.protocol.tree import Tree, spread, tensors, tree_map
from fewstep.protocol.values import Cond, Estimate


class Denoiser(nn.Module):
    """A network, the process it was trained on, and the meaning of its output.

    Args:
        net: called as ``net(x, time, cond, **asked)`` with x from ``process.network_input`` and time (B, ...) from
            ``process.network_time`` in the dtype of x. Returns the raw prediction, or (raw, features) when
            ``features=`` was asked for. ``net.accepts`` (a set of names out of to, guidance, features) says
            which keywords it takes; none by default. ``to`` reaches it as a network time.
        process: how states are corrupted. Lives here, so that two teachers on different processes can be mixed.
        prediction: what the network predicts: "x0", "eps", "v", "flow", "trig", "edm", "boundary", "logits".
    """

    def __init__(self, net: nn.Module, process: Process, prediction: str) -> None:
        """Bind network, process and prediction."""
        super().__init__()
        self.net = net
        self.process = process
        self.prediction = prediction

    @property
    def accepts(self) -> frozenset[str]:
        """Optional keywords that the network understands."""
        return frozenset(getattr(self.net, "accepts", ()))

    def encode(self, shown: Tree) -> Tree:
        """From what a student shows to a state of this process; differentiable. Identity unless overridden."""
        return shown

    def over(self, process: Process) -> Self:
        """The same module over another process; its parameters are shared, not copied."""
        twin = copy.copy(self)
        twin.process = process
        return twin

    def forward(
        self,
        xt: Tree,
        t: Tensor,
        cond: Cond | None = None,
        *,
        to: Tensor | None = None,
        guidance: Tensor | None = None,
        features: tuple[int, ...] = (),
    ) -> Estimate:
        """Estimate of the clean state at time t.

        Args:
            xt: states at time t.
            t: (B, ...) times in the process' own units.
            cond: what the network sees beside the state; its mask is where the process acts.
            to: (B, ...) target time of a flow-map network.
            guidance: (B,) guidance scale as an input.
            features: indices of activations to return.

        Raises:
            ValueError: if a keyword is given that the network does not take.
        """
        cond = cond or Cond()
        process = self.process.on(cond.mask)
        shown = process.network_input(xt, t)
        clock, dtype = process.network_time, _dtype(shown)
        asked = self._asked(to=None if to is None else clock(to).to(dtype), guidance=guidance)
        if features:
            asked |= self._asked(features=features)
        out = self.net(shown, clock(t).to(dtype), cond, **asked)
        raw, found = out if features else (out, ())
        return Estimate(process.x0(raw, xt, t, self.prediction), raw, tuple(found))

    def _asked(self, **wanted: Any) -> dict[str, Any]:
        asked = {name: value for name, value in wanted.items() if value is not None}
        if not asked:
            return asked
        unknown = sorted(set(asked) - self.accepts)
        if unknown:
            raise ValueError(
                f"{type(self.net).__name__} does not take {', '.join(unknown)}; it accepts "
                f"{sorted(self.accepts) or 'no optional input'}. Declare it in the network's `accepts` and use it."
            )
        return asked


class View(Denoiser):
    """Another meaning for the network of a denoiser, under the same parameter names; owns nothing of it.

    Args:
        base: whose network it is.
        process: as in :class:`Denoiser`.
        prediction: as in :class:`Denoiser`.
    """

    base: Denoiser

    def __init__(self, base: Denoiser, process: Process, prediction: str) -> None:
        """Look at ``base``."""
        super().__init__(base.net, process, prediction)
        # Bound as a plain attribute: the network must not be registered, saved or sharded twice.
        object.__setattr__(self, "base", base)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Moves and casts reach the base, which may hold more than its network: formulas keep buffers."""
        self.base._apply(fn, recurse)
        return self

    @property
    def accepts(self) -> frozenset[str]:
        """The base's keywords."""
        return self.base.accepts

    def encode(self, shown: Tree) -> Tree:
        """The base's encoder."""
        return self.base.encode(shown)


class Guided(View):
    """Guidance over a denoiser, away from its unconditional twin or from a weaker model.

    In the one convention ``u + g (c - u)`` (g = 1 + w of Ho & Salimans 2022).

    Args:
        base: the conditional denoiser.
        scale: g; 1 = no guidance (then one network call, not two). ``guidance=`` in a call replaces it per sample,
            which is how an objective ramps or samples it; the interval holds for it too.
        null: maps a condition to its unconditional twin.
        interval: (low, high) times inside which guidance acts; everywhere if None. Kynkaanniemi et al. 2024.
        weak: a weaker version of the model, such as an early checkpoint, told the condition: autoguidance
            (Karras et al. 2024, arXiv:2406.02507, eq. 3).
        share: of ``weak`` in what is guided away from; the rest is the unconditional estimate (Geffner et al. 2025,
            arXiv:2503.00710, eq. 6). With 1 the base is not asked without its condition.
    """

    def __init__(
        self,
        base: Denoiser,
        scale: float,
        null: Callable[[Cond], Cond],
        interval: tuple[float, float] | None = None,
        weak: Denoiser | None = None,
        share: float = 1.0,
    ) -> None:
        """Wrap ``base``; network, process and prediction are its own."""
        super().__init__(base, base.process, base.prediction)
        self.weak = weak
        self.share = share if weak is not None else 0.0
        self.scale = scale
        self.null = null
        self.interval = interval

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Moves and casts reach the weak model too."""
        super()._apply(fn, recurse)
        if self.weak is not None:
            self.weak._apply(fn, recurse)
        return self

    @property
    def accepts(self) -> frozenset[str]:
        """The base's keywords, and guidance."""
        return self.base.accepts | {"guidance"}

    def forward(
        self,
        xt: Tree,
        t: Tensor,
        cond: Cond | None = None,
        *,
        to: Tensor | None = None,
        guidance: Tensor | None = None,
        features: tuple[int, ...] = (),
    ) -> Estimate:
        """Guided estimate; x0, eps, flow and logits are affine in one another, so x0 and raw are mixed alike."""
        cond = cond or Cond()
        given = self.base(xt, t, cond, to=to, features=features)
        if guidance is None and self.scale == 1.0:
            return given
        free = self._away_from(xt, t, cond, to)
        scale = self._scale(t, guidance)
        mixed = lambda c, u: _mix(c, u, scale)  # noqa: E731
        raw = None if given.raw is None or free.raw is None else tree_map(mixed, given.raw, free.raw)
        return replace(given, x0=tree_map(mixed, given.x0, free.x0), raw=raw)

    def _away_from(self, xt: Tree, t: Tensor, cond: Cond, to: Tensor | None) -> Estimate:
        """What guidance points away from."""
        if self.weak is None or self.share == 0.0:
            return self.base(xt, t, self.null(cond), to=to)
        weak: Estimate = self.weak(xt, t, cond, to=to)
        if self.share == 1.0:
            return weak
        free, share = self.base(xt, t, self.null(cond), to=to), torch.full_like(t, self.share)
        mixed = lambda w, u: _mix(w, u, share)  # noqa: E731
        raw = None if weak.raw is None or free.raw is None else tree_map(mixed, weak.raw, free.raw)
        return replace(free, x0=tree_map(mixed, weak.x0, free.x0), raw=raw)

    def _scale(self, t: Tensor, given: Tensor | None) -> Tensor:
        full = torch.full_like(t, self.scale) if given is None else spread(given, t).expand_as(t)
        if self.interval is None:
            return full
        low, high = self.interval
        return torch.where((t >= low) & (t <= high), full, torch.ones_like(full))


def _mix(given: Tensor, free: Tensor, scale: Tensor) -> Tensor:
    return free + spread(scale.to(given.dtype), given) * (given - free)


def _dtype(shown: Tree) -> torch.dtype:
    """Networks get their time in the dtype of a floating state, float32 beside token ids."""
    floating = [leaf.dtype for leaf in tensors(shown) if leaf.dtype.is_floating_point]
    return floating[0] if floating else torch.float32
