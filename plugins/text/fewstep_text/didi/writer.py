"""Writing a text block by block: a few calls for each block, whatever the length of the whole.

Every block is drawn by ancestral unmasking given the tokens before it, as in block diffusion (Arriola et al. 2025),
so the number of unknowns that one student step must get right together stays small.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.protocol import Batch, Cond, Key, Roles, Sample, Sampler, State, Step, Tree
from fewstep.samplers import FewStepTokens, Sharpened, ancestral


class Writer(FewStepTokens):
    """A student that fills one block in training and any length at inference.

    Args:
        net, process: as in :class:`fewstep.protocol.Denoiser`.
        steps: K, network calls per block.
        block: tokens per block.
        context: tokens before the block that it reads.
    """

    def __init__(self, net: nn.Module, process: Any, steps: int, block: int, context: int) -> None:
        """Bind the layout."""
        super().__init__(net, process, "logits", steps)
        self.block, self.context = block, context

    def sample(
        self, batch: Batch, step: Step, *, noise: Tree | None = None, steps: int | None = None
    ) -> Sample:
        """The whole text; ``steps`` are network calls per block."""
        count = self.steps if steps is None else steps
        start = self.start(batch)
        path = [State(start, torch.ones(len(start), dtype=torch.float64))]
        path += write(self, start, count, self.block, self.context, step.key)
        return Sample(path[-1].x, batch.cond, path[-1].est, tuple(path[:-1]))


def write(model: Any, start: Tensor, steps: int, block: int, context: int, key: Key) -> Iterator[State]:
    """Fill what is hidden, block by block from left to right.

    Args:
        model: a denoiser on a masked process.
        start: (B, L) ids; the first hidden column is the same in all rows, and nothing is visible after it.
        steps: network calls per block.
        block: tokens per block; the last may be shorter.
        context: tokens before a block that the model sees.
        key: randomness.

    Yields:
        The whole text after each call.
    """
    hidden = (start == model.process.hidden_token).any(0)
    first = int(hidden.int().argmax()) if bool(hidden.any()) else start.shape[1]
    x, times = start, model.process.grid(steps)
    for number, begin in enumerate(range(first, start.shape[1], block)):
        left, right = max(0, begin - context), min(begin + block, start.shape[1])
        for state in ancestral(model, x[:, left:right], times, Cond(), key=key.at("block", number)):
            x = torch.cat([x[:, :left], state.x, x[:, right:]], 1)
            yield State(x, state.t, state.est)


def writing_sampler(role: str, steps: int, block: int, context: int, sharpness: float = 1.0) -> Sampler:
    """A contender that writes block by block.

    Args:
        role: shelf name of a denoiser, or of a student that is one.
        steps: network calls per block.
        block: tokens per block.
        context: tokens before a block that it sees.
        sharpness: factor on the logits; far above 1 it is greedy decoding.
    """

    def draw(shelf: Roles, batch: Batch, step: Step) -> Iterator[State]:
        model = shelf[role]
        start = batch.extra.get("prefix", torch.full_like(batch.like, model.process.hidden_token))
        yield State(start, torch.ones(len(start), dtype=torch.float64))
        yield from write(Sharpened(model, sharpness), start, steps, block, context, step.key)

    return Sampler(draw, (role,))
