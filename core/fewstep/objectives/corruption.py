"""How a sample is corrupted before it is judged, and at which time.

``(process, sample, law, step, key) -> Corrupted``; gradients flow from x_t to the sample unless the caller forbids it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from fewstep.processes import TimeLaw
from fewstep.protocol import Key, Process, Sample, State, Step, Tree, detach, rows, spread, tensors, tree_map


class Corrupted(NamedTuple):
    """What the judges see, and what a fake must regress so that it learns the score there.

    Args:
        xt: the state at time t.
        t: (B, ...) times.
        target: the fake's regression target; the clean sample for a plain corruption.
        trust: (B,) factor of the fake's weight, None = 1.
    """

    xt: Tree
    t: Tensor
    target: Tree
    trust: Tensor | None = None


Corruption: TypeAlias = Callable[[Process, Sample, TimeLaw, Step, Key], Corrupted]


def draw_times(law: TimeLaw, like: Tree, step: Step, key: Key, leading: int = 1) -> Tensor:
    """Float64 times for a state, on its device.

    Args:
        law: the time law.
        like: a state.
        step: for laws that move during training.
        key: randomness.
        leading: how many leading dimensions of the state have a time of their own (1: one per sample).
    """
    first = tensors(like)[0]
    return law(tuple(first.shape[:leading]), step, key).to(first.device)


def fresh(process: Process, sample: Sample, law: TimeLaw, step: Step, key: Key) -> Corrupted:
    """A time from the law and q(x_t | x)."""
    t = draw_times(law, sample.x, step, key.at("time"))
    noise = process.noise(sample.as_batch(), key.at("noise"))
    return Corrupted(process.corrupt(sample.x, noise, t), t, sample.x)


@dataclass(frozen=True)
class Coupled:
    """q(x_t | x) at a time that the student itself visited (coupled time of DiDi-Instruct, Zheng et al. 2025).

    Args:
        state: which visited state gives the time; -1 is the last before the sample.
    """

    state: int = -1

    def __call__(self, process: Process, sample: Sample, law: TimeLaw, step: Step, key: Key) -> Corrupted:
        """The law is ignored."""
        t = _visited(sample, self.state).t
        noise = process.noise(sample.as_batch(), key.at("noise"))
        return Corrupted(process.corrupt(sample.x, noise, t), t, sample.x)


@dataclass(frozen=True)
class Segment:
    """Follow the flow to the end of the student's segment, then diffuse on from there (Luo et al. 2025 TDM).

    The sample's last state x_{t_k} and estimate move by ``jump`` to the segment's end t_mid = ends[k], k from
    ``sample.cond.index``; from there the exact transition ``corrupt(..., since=t_mid)`` leads to a time tau drawn
    between t_mid and the noisy end, uniform in tau^(1/rho).

    The fake regresses (x_tau - sigma_tau^2 / w noise) / alpha_tau, w the width of the transition: its mean given x_tau is
    the x0 form of the score of the path's own marginal, so that fake and teacher agree exactly where the path
    marginals do. (The clean estimate as a target, with the authors' importance factor, is an approximation of it.)
    That target is noisy for short transitions, hence the trust (w / sigma_tau)^2.

    Args:
        ends: where the segment of each step ends: the student's next time, the cleanest time for its last step; None =
            where the sample itself says that its step leads (``Sample.until``).
        reach: "process" = up to t_max, "segment" = up to the segment's own start.
        rho: spacing of tau; None = of the process' own grid.
    """

    ends: tuple[float, ...] | None = None
    reach: Literal["process", "segment"] = "process"
    rho: float | None = None

    @property
    def having(self) -> Mapping[str, Any]:
        """What the student must be like: only the flow leads from the end of one segment to the next."""
        return {"rule": "ddim"}

    def __call__(self, process: Process, sample: Sample, law: TimeLaw, step: Step, key: Key) -> Corrupted:
        """The law is ignored: the levels travel with the sample."""
        gaussian: Any = process
        state = _visited(sample, -1)
        middle = self._ends(sample, state.t)
        top = state.t if self.reach == "segment" else torch.full_like(state.t, process.t_max)
        rho = float(getattr(process, "rho", 1.0)) if self.rho is None else self.rho
        tau = _between(middle, top, rho, key.at("time"))
        noise = process.noise(sample.as_batch(), key.at("noise"))
        x_middle = gaussian.jump(detach(state.x), state.est, state.t, middle)
        xt = process.corrupt(x_middle, noise, tau, since=middle)
        alpha, sigma = gaussian.alpha(tau), gaussian.sigma(tau)
        kept = alpha / gaussian.alpha(middle) * gaussian.sigma(middle)
        width = (sigma.square() - kept.square()).clamp(min=1e-12).sqrt()
        push = sigma.square() / width
        target = tree_map(lambda x, n: _over(x - _over(n, 1 / push), alpha), xt, noise)
        return Corrupted(xt, tau, target, (width / sigma).square())

    def _ends(self, sample: Sample, like: Tensor) -> Tensor:
        if self.ends is None:
            if sample.until is None:
                raise ValueError(
                    "Segment needs to know where the step that made a sample leads (Sample.until); a student says so when "
                    'it keeps its predicted noise from step to step: rule="ddim"'
                )
            return sample.until
        if sample.cond.index is None:
            raise ValueError("Segment needs to know which step made a sample; let the student set cond.index")
        return torch.tensor(self.ends, dtype=like.dtype, device=like.device)[sample.cond.index]


def _between(low: Tensor, high: Tensor, rho: float, key: Key) -> Tensor:
    share = key.uniform(tuple(low.shape)).to(low.device)
    bottom, top = low ** (1 / rho), high ** (1 / rho)
    return (bottom + share * (top - bottom)) ** rho


def segment_ends(times: Sequence[float], process: Process) -> tuple[float, ...]:
    """The ends of the segments of a student with these start times."""
    return (*times[1:], process.t_min)


def _visited(sample: Sample, which: int) -> State:
    if not sample.path or sample.path[which].est is None:
        raise ValueError(
            "this corruption needs the visited states of the sample with their estimates; "
            f"the path holds {len(sample.path)} states. Let the student return Sample.path."
        )
    if rows(sample.path[which].x) != rows(sample.x):
        raise ValueError("the visited states and the sample have different batch sizes")
    return sample.path[which]


def _over(x: Tensor, divisor: Tensor) -> Tensor:
    return x / spread(divisor.to(x.dtype), x)
