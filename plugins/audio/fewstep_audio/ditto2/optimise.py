"""Optimise the noise, not the network (Novack et al. 2024, DITTO-2, arXiv:2405.20289, algorithm 1).

The gradient goes through a *surrogate* of the sampler: the student's one call, or so many calls of the teacher, which
is DITTO. What is found is decoded by deterministic steps: fresh noise on the way would throw it away.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fewstep.protocol import Batch, Denoiser, Key, Roles, Sampler, State, Step
from fewstep.samplers import FewStep, Gamma, renoise

Surrogate: TypeAlias = Callable[[Tensor], Tensor]
"""(B, ...) standard normal noise -> (B, ...) clean states, differentiable."""
Progress: TypeAlias = Callable[[int, Tensor], None]
"""Told the number of the iteration, from 0, and the (B,) losses."""
STEADY = ("flow", "ddim")
"""Rules between steps that draw nothing."""
_SETTLED = Step.inference(Key(0))
"""For draws whose noise is given and whose rule is steady: its key is never used."""


@dataclass(frozen=True)
class Search:
    """How noise is optimised.

    Args:
        iterations: steps of Adam at most.
        lr: its rate, in units of standard normal noise.
        patience: steps without a better loss in any row after which it stops.
        prior: weight of (|z|^2 / D - 1)^2, which keeps the noise on the shell where noise lives.
        enough: it stops when every row's loss is at most that.
    """

    iterations: int = 70
    lr: float = 5e-2
    patience: int = 10
    prior: float = 0.0
    enough: float = 0.0


@dataclass(frozen=True)
class Found:
    """The best noise of every row.

    Args:
        noise: (B, ...).
        losses: (K, B) of the surrogate's samples, before each step and after the last.
        seconds: wall time.
    """

    noise: Tensor
    losses: Tensor
    seconds: float

    @property
    def best(self) -> Tensor:
        """(B,) loss of the surrogate's sample of the noise that is kept."""
        return self.losses.amin(0)


def optimise(
    surrogate: Surrogate,
    loss: Callable[[Tensor], Tensor],
    noise: Tensor,
    search: Search,
    progress: Progress | None = None,
) -> Found:
    """Adam on the cosine transform of the noise, all rows at once; each row keeps its best.

    Adam moves every coordinate by its rate. Frame by frame that would move the mean of all D coordinates by rate * sqrt(D)
    of its standard deviations at every step, to noise that no sampler has seen; as a wave, the mean is one coordinate
    among others. An orthonormal transform of standard normal noise is standard normal noise.

    Args:
        surrogate: from noise to samples.
        loss: of (B, ...) samples, (B,).
        noise: (B, ...) where to begin.
        search: how long and how fast.
        progress: told after every iteration.
    """
    begun = time.perf_counter()
    waves = cosines_of(noise)
    z = turned(noise.detach(), waves).requires_grad_(True)
    adam = torch.optim.Adam([z], lr=search.lr)
    best, kept = torch.full((len(z),), torch.inf, device=z.device), z.detach().clone()
    losses, stale = [], 0
    with torch.enable_grad():
        for iteration in range(search.iterations + 1):
            now = loss(surrogate(turned_back(z, waves)))
            losses.append(now.detach())
            better = now.detach() < best
            kept[better], best = z.detach()[better], torch.minimum(best, now.detach())
            stale = 0 if bool(better.any()) else stale + 1
            if progress is not None:
                progress(iteration, now.detach())
            if (
                iteration == search.iterations
                or stale >= search.patience
                or bool((best <= search.enough).all())
            ):
                break
            total = now.sum() + search.prior * (energy(z) - 1).square().sum()
            (z.grad,) = torch.autograd.grad(total, [z])
            adam.step()
    return Found(turned_back(kept, waves), torch.stack(losses), time.perf_counter() - begun)


def cosines_of(like: Tensor) -> tuple[Tensor, ...]:
    """An orthonormal cosine transform (N, N) for each dimension of an event."""
    return tuple(_cosines(size).to(like) for size in like.shape[1:])


@lru_cache(maxsize=8)
def _cosines(size: int) -> Tensor:
    place = torch.arange(size, dtype=torch.float64)
    rows = math.sqrt(2 / size) * torch.cos(math.pi / size * place[:, None] * (place + 0.5))
    rows[0] /= math.sqrt(2)
    return rows


