"""The causal few-step student: it emits blocks of frames for ever, in constant memory.

Huang et al. 2025 (Self Forcing, arXiv 2506.08009): in training the student continues *its own* frames, exactly as it
will when it streams. Shape legend: B batch, F frames, C channels, H and W canvas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.errors import FewstepError
from fewstep.processes import Gaussian
from fewstep.protocol import Batch, Cond, Denoiser, Estimate, Key, Sample, Step, with_index
from fewstep_video.self_forcing.cache import Cache


@dataclass(frozen=True)
class Roll:
    """How a clip is rolled out.

    Args:
        times: decreasing start times of the steps of every block; the first is the noisiest of the process.
        block: frames that are made together.
        window: past frames that a block sees beside the sink.
        sink: first frames of the stream that every block sees.
    """

    times: tuple[float, ...]
    block: int
    window: int | None
    sink: int

    def __post_init__(self) -> None:
        """Refuse rolls that cannot move."""
        if self.block < 1:
            raise ValueError(f"a block needs at least one frame, got {self.block}")
        if not self.times or any(a <= b for a, b in zip(self.times, self.times[1:], strict=False)):
            raise ValueError(f"step times must decrease and there must be one at least, got {self.times}")
        if self.sink < 0 or (self.window is not None and self.window < 0):
            raise ValueError(f"sink and window count frames, got {self.sink} and {self.window}")

    def sizes(self, frames: int) -> list[int]:
        """Frames of each block; the first one takes what does not divide."""
        if frames < self.block:
            return [frames]
        count = frames // self.block
        return [self.block + frames % self.block] + [self.block] * (count - 1)


def warped(steps: int, shift: float) -> tuple[float, ...]:
    """Start times of a flow student: s = k u / (1 + (k - 1) u) at u = 1, 1 - 1/n, ... (Esser et al. 2024 sec. 5.3.2)."""
    if steps < 1:
        raise ValueError(f"a student needs at least one step, got {steps}")
    even = (1 - i / steps for i in range(steps))
    return tuple(shift * u / (1 + (shift - 1) * u) for u in even)


class CausalStudent(Denoiser):
    """A denoiser of blocks over a cache of its own finished frames.

    Args:
        net: takes ``past=`` and ``keep=`` beside (x, time, cond); counted per call. One that accepts ``to`` is told where
            its step ends and lands there; else the clean estimate gets fresh noise between steps.
        process: of the teacher; must be Gaussian.
        prediction: of the network.
        roll: steps, block, window, sink.
    """

    process: Gaussian

    def __init__(self, net: nn.Module, process: Gaussian, prediction: str, roll: Roll) -> None:
        """Same parameter names as the teacher, so that its weights can be copied."""
        super().__init__(net, process, prediction)
        self.roll = roll
        self.rule = "flow" if "to" in self.accepts else "renoise"

    # --- streaming ------------------------------------------------------------------------------------------------
    def open(self) -> Cache:
        """An empty cache."""
        return Cache(self.roll.sink, self.roll.window)

    def push(
        self, cache: Cache, noise: Tensor, cond: Cond, key: Key, *, steps: int | None = None
    ) -> tuple[Tensor, Cache]:
        """Turn one block of noise into frames that continue the cached ones.

        Costs one network call per step and one that commits the finished frames.

        Args:
            cache: of the frames so far; not changed.
            noise: (B, F, C, H, W) standard normal.
            cond: data {"label": (B,)}.
            key: of this block: the fresh noise between its steps.
            steps: only the first so many steps, then stop; all by default.

        Returns:
            Frames (B, F, C, H, W), and the cache that also holds them (cut from the graph).

        Raises:
            FewstepError: if the student has not so many steps.
        """
        taken = len(self.roll.times) if steps is None else steps
        if not 1 <= taken <= len(self.roll.times):
            raise FewstepError(
                f"this student takes up to {len(self.roll.times)} steps per block; {taken} were asked for",
                f"1 to {len(self.roll.times)} steps",
                "ask for fewer, or train a student with more roll.steps",
            )
        frames = self._denoise(cache, noise, cond, key, taken)
        with torch.no_grad():
            return frames, self.commit(cache, frames.detach(), cond)

    def stream(
        self, batch: Batch, key: Key, *, noise: Tensor | None = None, steps: int | None = None
    ) -> Iterator[Tensor]:
        """Blocks of frames, one after another, as many as ``batch.like`` has frames.

        Args:
            batch: length, size and condition.
            key: noise of block j comes from its own names, so that a longer stream begins with the shorter one.
            noise: (B, F, C, H, W), where the caller must know it.
            steps: stop every block after so many steps.
        """
        cache, start = self.open(), 0
        for index, size in enumerate(self.roll.sizes(batch.like.shape[1])):
            like = batch.like[:, start : start + size]
            given = key.at("noise", index).normal(like) if noise is None else noise[:, start : start + size]
            frames, cache = self.push(cache, given, batch.cond, key.at("block", index), steps=steps)
            yield frames
            start += size

    def commit(self, cache: Cache, frames: Tensor, cond: Cond) -> Cache:
        """The cache that also holds these finished frames: one network call at time 0."""
        clean = torch.zeros(frames.shape[0], dtype=torch.float64, device=frames.device)
        _, kept = self._call(frames, clean, cond, cache, keep=True)
        return cache.commit(kept)

    # --- the protocol's student -----------------------------------------------------------------------------------
    def generate(
        self, batch: Batch, step: Step, *, noise: Tensor | None = None, steps: int | None = None
    ) -> Sample:
        """Self-forcing rollout: every block stops at one drawn step, and only that step has a gradient.

        The step is drawn once for all blocks and ranks; each later block continues the detached frames that this
        rollout made, so that no gradient passes through the cache (Huang et al. 2025 algorithm 1).
        """
        taken = step.key.at("exit").integer(steps or len(self.roll.times)) + 1
        x = torch.cat(list(self.stream(batch, step.key, noise=noise, steps=taken)), 1)
        index = torch.full((x.shape[0],), taken - 1, dtype=torch.long, device=x.device)
        return Sample(x, with_index(batch.cond, index))

    def sample(
        self, batch: Batch, step: Step, *, noise: Tensor | None = None, steps: int | None = None
    ) -> Sample:
        """The whole stream as one clip."""
        blocks = self.stream(batch, step.key, noise=noise, steps=steps)
        return Sample(torch.cat(list(blocks), 1), batch.cond)

    # --- teacher forcing ------------------------------------------------------------------------------------------
    def forward(  # type: ignore[override]  # a student takes no other optional keyword
        self, xt: Tensor, t: Tensor, cond: Cond | None = None, *, to: Tensor | None = None
    ) -> Estimate:
        """Estimate of every block given the *clean* past in ``cond.data["past"]``: how the student is warmed up.

        Gradients pass through the cache here: this is where keys and values of clean frames learn to be useful.

        Raises:
            ValueError: if the condition carries no past.
        """
        if cond is None or not isinstance(cond.data, Mapping) or "past" not in cond.data:
            raise ValueError(
                "a causal student judges a block by the clean frames before it, and this condition has no 'past'; "
                "use a source with teacher_forcing, or an objective that only asks the student to generate"
            )
        cache, start, made = self.open(), 0, []
        for size in self.roll.sizes(xt.shape[1]):
            block = slice(start, start + size)
            made.append(self._estimate(xt[:, block], t, cond, cache, to))
            start += size
            if start < xt.shape[1]:
                cache = self.commit(cache, cond.data["past"][:, block], cond)
        return Estimate(torch.cat(made, 1))

    # --- inside ---------------------------------------------------------------------------------------------------
    def _denoise(self, cache: Cache, noise: Tensor, cond: Cond, key: Key, steps: int) -> Tensor:
        """Clean estimate, fresh noise, clean estimate, ..., or map after map; only the last step keeps its graph."""
        x = noise
        wanted = torch.is_grad_enabled()
        times = [
            torch.full((x.shape[0],), time, dtype=torch.float64, device=x.device) for time in self.roll.times
        ]
        ends = [*times[1:steps], torch.full_like(times[0], self.process.t_min)]
        for i, (t, end) in enumerate(zip(times[:steps], ends, strict=True)):
            if i > 0 and self.rule == "renoise":
                x = self.process.corrupt(x, key.at(i).normal(x), t)
            with torch.set_grad_enabled(wanted and i == steps - 1):
                x = self._step(x, t, end, cond, cache)
        return x if self.rule == "renoise" else self.process.x0(x, x, ends[-1], "boundary")

    def _step(self, x: Tensor, t: Tensor, end: Tensor, cond: Cond, cache: Cache) -> Tensor:
        """The clean estimate, or where the map lands."""
        if self.rule == "renoise":
            return self._estimate(x, t, cond, cache)
        return self.process.jump(x, Estimate(self._estimate(x, t, cond, cache, end)), t, end)

    def _estimate(self, x: Tensor, t: Tensor, cond: Cond, cache: Cache, to: Tensor | None = None) -> Tensor:
        clock = self.process.network_time
        told = {} if to is None else {"to": clock(to).to(x.dtype)}
        raw = self._call(x, t, cond, cache, **told)
        return self.process.x0(raw, x, t, self.prediction)

    def _call(self, x: Tensor, t: Tensor, cond: Cond, cache: Cache, **asked: Any) -> Any:
        shown = self.process.network_input(x, t)
        return self.net(shown, self.process.network_time(t).to(x.dtype), cond, past=cache.kv, **asked)
