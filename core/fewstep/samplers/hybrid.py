"""The teacher decides, the student finishes: diversity of the one at nearly the speed of the other."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from fewstep.processes import carried, same_noise
from fewstep.protocol import Batch, Roles, Sampler, State, Step
from fewstep.samplers.solvers import Solver, ddim


def hybrid_sampler(
    teacher: str = "teacher", student: str = "student", solver: Solver = ddim, steps: int = 18, first: int = 1
) -> Sampler:
    """The teacher walks its own grid down to the noise of the student's step ``first``; the student goes on from there.

    A distilled student loses diversity in its first step, where the structure of a sample is decided (Gandikota & Bau
    2025). States are handed over at equal noise-to-signal ratio, not at equal index, so that both may live on different
    processes.

    Args:
        teacher: shelf name; guided if it is a ``Guided`` denoiser.
        student: shelf name of a ``FewStep``.
        solver: of the teacher.
        steps: intervals of the teacher's full grid; those above the hand-over are walked.
        first: the student's first own step; must be at least 1.

    Raises:
        ValueError: while drawing, if the student has no such step, or the teacher no time of its noise.
    """

    def draw(roles: Roles, batch: Batch, step: Step) -> Iterator[State]:
        model, last = roles[teacher], roles[student]
        if not 0 < first < len(last.times):
            raise ValueError(
                f"the student cannot begin at its step {first}: it has {len(last.times)} (counted from 0), and the "
                "teacher must have something to do before it"
            )
        process, own = model.process.on(batch.mask), last.process
        start = torch.tensor(last.times[first], dtype=torch.float64)
        handover = same_noise(own, start, model.process)
        grid = process.grid(steps)
        times = torch.cat([grid[grid > handover * (1 + 1e-9)], handover.reshape(1)])
        noise = process.noise(batch, step.key.at("noise"))
        begin = times[0].to(noise.device).expand(len(noise))
        state = State(process.corrupt(None, noise, begin), begin)
        walk = solver(model, state.x, times, batch.cond, key=step.key.at("solver"))
        # The solver's closing clean estimate is never asked for: the student continues from a noisy state.
        for left, state in zip(range(len(times) - 2, -1, -1), walk, strict=False):
            # Where it is handed over, the student tells of it.
            if left:
                yield state
        x, _ = carried(model.process, state.x, state.t, own)
        sample = last.resume(batch, step, x, first)
        yield from sample.path
        yield State(sample.x, torch.zeros_like(state.t), sample.est)

    return Sampler(
        draw, (teacher, student), lambda count: hybrid_sampler(teacher, student, solver, count, first)
    )
