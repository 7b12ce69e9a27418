"""What every distillation objective does with its student and its judges, before any formula."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fewstep.protocol import (
    Batch,
    Cond,
    Estimate,
    Key,
    Ramp,
    Sample,
    Step,
    Tree,
    at_step,
    detach,
    rows,
    tensors,
    tree_map,
)


def rollout(student: Any, name: str, batch: Batch, step: Step, *, shared: bool, graph: bool) -> Sample:
    """A training sample of the student.

    Args:
        student: has ``generate``.
        name: its role, under which a shared sample is remembered.
        batch: shape and condition.
        step: randomness and the memory of the cycle.
        shared: one sample for all phases of a cycle (its graph is built once and kept for the student's phase).
        graph: whether this phase needs the student's graph.
    """
    if shared:
        draw = lambda key: student.generate(batch, replace(step, key=key))  # noqa: E731
        kept = step.once(f"sample/{name}", draw)
        return kept if graph else detach_sample(kept)
    with torch.set_grad_enabled(graph and torch.is_grad_enabled()):
        sample: Sample = student.generate(batch, replace(step, key=step.key.at("sample")))
        return sample


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
    teacher: Any, xt: Tree, t: Tensor, cond: Cond, guidance: Ramp | float | None, step: Step
) -> Estimate:
    """A teacher's belief. It is not told which step made a sample: it has never seen an index."""
    unaware = replace(cond, index=None)
    if guidance is None:
        return _estimate(teacher(xt, t, unaware))
    scale = torch.full((rows(xt),), at_step(guidance, step), dtype=torch.float64, device=t.device)
    return _estimate(teacher(xt, t, unaware, guidance=scale))


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
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(key.seed64())
        yield


def _estimate(found: Estimate) -> Estimate:
    return found


def _detach_estimate(est: Estimate) -> Estimate:
    return Estimate(detach(est.x0), detach(est.raw), tuple(f.detach() for f in est.features))
