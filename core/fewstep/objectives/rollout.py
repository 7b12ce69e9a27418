"""What every distillation objective does with its student and its judges, before any formula."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from fewstep.protocol import (
    Batch,
    Cond,
    Estimate,
    Key,
    Ramp,
    Role,
    Sample,
    State,
    Step,
    Stepwise,
    Student,
    Tree,
    at_step,
    detach,
    rows,
    tensors,
    tree_map,
    with_index,
)

Inputs: TypeAlias = Literal["roll", "data"]
"""What a training step of the student sees: its own roll, as at inference, or noised data."""


def student_role(inputs: Inputs, init: str | None, **asked: Any) -> Role:
    """The student's role: one that is shown noised data must walk from time to time."""
    return Role(kind=Stepwise if inputs == "data" else Student, init=init, **asked)


def reads_of(inputs: Inputs) -> frozenset[str]:
    """The batch fields that the student's inputs are made from."""
    return frozenset({"x"} if inputs == "data" else ())


def rollout(
    student: Any, name: str, batch: Batch, step: Step, *, shared: bool, graph: bool, inputs: Inputs = "roll"
) -> Sample:
    """A training sample of the student.

    Args:
        student: has ``generate``.
        name: its role, under which a shared sample is remembered.
        batch: shape and condition.
        step: randomness and the memory of the cycle.
        shared: one sample for all phases of a cycle (its graph is built once and kept for the student's phase).
        graph: whether this phase needs the student's graph.
        inputs: "data" = one step of the student from noised data.
    """
    generate = student.generate if inputs == "roll" else functools.partial(one_step, student)
    if shared:
        draw = lambda key: generate(batch, replace(step, key=key))  # noqa: E731
        kept = step.once(f"sample/{name}", draw)
        return kept if graph else detach_sample(kept)
    with torch.set_grad_enabled(graph and torch.is_grad_enabled()):
        sample: Sample = generate(batch, replace(step, key=step.key.at("sample")))
        return sample


def one_step(student: Stepwise, batch: Batch, step: Step) -> Sample:
    """One of the student's steps, drawn evenly, from data at its time; the first step sees pure noise, as at inference.

    Where the student is not yet its teacher, later steps see better states here than its own roll will give them.
    """
    process = student.process.on(batch.mask)
    index = step.key.at("pick").integer(len(student.times))
    t = torch.full((rows(batch.like),), student.times[index], dtype=torch.float64)
    t = t.to(tensors(batch.like)[0].device)
    clean = None if index == 0 else batch.x
    xt = process.corrupt(clean, process.noise(batch, step.key.at("noise")), t)
    which = torch.full((len(t),), index, device=t.device)
    est = student.ask(xt, which, batch.cond)
    return Sample(est.x0, with_index(batch.cond, which), est, (State(xt, t, est),))


def detach_sample(sample: Sample) -> Sample:
    """The sample as data."""
    est = None if sample.est is None else _detach_estimate(sample.est)
    path = tuple(
        replace(state, x=detach(state.x), est=None if state.est is None else _detach_estimate(state.est))
        for state in sample.path
    )
    logp = None if sample.logp is None else sample.logp.detach()
    return replace(sample, x=detach(sample.x), est=est, path=path, logp=logp, penalties={})


def encoded(sample: Sample, teacher: Any) -> Sample:
    """The sample in the space of the teacher's process: differentiable, the identity for most teachers."""
    encode = getattr(teacher, "encode", None)
    return sample if encode is None else replace(sample, x=encode(sample.x))


def believed(sample: Sample) -> Estimate:
    """The sample seen as an estimate of itself: x where it is continuous, its logits where it is discrete.

    Raises:
        ValueError: if a discrete sample carries no logits.
    """
    if all(leaf.dtype.is_floating_point for leaf in tensors(sample.x)):
        return Estimate(sample.x)
    if sample.est is None:
        raise ValueError("a discrete sample must carry its last estimate (Sample.est) to be seen as a law")
    choose = lambda leaf, law: leaf if leaf.dtype.is_floating_point else law  # noqa: E731
    return Estimate(tree_map(choose, sample.x, sample.est.x0))


def ask_teacher(
    teacher: Any,
    xt: Tree,
    t: Tensor,
    cond: Cond,
    guidance: Ramp | float | None,
    step: Step,
    features: tuple[int, ...] = (),
) -> Estimate:
    """A teacher's belief. It is not told which step made a sample: it has never seen an index."""
    unaware = replace(cond, index=None)
    asked: dict[str, Any] = {"features": features} if features else {}
    if guidance is not None:
        scale = torch.full((rows(xt),), at_step(guidance, step), dtype=torch.float64, device=t.device)
        asked["guidance"] = scale
    return _estimate(teacher(xt, t, unaware, **asked))


def penalty(
    sample: Sample, weights: Mapping[str, Ramp | float], step: Step
) -> tuple[Tensor | float, dict[str, Tensor]]:
    """The weighted sum of the sample's penalties, and their means for the log.

    Raises:
        ValueError: if a penalty has no weight, or a weight no penalty.
    """
    strange = sorted(set(sample.penalties) ^ set(weights))
    if strange:
        raise ValueError(
            f"the student puts forward penalties {sorted(sample.penalties) or 'none'}, the objective has weights "
            f"for {sorted(weights) or 'none'}; they differ in {', '.join(strange)}. "
            "Give every penalty a weight (0 ignores it)."
        )
    means = {name: values.mean() for name, values in sample.penalties.items()}
    total = sum((at_step(weights[name], step) * mean for name, mean in means.items()), start=0.0)
    return total, {f"penalty/{name}": mean.detach() for name, mean in means.items()}


@contextlib.contextmanager
def same_randomness(key: Key) -> Iterator[None]:
    """Dropout inside draws the same numbers for the same key; the global generator is left as it was."""
    with forked():
        torch.manual_seed(key.seed64())
        yield


def forked() -> contextlib.AbstractContextManager[None]:
    """What is drawn inside leaves the global generators as they were."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    return torch.random.fork_rng(devices=devices)


def _estimate(found: Estimate) -> Estimate:
    return found


def _detach_estimate(est: Estimate) -> Estimate:
    return Estimate(detach(est.x0), detach(est.raw), tuple(f.detach() for f in est.features))
