"""The cache: what a stream remembers, and that remembering changes nothing."""

from __future__ import annotations

import gc

import pytest
import torch

from fewstep.errors import FewstepError
from fewstep.objectives.tangent import Difference, forward
from fewstep.protocol import Key, Step, Student
from fewstep.samplers import FewStep
from fewstep_video.self_forcing.masked import masked_stream, visible
from fewstep_video.self_forcing.network import VideoTransformer
from fewstep_video.self_forcing.student import CausalStudent, Roll, warped

KEY = Key(3)


def streamed(student, batch, key=KEY):
    with torch.no_grad():
        return torch.cat(list(student.stream(batch, key)), 1)


@pytest.mark.parametrize("window", [2, 4, 6, None])
def test_streaming_equals_the_masked_full_forward(make_student, make_batch, window):
    student, batch = make_student(window=window), make_batch(16)
    with torch.no_grad():
        assert torch.allclose(
            streamed(student, batch), masked_stream(student, batch, KEY), rtol=0, atol=1e-10
        )


def test_streaming_with_a_sink_equals_the_masked_full_forward_while_the_sink_stands_beside_the_window(
    make_student, make_batch
):
    student, batch = make_student(window=4, sink=4), make_batch(10)
    with torch.no_grad():
        assert torch.allclose(
            streamed(student, batch), masked_stream(student, batch, KEY), rtol=0, atol=1e-10
        )


def test_forgetting_the_past_would_be_noticed(make_student, make_batch):
    batch = make_batch(8)
    remembering, forgetful = streamed(make_student(window=4), batch), streamed(make_student(window=0), batch)
    assert torch.equal(remembering[:, :2], forgetful[:, :2])
    assert (remembering[:, 2:] - forgetful[:, 2:]).abs().max() > 1e-3


def test_noise_of_a_block_leaves_earlier_blocks_unchanged_bit_for_bit(make_student, make_batch):
    student, batch = make_student(sink=2), make_batch(8)
    noise = KEY.normal(batch.like)
    other = noise.clone()
    other[:, 4:6] += 1.0
    with torch.no_grad():
        first = torch.cat(list(student.stream(batch, KEY, noise=noise)), 1)
        second = torch.cat(list(student.stream(batch, KEY, noise=other)), 1)
    assert torch.equal(first[:, :4], second[:, :4])
    assert not torch.equal(first[:, 4:6], second[:, 4:6])
    assert not torch.equal(first[:, 6:], second[:, 6:])


def test_a_longer_stream_begins_with_the_shorter_one_bit_for_bit(make_student, make_batch):
    student = make_student(sink=2)
    assert torch.equal(streamed(student, make_batch(6)), streamed(student, make_batch(12))[:, :6])


def test_memory_of_the_cache_is_constant_over_two_hundred_blocks(make_student, make_batch):
    student, batch = make_student(steps=1, window=4, sink=2), make_batch(2, rows=1)
    cache, held = student.open(), []
    for block in range(200):
        with torch.no_grad():
            _, cache = student.push(cache, KEY.at(block).normal(batch.like), batch.cond, KEY)
        held.append(cache.bytes)
    assert len(set(held[3:])) == 1
    assert cache.frames == 6
    assert cache.seen == 400


def test_without_a_window_the_cache_grows(make_student, make_batch):
    student, batch = make_student(steps=1, window=None), make_batch(2, rows=1)
    cache, held = student.open(), []
    for block in range(20):
        with torch.no_grad():
            _, cache = student.push(cache, KEY.at(block).normal(batch.like), batch.cond, KEY)
        held.append(cache.bytes)
    assert held[19] == 20 * held[0]


def test_dropped_frames_are_freed(make_student, make_batch):
    student, batch = make_student(steps=1, window=2), make_batch(2, rows=1)
    cache = student.open()
    for block in range(30):
        with torch.no_grad():
            _, cache = student.push(cache, KEY.at(block).normal(batch.like), batch.cond, KEY)
    gc.collect()
    assert cache.kv is not None
    assert cache.bytes == cache.kv.numel() * cache.kv.element_size()


