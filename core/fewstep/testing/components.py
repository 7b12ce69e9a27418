"""Laws of processes, denoisers, students, sources and metrics, given one real batch with clean states."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fewstep.protocol import (
    Batch,
    Denoiser,
    Estimate,
    Flow,
    Key,
    Metric,
    Process,
    Source,
    Step,
    Stochastic,
    Tree,
    rows,
    tensors,
    tree_map,
)
from fewstep.testing.checks import Check, finite, floating, reversed_rows, same, untouched_generator

KEY = Key(20_240_229)


def check_process(process: Process, batch: Batch) -> Iterator[Check]:  # noqa: C901 - a list of laws
    """Laws of any process; ``batch.x`` holds clean states."""
    bound = process.on(batch.mask)
    noise = bound.noise(batch, KEY.at("noise"))
    middle = _times(batch.x, (process.t_min + process.t_max) / 2)
    early = _times(batch.x, process.t_min + 0.25 * (process.t_max - process.t_min))

    def corruption_is_deterministic_given_its_noise() -> None:
        assert same(bound.corrupt(batch.x, noise, middle), bound.corrupt(batch.x, noise, middle))

    def noise_is_a_pure_function_of_its_key() -> None:
        assert same(noise, bound.noise(batch, KEY.at("noise"))), "the same key gave other noise"
        assert not same(noise, bound.noise(batch, KEY.at("other"))), "another key gave the same noise"

    def the_global_generator_is_never_used() -> None:
        assert untouched_generator(lambda: bound.corrupt(batch.x, bound.noise(batch, KEY), middle))

    def corruption_at_the_cleanest_time_returns_the_data() -> None:
        got = bound.corrupt(batch.x, noise, _times(batch.x, process.t_min))
        share = _share_changed(got, batch.x)
        assert share <= 0.05, (
            f"{share:.1%} of the state changed at t_min = {process.t_min}; expected at most 5%"
        )

    def rows_of_a_batch_do_not_mix() -> None:
        turned = bound_reversed.corrupt(reversed_rows(batch.x), reversed_rows(noise), reversed_rows(middle))
        assert same(turned, reversed_rows(bound.corrupt(batch.x, noise, middle)), 1e-6)

    def data_noise_and_corrupted_states_are_projected() -> None:
        for name, state in (("data", batch.x), ("corrupted", bound.corrupt(batch.x, noise, middle))):
            assert same(bound.geometry.project(state), state, 1e-5), f"{name} changes when projected"

    def an_estimate_does_not_differ_from_itself() -> None:
        est = _certain(process, batch)
        gap = bound.geometry.difference(est, est, batch.x)
        assert all(float(leaf.abs().max()) == 0.0 for leaf in tensors(gap))

    def the_posterior_with_the_truth_moves_toward_it() -> None:
        xt = bound.corrupt(batch.x, noise, middle)
        xs = bound.posterior(xt, _certain(process, batch), middle, early, bound.noise(batch, KEY.at("fresh")))
        assert finite(xs), "the posterior draw is not finite"
        assert same(tree_map(torch.zeros_like, xs), tree_map(torch.zeros_like, xt)), (
            "the posterior changes the shape"
        )

    bound_reversed = process.on(None if batch.mask is None else reversed_rows(batch.mask))
    yield from _checks(
        corruption_is_deterministic_given_its_noise,
        noise_is_a_pure_function_of_its_key,
        the_global_generator_is_never_used,
        corruption_at_the_cleanest_time_returns_the_data,
        rows_of_a_batch_do_not_mix,
        data_noise_and_corrupted_states_are_projected,
        an_estimate_does_not_differ_from_itself,
        the_posterior_with_the_truth_moves_toward_it,
    )
    if isinstance(bound, Flow) and floating(batch.x):
        yield from _flow_checks(bound, batch, noise, middle, early)


def _flow_checks(process: Flow, batch: Batch, noise: Tree, t: Tensor, s: Tensor) -> Iterator[Check]:
    def a_jump_with_the_truth_keeps_the_noise() -> None:
        xt = process.corrupt(batch.x, noise, t)
        got = process.jump(xt, Estimate(batch.x), t, s)
        assert same(got, process.corrupt(batch.x, noise, s), 1e-4)

    def a_jump_to_the_same_time_stays() -> None:
        xt = process.corrupt(batch.x, noise, t)
        assert same(process.jump(xt, Estimate(batch.x), t, t), xt, 1e-5)

    def the_velocity_is_the_slope_of_the_path() -> None:
        double = tree_map(lambda leaf: leaf.double(), batch.x)
        wide, h = tree_map(lambda leaf: leaf.double(), noise), 1e-5
        ahead, behind = (process.corrupt(double, wide, t + d) for d in (h, -h))
        slope = tree_map(lambda a, b: (a - b) / (2 * h), ahead, behind)
        got = process.velocity(process.corrupt(double, wide, t), Estimate(double), t)
        assert same(got, slope, 1e-5)

    yield from _checks(
        a_jump_with_the_truth_keeps_the_noise,
        a_jump_to_the_same_time_stays,
        the_velocity_is_the_slope_of_the_path,
    )


def check_denoiser(denoiser: Denoiser, batch: Batch) -> Iterator[Check]:
    """Laws of a denoiser in evaluation mode."""
    process = denoiser.process.on(batch.mask)
    t = _times(batch.x, (process.t_min + process.t_max) / 2)
    xt = process.corrupt(batch.x, process.noise(batch, KEY.at("noise")), t)
    denoiser.eval()

    def estimates_are_finite_and_projected() -> None:
        est = denoiser(xt, t, batch.cond)
        assert finite(est.x0), "the estimate is not finite"
        assert same(process.geometry.project(est.x0), est.x0, 1e-4), "the estimate is not projected"

    def the_same_input_gives_the_same_estimate() -> None:
        assert same(denoiser(xt, t, batch.cond).x0, denoiser(xt, t, batch.cond).x0)

    def rows_of_a_batch_do_not_mix() -> None:
        cond = replace(batch.cond, data=reversed_rows(batch.cond.data), mask=reversed_rows(batch.cond.mask))
        turned = denoiser(reversed_rows(xt), reversed_rows(t), cond).x0
        assert same(turned, reversed_rows(denoiser(xt, t, batch.cond).x0), 1e-3)

    def one_row_alone_is_legal() -> None:
        first = tree_map(
            lambda leaf: leaf[:1] if isinstance(leaf, Tensor) else leaf, (xt, t, batch.cond.data, batch.mask)
        )
        cond = replace(batch.cond, data=first[2], mask=first[3], index=None)
        assert rows(denoiser(first[0], first[1], cond).x0) == 1

    yield from _checks(
        estimates_are_finite_and_projected,
        the_same_input_gives_the_same_estimate,
        rows_of_a_batch_do_not_mix,
        one_row_alone_is_legal,
    )


def check_student(student: Any, batch: Batch) -> Iterator[Check]:
    """Laws of a student: pure in its key, reachable by gradients, honest about probabilities."""
    step = Step(0, 10, KEY.at("student"))

    def the_same_key_gives_the_same_sample() -> None:
        assert same(student.generate(batch, step).x, student.generate(batch, step).x)

    def the_global_generator_is_never_used() -> None:
        assert untouched_generator(lambda: student.generate(batch, step))

    def a_finished_sample_has_the_shape_of_a_clean_state() -> None:
        got = student.sample(batch, Step.inference(KEY.at("sample"))).x
        assert finite(got), "the sample is not finite"
        shapes = (
            [tuple(leaf.shape) for leaf in tensors(got)],
            [tuple(leaf.shape) for leaf in tensors(batch.like)],
        )
        assert shapes[0] == shapes[1], f"the sample has shapes {shapes[0]}, the batch asks for {shapes[1]}"

    def a_gradient_reaches_the_trainable_parameters() -> None:
        sample = student.generate(batch, step)
        value = sample.logp.sum() if sample.logp is not None else _sum(sample.x)
        wanted = {name: p for name, p in student.named_parameters() if p.requires_grad}
        found = torch.autograd.grad(value, list(wanted.values()), allow_unused=True)
        reached = sum(g is not None for g in found)
        assert reached, "no trainable parameter receives a gradient from a training sample"

    yield from _checks(
        the_same_key_gives_the_same_sample,
        the_global_generator_is_never_used,
        a_finished_sample_has_the_shape_of_a_clean_state,
        a_gradient_reaches_the_trainable_parameters,
    )
    if isinstance(student, Stochastic):
        yield Check("log_probabilities_can_be_recomputed", lambda: _recomputed(student, batch, step))


def check_source(source: Source) -> Iterator[Check]:
    """Laws of a source: a pure function of its counter, and complete over ranks."""
    key = KEY.at("data")

    def the_same_counter_gives_the_same_batch() -> None:
        assert same(source.batch(3, key).like, source.batch(3, key).like)
        assert same(source.batch(3, key).x, source.batch(3, key).x)

    def other_counters_give_other_batches() -> None:
        shown = [[b.x, b.cond.data, b.cond.mask, b.extra] for b in (source.batch(i, key) for i in range(6))]
        fixed = all(same(shown[0], other) for other in shown[1:])
        assert not fixed or not tensors(shown[0]), "six counters gave one batch: draw from key.at(..., index)"

    def ranks_are_disjoint_and_jointly_complete() -> None:
        whole = source.batch(2, key)
        if whole.x is None or rows(whole.x) % 2:
            return
        halves = [source.batch(2, replace(key, shard=(rank, 2))) for rank in (0, 1)]
        assert all(half.x is not None and 2 * rows(half.x) == rows(whole.x) for half in halves), (
            "with two ranks each must get half of the rows"
        )
        joined = tree_map(lambda a, b: torch.cat([a, b]), halves[0].x, halves[1].x)
        assert same(joined, whole.x), "the rows of both ranks are not the rows of one process"

    def the_global_generator_is_never_used() -> None:
        assert untouched_generator(lambda: source.batch(1, key))

    yield from _checks(
        the_same_counter_gives_the_same_batch,
        other_counters_give_other_batches,
        ranks_are_disjoint_and_jointly_complete,
        the_global_generator_is_never_used,
    )


def check_metric(metric: Metric, batch: Batch, *worse: Tree) -> Iterator[Check]:
    """Laws of a metric: the truth scores better than one of ``worse`` (corrupted truths), inside an honest interval."""
    key = KEY.at("metric")

    def the_interval_covers_the_value() -> None:
        score = metric.fn(batch.x, batch, key)
        assert math.isfinite(score.value), f"{metric.name} of the truth is {score.value}"
        assert score.low <= score.value <= score.high, f"{score} does not cover its value"
        assert score.n > 0, "a score says how many samples it saw"

    def the_truth_beats_corrupted_truth() -> None:
        truth = metric.fn(batch.x, batch, key).value
        found: list[float] = []
        for one in worse:
            found.append(metric.fn(one, batch, key).value)
            if truth < found[-1] if metric.better == "lower" else truth > found[-1]:
                return
        raise AssertionError(
            f"{metric.name}: truth {truth:.4g}, corrupted truth {', '.join(f'{bad:.4g}' for bad in found)}, "
            f"{metric.better} is better"
        )

    def the_same_key_gives_the_same_score() -> None:
        assert metric.fn(batch.x, batch, key) == metric.fn(batch.x, batch, key)

    yield from _checks(
        the_interval_covers_the_value, the_truth_beats_corrupted_truth, the_same_key_gives_the_same_score
    )


def _checks(*laws: Any) -> Iterator[Check]:
    for law in laws:
        yield Check(law.__name__, law)


def _times(x: Tree, value: float) -> Tensor:
    return torch.full((rows(x),), value, dtype=torch.float64, device=tensors(x)[0].device)


def _share_changed(a: Tree, b: Tree) -> float:
    pairs = list(zip(tensors(a), tensors(b), strict=True))
    shares = [
        float((x - y).norm() / y.norm().clamp(min=1e-12))
        if x.is_floating_point()
        else float((x != y).float().mean())
        for x, y in pairs
    ]
    return max(shares)


def _certain(process: Process, batch: Batch) -> Estimate:
    """The estimate that knows the truth: the state itself, or certain logits."""
    if floating(batch.x):
        return Estimate(batch.x)
    t = _times(batch.x, process.t_min)
    size = int(getattr(process, "vocabulary", 0)) or int(tensors(batch.x)[0].max()) + 1
    raw = torch.nn.functional.one_hot(batch.x, size).float() * 50
    return Estimate(process.x0(raw, batch.x, t, "logits"))


def _sum(x: Tree) -> Tensor:
    return torch.stack([leaf.sum() for leaf in tensors(x)]).sum()


def _recomputed(student: Stochastic, batch: Batch, step: Step) -> None:
    sample = student.generate(batch, step)
    assert sample.logp is not None, "a Stochastic student's samples carry logp"
    again = student.logp(sample, batch)
    assert same(sample.logp, again, 1e-4), "logp recomputed from the path differs from the logp of the draw"
