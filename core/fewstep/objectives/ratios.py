"""The density ratio r = p / q of f-distill: what it multiplies a direction with, and how it is kept in bounds.

With D_f = E_q[f(p / q)], d D_f / dx = E_q[f''(r) r^2 (score_q - score_p)]: one factor h(r) = f''(r) r^2 for each divergence
(Xu et al. 2025 table 1), each (B,) -> (B,).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from fewstep.protocol import Process

RatioFactor: TypeAlias = Callable[[Tensor], Tensor]
"""h(r) of the density ratio r = p / q, (B,) -> (B,)."""


def reverse_kl(r: Tensor) -> Tensor:
    """1: plain score distillation."""
    return torch.ones_like(r)


def forward_kl(r: Tensor) -> Tensor:
    """Factor r."""
    return r


def jensen_shannon(r: Tensor) -> Tensor:
    """Factor r / (1 + r)."""
    return r / (1 + r)


def softened_reverse_kl(r: Tensor) -> Tensor:
    """1 / (1 + r): also the non-saturating generator gradient at the optimal discriminator."""
    return 1 / (1 + r)


def hellinger(r: Tensor) -> Tensor:
    """sqrt(r) / 2."""
    return r.sqrt() / 2


def jeffreys(r: Tensor) -> Tensor:
    """1 + r."""
    return 1 + r


def neyman(r: Tensor) -> Tensor:
    """2 / r: unbounded where the teacher has no mass."""
    return 2 / r


def pearson(r: Tensor) -> Tensor:
    """2 r^2: unbounded where the student has no mass."""
    return 2 * r.square()


@dataclass(frozen=True)
class DensityRatio:
    """How a discriminator's logit becomes a factor of each sample's direction.

    Args:
        factor: h(r).
        clip: bounds of r; None = exp(+-10) alone.
        normalize: divide h by its mean over the batch, or over the rows in the same bin of times (Xu et al. 2025 sec.
            4.2), so that no time outweighs the others.
        bins: number of bins, evenly spaced on the process' natural grid.
    """

    factor: RatioFactor
    clip: tuple[float, float] | None = (0.1, 20.0)
    normalize: Literal["none", "batch", "bins"] = "bins"
    bins: int = 10

    def __call__(self, logit: Tensor, t: Tensor, process: Process) -> Tensor:
        """(B,) from logits (B,)."""
        ratio = logit.clamp(-10, 10).exp()
        each = self.factor(ratio if self.clip is None else ratio.clamp(*self.clip))
        if self.normalize == "none":
            return each
        which = (
            torch.zeros_like(t, dtype=torch.int64)
            if self.normalize == "batch"
            else bin_of(t, process, self.bins)
        )
        return each / bin_means(each, which, self.bins)[which].clamp(min=1e-12)

    @property
    def unbounded(self) -> bool:
        """Whether h grows without end where the two laws do not overlap, and nothing clips it."""
        return self.clip is None and self.factor in (neyman, pearson)

    def cautions(self, t: Tensor, process: Process) -> Iterator[str]:
        """What a batch at these times says about clip and bins."""
        if self.unbounded:
            yield (
                f"h(r) of {getattr(self.factor, '__name__', 'this divergence')} grows without end where student and "
                "teacher do not overlap, which is where training begins; only exp(+-10) bounds r. Give clip=(0.1, 20)."
            )
        used = len(bin_of(t, process, self.bins).unique())
        if self.normalize == "bins" and len(t) / used < 4:
            yield (
                f"the ratio is divided by its mean in each of {self.bins} bins of times, and the {len(t)} samples of a "
                f"batch fall into {used} of them: a sample alone in its bin always gets 1, which is plain score "
                "distillation. Use a larger batch, fewer bins, or normalize='batch'."
            )


def bin_of(t: Tensor, process: Process, bins: int) -> Tensor:
    """(B,) index of the interval of the process' natural grid in which a time lies; 0 = the cleanest."""
    edges = process.grid(bins).flip(0)[1:-1].to(t.device)
    return torch.bucketize(t.double().contiguous(), edges)


def bin_means(values: Tensor, which: Tensor, bins: int) -> Tensor:
    """(bins,) mean of the values in each bin; 0 in an empty one."""
    total = values.new_zeros(bins).index_add(0, which, values)
    count = values.new_zeros(bins).index_add(0, which, torch.ones_like(values))
    return total / count.clamp(min=1)
