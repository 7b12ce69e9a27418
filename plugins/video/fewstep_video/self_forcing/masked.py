"""The readable twin of streaming: no cache, every block recomputes the whole past under a mask.

Slow on purpose. Streaming must agree with it to rounding as long as positions agree, that is until a sink is left
behind by the window (from then on streaming keeps positions small by design; Yang et al. 2025 Reward Forcing).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fewstep.protocol import Batch, Cond, Key
from fewstep_video.self_forcing.student import CausalStudent


def visible(sizes: Sequence[int], window: int | None, sink: int) -> Tensor:
    """(F, F) mask: row = the frame that looks, True = the frame that it sees.

    A frame sees its own block, the ``window`` frames before its block, and the first ``sink`` frames.
    """
    ends = torch.tensor(list(sizes)).cumsum(0).repeat_interleave(torch.tensor(list(sizes)))[:, None]
    starts = ends - torch.tensor(list(sizes)).repeat_interleave(torch.tensor(list(sizes)))[:, None]
    seen = torch.arange(int(sum(sizes)))[None]
    near = seen >= starts - (window if window is not None else int(sum(sizes)))
    return (seen < ends) & (near | (seen < sink))


def masked_stream(student: CausalStudent, batch: Batch, key: Key) -> Tensor:
    """The clip that ``student.stream(batch, key)`` makes if it renoises, by full forward passes: (B, F, C, H, W)."""
    sizes = student.roll.sizes(batch.like.shape[1])
    clean = batch.like[:, :0]
    for index, size in enumerate(sizes):
        like = batch.like[:, clean.shape[1] : clean.shape[1] + size]
        x = key.at("noise", index).normal(like)
        for i, time in enumerate(student.roll.times):
            t = torch.full((x.shape[0],), time, dtype=torch.float64)
            if i > 0:
                x = student.process.corrupt(x, key.at("block", index).at(i).normal(x), t)
            x = _estimate(student, clean, x, time, batch.cond, sizes[: index + 1])
        clean = torch.cat([clean, x], 1)
    return clean


def _estimate(
    student: CausalStudent, clean: Tensor, x: Tensor, time: float, cond: Cond, sizes: Sequence[int]
) -> Tensor:
    """The clean estimate of the last block, all earlier blocks standing before it at time 0."""
    whole = torch.cat([clean, x], 1)
    t = torch.zeros(whole.shape[:2], dtype=torch.float64)
    t[:, clean.shape[1] :] = time
    process, roll = student.process, student.roll
    mask = visible(sizes, roll.window, roll.sink)
    raw = student.net(process.network_input(whole, t), process.network_time(t).to(x.dtype), cond, mask=mask)
    return process.x0(raw, whole, t, student.prediction)[:, clean.shape[1] :]