def turned(noise: Tensor, waves: Sequence[Tensor]) -> Tensor:
    """(B, ...) in waves along every dimension."""
    for (
        rows
    ) in waves:  # each product puts the dimension that it turns last, so that all come back to their place
        noise = (noise.movedim(1, -1)) @ rows.T
    return noise


def turned_back(noise: Tensor, waves: Sequence[Tensor]) -> Tensor:
    """The inverse of :func:`turned`."""
    return turned(noise, [rows.T for rows in waves])


def energy(noise: Tensor) -> Tensor:
    """(B,) |z|^2 / D: 1 for noise, up to sqrt(2 / D)."""
    return noise.square().flatten(1).mean(1)


def through_student(student: FewStep, batch: Batch) -> Surrogate:
    """One call of the student, from the noisiest time to the clean state."""
    return lambda z: student.sample(batch, _SETTLED, noise=z, steps=1).x


def through_teacher(teacher: Denoiser, batch: Batch, calls: int) -> Surrogate:
    """``calls`` calls of the teacher: DDIM steps, and a clean estimate at the end. One is the undistilled teacher.

    Every step but the last is recomputed on the way back, so that memory does not grow with their number (Chen et al. 2016).
    """
    process: Any = teacher.process.on(batch.mask)
    times = process.grid(calls)[:-1]

    def step(x: Tensor, now: Tensor, then: Tensor) -> Tensor:
        est = teacher(x, now, batch.cond)
        return process.jump(x, est, now, then)

    def sample(z: Tensor) -> Tensor:
        x = process.corrupt(None, z, times[0].expand(len(z)))
        for now, then in itertools.pairwise(times):
            x = checkpoint(step, x, now.expand(len(z)), then.expand(len(z)), use_reentrant=False)
        return teacher(x, times[-1].expand(len(z)), batch.cond).x0

    return sample


def decoded(student: FewStep, batch: Batch, noise: Tensor, steps: int) -> Tensor:
    """The student's deterministic sample of the noise in so many steps.

    Raises:
        ValueError: its rule draws fresh noise, which would throw away what was found.
    """
    if steps > 1 and student.rule not in STEADY:
        raise ValueError(f"a student that walks by {student.rule!r} draws fresh noise; decode in one step")
    return student.sample(batch, _SETTLED, noise=noise, steps=steps).x


def renoised(student: FewStep, batch: Batch, noise: Tensor, steps: int, step: Step) -> Tensor:
    """The control: the same noise, decoded with fresh noise between the steps (Song et al. 2023 algorithm 1)."""
    process: Any = student.process.on(batch.mask)
    times = torch.tensor([*student.schedule(steps), process.t_min], dtype=torch.float64)
    start = process.corrupt(None, noise, times[0].expand(len(noise)))
    if student.rule in ("flow", "gamma"):
        path = Gamma(1.0)(student, start, times, batch.cond, key=step.key.at("renoise"))
    else:
        path = renoise(student, start, times[:-1], batch.cond, key=step.key.at("renoise"))
    *_, last = path
    return last.x


def controlled_sampler(
    control: Callable[[Batch, Any], Callable[[Tensor], Tensor]],
    search: Search,
    steps: int,
    *,
    surrogate: Callable[[Roles, Batch], Surrogate],
    decode: Callable[[Roles, Batch, Tensor, int, Step], Tensor],
    roles: tuple[str, ...],
) -> Sampler:
    """A contender whose noise is optimised first.

    Args:
        control: (batch, the first role's module) -> loss of states.
        search: how.
        steps: of the decoder.
        surrogate: what the gradient goes through.
        decode: (roles, batch, noise, steps, step) -> states.
        roles: shelf names that these need.
    """

    def draw(modules: Roles, batch: Batch, step: Step) -> Iterator[State]:
        model = modules[roles[0]]
        noise = model.process.on(batch.mask).noise(batch, step.key.at("noise"))
        yield State(noise, torch.full((len(noise),), model.process.t_max, dtype=torch.float64))
        found = optimise(surrogate(modules, batch), control(batch, model), noise, search)
        with torch.no_grad():
            x = decode(modules, batch, found.noise, steps, step)
        yield State(x, torch.zeros(len(x), dtype=torch.float64))

    def again(count: int) -> Sampler:
        return controlled_sampler(control, search, count, surrogate=surrogate, decode=decode, roles=roles)

    return Sampler(draw, roles, again)