def test_the_sink_keeps_the_first_frames_bit_for_bit(make_student, make_batch):
    student, batch = make_student(window=2, sink=2), make_batch(2)
    with torch.no_grad():
        _, first = student.push(student.open(), KEY.normal(batch.like), batch.cond, KEY)
        last = first
        for block in range(6):
            _, last = student.push(last, KEY.at(block).normal(batch.like), batch.cond, KEY)
    assert torch.equal(last.kv[:, :, :, :, :2], first.kv)


def test_a_cache_can_be_continued_twice(make_student, make_batch):
    student, batch = make_student(), make_batch(2)
    with torch.no_grad():
        _, shared = student.push(student.open(), KEY.normal(batch.like), batch.cond, KEY)
        before = shared.kv.clone()
        one, _ = student.push(shared, KEY.at("a").normal(batch.like), batch.cond, KEY)
        student.push(shared, KEY.at("b").normal(batch.like), batch.cond, KEY)
        again, _ = student.push(shared, KEY.at("a").normal(batch.like), batch.cond, KEY)
    assert torch.equal(shared.kv, before)
    assert torch.equal(one, again)


def test_the_first_block_takes_the_frames_that_do_not_divide():
    roll = Roll((1.0,), block=3, window=3, sink=0)
    assert roll.sizes(11) == [5, 3, 3]
    assert roll.sizes(2) == [2]


def test_a_frame_sees_its_block_its_window_and_the_sink():
    seen = visible([2, 2, 2], window=1, sink=1)
    assert seen[4].tolist() == [True, False, False, True, True, True]
    assert seen[0].tolist() == [True, True, False, False, False, False]


def test_step_times_are_warped_towards_noise():
    assert warped(4, 5.0) == pytest.approx((1.0, 0.9375, 0.83333333, 0.625))


def test_the_student_serves_the_protocol(make_student):
    assert isinstance(make_student(), Student)


def test_a_rollout_has_a_gradient_in_one_step_of_every_block_and_none_through_the_cache(
    make_student, make_batch
):
    student, batch = make_student(steps=3), make_batch(6)
    noise = KEY.normal(batch.like).requires_grad_()
    sample = student.generate(batch, Step(0, 1, _key_with_exit(3, 0)), noise=noise)
    (grad,) = torch.autograd.grad(sample.x[:, 4:].square().sum(), noise)
    assert grad[:, :4].abs().max() == 0
    assert grad[:, 4:].abs().max() > 0


def test_an_early_exit_step_has_no_gradient_from_the_steps_before_it(make_student, make_batch):
    student, batch = make_student(steps=3), make_batch(4)
    noise = KEY.normal(batch.like).requires_grad_()
    sample = student.generate(batch, Step(0, 1, _key_with_exit(3, 2)), noise=noise)
    assert sample.x.requires_grad
    (grad,) = torch.autograd.grad(sample.x.sum(), noise, allow_unused=True)
    assert grad is None
    assert sample.cond.index.tolist() == [2, 2]


def test_a_rollout_that_exits_last_is_the_stream(make_student, make_batch):
    student, batch = make_student(steps=3), make_batch(6)
    key = _key_with_exit(3, 2)
    assert torch.equal(
        student.generate(batch, Step(0, 1, key)).x, student.sample(batch, Step.inference(key)).x
    )


def test_without_gradient_a_rollout_builds_no_graph(make_student, make_batch):
    with torch.no_grad():
        assert not make_student().generate(make_batch(4), Step(0, 1, KEY)).x.requires_grad


def test_teacher_forcing_needs_the_clean_past(make_student, make_batch):
    batch = make_batch(4)
    with pytest.raises(ValueError, match="past"):
        make_student()(batch.like, torch.ones(2), batch.cond)


