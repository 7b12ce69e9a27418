"""What a frozen decoder sees in two states: relative differences of its activations (as Johnson et al. 2016 eq. 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fewstep.protocol import Cond, Tree


def perceived(
    decoder: Any, mine: Tree, aim: Tree, cond: Cond, weights: Mapping[str, float]
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum over groups and layers of ``|phi(mine) - phi(aim)|_1 / |phi(aim)|_1``, and each group's for the log.

    Args:
        decoder: frozen; called as ``decoder(x, cond)``, gives group -> activations (B, ...).
        mine: states, with their graph.
        aim: states that they should look like.
        cond: what the decoder is told.
        weights: group -> weight.

    Raises:
        ValueError: if a weight names a group that the decoder does not show.
    """
    with torch.no_grad():
        wanted = decoder(aim, cond)
    strange = sorted(set(weights) - set(wanted))
    if strange:
        raise ValueError(f"the decoder shows {sorted(wanted)}, a weight is given for {', '.join(strange)}")
    seen = decoder(mine, cond)
    gaps = {
        name: torch.stack([_relative(a, b) for a, b in zip(seen[name], wanted[name], strict=True)]).sum(0)
        for name in weights
    }
    total = torch.stack([weights[name] * gap.mean() for name, gap in gaps.items()]).sum()
    return total, {f"seen/{name}": gap.mean().detach() for name, gap in gaps.items()}


def _relative(a: Tensor, b: Tensor) -> Tensor:
    """(B,)."""
    return (a - b).abs().flatten(1).sum(1) / b.abs().flatten(1).sum(1).clamp(min=1e-8)