def test_teacher_forcing_shows_each_block_only_what_came_before(make_student, make_batch):
    student, batch = make_student(), make_batch(6)
    clean, noisy, t = KEY.at("x").normal(batch.like), KEY.at("e").normal(batch.like), torch.full((2,), 0.5)
    other = clean.clone()
    other[:, 2:] += 1.0
    with torch.no_grad():
        first = student(noisy, t, _with_past(batch, clean)).x0
        second = student(noisy, t, _with_past(batch, other)).x0
    assert torch.equal(first[:, :4], second[:, :4])
    assert not torch.equal(first[:, 4:], second[:, 4:])


@pytest.mark.parametrize("times", [(), (0.5, 1.0), (1.0, 1.0)])
def test_step_times_that_do_not_decrease_are_refused(times):
    with pytest.raises(ValueError, match="decrease"):
        Roll(times, 2, 2, 0)


def test_a_block_without_frames_is_refused():
    with pytest.raises(ValueError, match="at least one frame"):
        Roll((1.0,), 0, 2, 0)


@pytest.mark.parametrize("steps", [0, 3])
def test_steps_that_the_student_was_not_trained_for_are_refused(make_student, make_batch, steps):
    with pytest.raises(FewstepError, match="1 to 2 steps"):
        make_student(steps=2).sample(make_batch(2), Step.inference(KEY), steps=steps)


def test_fewer_steps_than_trained_are_taken_when_asked_for(make_student, make_batch):
    student, batch = make_student(steps=2), make_batch(2)
    calls = []
    student.net.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        student.sample(batch, Step.inference(KEY), steps=1)
    assert len(calls) == 2  # one step, one commit


def _key_with_exit(steps, wanted):
    return next(key for key in map(Key, range(100)) if key.at("exit").integer(steps) == wanted)


def _with_past(batch, clean):
    from fewstep.protocol import Cond

    return Cond(data={**batch.cond.data, "past": clean})


@pytest.fixture
def flow_map(make_student):
    """A student that is told where to land, from the weights of one that is not; its embedding of that is zero."""
    plain = make_student(steps=3, block=6)
    net = VideoTransformer(plain.net.shape, lands=True).double()
    net.load_state_dict(plain.net.state_dict(), strict=False)
    return CausalStudent(net, plain.process, plain.prediction, plain.roll)


def test_a_flow_map_starts_as_its_teacher_and_learns_where_to_land(flow_map, make_student, make_batch):
    batch = make_batch(6)
    x, cond = KEY.normal(batch.like), _with_past(batch, KEY.at("x").normal(batch.like))
    t, near, far = (torch.full((2,), time, dtype=torch.float64) for time in (0.8, 0.1, 0.5))
    plain = make_student(steps=3, block=6)(x, t, cond)
    assert torch.equal(flow_map(x, t, cond, to=near).x0, plain.x0)
    flow_map(x, t, cond, to=far).x0.square().mean().backward()
    torch.optim.SGD(flow_map.parameters(), lr=0.1).step()
    told = [flow_map(x, t, cond, to=to).x0 for to in (near, far)]
    assert not torch.allclose(*told, rtol=1e-3)


def test_a_flow_map_walks_a_first_block_as_the_plain_student_of_few_steps(flow_map, make_batch):
    torch.nn.init.normal_(flow_map.net.destination[-1].weight)
    batch, noise = make_batch(6), KEY.normal(make_batch(6).like)
    same = FewStep(flow_map.net, flow_map.process, flow_map.prediction, flow_map.roll.times, "flow")
    for steps in (None, 1):
        walked = [
            one.sample(batch, Step.inference(KEY), noise=noise, steps=steps).x for one in (flow_map, same)
        ]
        torch.testing.assert_close(*walked, rtol=0, atol=1e-12)


def test_its_derivative_in_forward_mode_is_the_difference(flow_map, make_batch):
    batch = make_batch(6)
    x, t = KEY.normal(batch.like), torch.tensor([0.3, 0.7], dtype=torch.float64)
    cond = _with_past(batch, KEY.at("x").normal(batch.like))
    path = (x, t), (0.1 * x.flip(1), torch.full_like(t, 1e-3))
    found = [
        derivative(lambda x, t: flow_map(x, t, cond).x0, *path) for derivative in (forward, Difference())
    ]
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)
