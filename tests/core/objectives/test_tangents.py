"""Derivatives along a path: forward mode, differences, and both halves, through whole denoisers with attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F

from fewstep.objectives import Difference, SemiContinuous, jvp
from fewstep.objectives.rollout import same_randomness
from fewstep.objectives.tangent import Derivative, forward
from fewstep.processes import edm, flow, trig, vp
from fewstep.protocol import Cond, Denoiser, Key, spread


class Small(nn.Module):
    """(B, L, 2) with every usual layer: attention, norms, convolution, GELU, an embedded label."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.inner, self.label = nn.Linear(4, width), nn.Embedding(4, width)
        self.norm, self.heads = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.groups, self.mix = nn.GroupNorm(4, width), nn.Conv1d(width, width, 3, padding=1)
        self.outer = nn.Linear(width, 2)
        for i, parameter in enumerate(self.parameters()):
            parameter.data.copy_(0.4 * Key(5).at(i).normal(parameter.data))

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        waves = torch.stack([torch.tanh(time), torch.sin(time / 200)], -1)
        told = waves[:, None].expand(*x.shape[:2], 2)
        hidden = self.inner(torch.cat([x, told], -1)) + self.label(cond.data).unsqueeze(1)
        query, key, value = self.heads(self.norm(hidden)).unflatten(-1, (2, -1)).transpose(1, 2).chunk(3, -1)
        hidden = hidden + F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        found: Tensor = self.outer(F.gelu(self.mix(self.groups(hidden.mT))).mT + hidden)
        return found


def setting(process: Any, prediction: str, dtype: torch.dtype = torch.float64) -> tuple[Any, Any, Any]:
    """(fn, primals, tangents) of a denoiser's raw output and estimate along a direction."""
    model = Denoiser(Small().to(dtype), process, prediction)
    cond = Cond(torch.tensor([0, 3, 1]))
    x, dx = (Key(6).at(i).normal(torch.zeros(3, 5, 2, dtype=torch.float64)).to(dtype) for i in (0, 1))
    t = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)

    def believe(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        est = model(x, t, cond)
        return est.raw, est.x0

    return believe, (x, t), (dx, torch.ones_like(t))


PROCESSES = [
    (edm(), "edm"),
    (edm(), "boundary"),
    (flow(), "flow"),
    (trig(), "trig"),
    (vp(), "v"),
    (vp(), "x0"),
]


@pytest.mark.parametrize(("process", "prediction"), PROCESSES)
def test_forward_mode_agrees_with_float64_differences(process: Any, prediction: str) -> None:
    """Through the network's layers, the process' time conversion and its coefficients."""
    fn, primals, tangents = setting(process, prediction)
    value, exact = jvp(fn, primals, tangents)
    # Richardson: two central differences whose errors of second order cancel.
    near, far = (Difference(h)(fn, primals, tangents) for h in (1e-4, 2e-4))
    for found, a, b, v, plain in zip(exact, near, far, value, fn(*primals), strict=True):
        assert torch.allclose(v, plain, rtol=1e-12)
        assert torch.allclose(found, (4 * a - b) / 3, rtol=1e-8, atol=1e-9)
        assert float(found.abs().max()) > 0.01


@pytest.mark.parametrize(("process", "prediction"), PROCESSES)
def test_the_three_ways_agree_within_their_orders(process: Any, prediction: str) -> None:
    fn, primals, tangents = setting(process, prediction)
    exact = forward(fn, primals, tangents)[0]
    scale = float(exact.abs().max())
    assert off(Difference()(fn, primals, tangents)[0], exact) < 1e-7 * max(scale, 1)
    assert off(SemiContinuous()(fn, primals, tangents)[0], exact) < 1e-5 * max(scale, 1)
    central = [off(Difference(h)(fn, primals, tangents)[0], exact) for h in (4e-3, 2e-3)]
    one_sided = [off(SemiContinuous(h)(fn, primals, tangents)[0], exact) for h in (4e-4, 2e-4)]
    assert central[0] / central[1] == pytest.approx(4, rel=0.1)
    assert one_sided[0] / one_sided[1] == pytest.approx(2, rel=0.1)


def test_the_trigonometric_quotient_agrees_to_first_order() -> None:
    fn, (x, t), (dx, dt) = setting(trig(), "trig")
    h = 1e-4
    with torch.no_grad():
        now, before = fn(x, t)[0], fn(x, t - h)[0]
    published = (torch.cos(torch.tensor(h)) * now - before) / torch.sin(torch.tensor(h))
    ours = SemiContinuous(h)(fn, (x, t), (torch.zeros_like(dx), dt))[0]
    assert off(published, ours) < h * float(now.abs().max())


def test_single_precision_keeps_six_digits_forward_and_three_by_differences() -> None:
    reference = forward(*setting(flow(), "flow"))[0]
    fn, primals, tangents = setting(flow(), "flow", torch.float32)
    exact, rough = forward(fn, primals, tangents)[0], Difference()(fn, primals, tangents)[0]
    scale = float(reference.abs().max())
    assert exact.dtype == torch.float32
    assert off(exact.double(), reference) < 1e-5 * scale
    assert off(rough.double(), reference) < 2e-2 * scale


def test_a_tangent_of_none_stands_still() -> None:
    fn, (x, t), (dx, dt) = setting(edm(), "edm")
    in_x, in_t = forward(fn, (x, t), (dx, None))[0], forward(fn, (x, t), (None, dt))[0]
    assert off(in_x + in_t, forward(fn, (x, t), (dx, dt))[0]) < 1e-12
    assert torch.equal(forward(lambda x, t: t, (x, t), (dx, None)), torch.zeros_like(t))
    assert off(Difference()(fn, (x, t), (dx, None))[0], in_x) < 1e-7


def test_attention_has_its_closed_derivative() -> None:
    """S = c Q K', P = softmax S, tS = c (tQ K' + Q tK'), tO = (P * tS) V - rowsum(P * tS) O + P tV."""
    like = torch.zeros(2, 3, 7, 4, dtype=torch.float64)
    q, k, v, tq, tk, tv = (Key(7).at(i).normal(like) for i in range(6))
    scores = (q @ k.mT) / 2
    weights = scores.softmax(-1)
    moved = weights * (tq @ k.mT + q @ tk.mT) / 2
    expected = moved @ v - moved.sum(-1, keepdim=True) * (weights @ v) + weights @ tv
    found = forward(F.scaled_dot_product_attention, (q, k, v), (tq, tk, tv))
    assert off(found, expected) < 1e-14


def test_fused_attention_alone_has_no_forward_mode() -> None:
    """The control: why attention is put on its formula."""
    q = Key(8).normal(torch.zeros(1, 1, 4, 4))
    with torch.no_grad(), forward_ad.dual_level(), pytest.raises(NotImplementedError):
        F.scaled_dot_product_attention(forward_ad.make_dual(q, q), q, q)


def flags() -> tuple[bool, ...]:
    cuda = torch.backends.cuda
    return (cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled())


@pytest.mark.parametrize("way", [forward, Difference(), SemiContinuous()])
def test_flags_are_as_before_even_after_an_error(way: Any) -> None:
    before = flags()
    seen: list[tuple[bool, ...]] = []

    def broken(x: Tensor, t: Tensor) -> Tensor:
        seen.append((*flags(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
        raise RuntimeError("broken")

    x, t = torch.zeros(2, 2), torch.zeros(2)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(RuntimeError, match="broken"):
        way(broken, (x, t), (x, t))
    assert seen == [(False, False, True, False, False)]
    assert flags() == before
    assert torch.is_grad_enabled()


def test_reduced_precision_stops_at_the_derivative() -> None:
    layer = nn.Linear(4, 4)
    x = Key(9).normal(torch.zeros(3, 4))
    exact = forward(layer, (x,), (x,))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
        assert torch.equal(forward(layer, (x,), (x,)), exact)


def test_sharded_parameters_have_forward_mode(tmp_path: Path) -> None:
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    fn, primals, tangents = setting(flow(), "flow")
    expected = forward(fn, primals, tangents)[0]
    model = Denoiser(Small().double(), flow(), "flow")
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    try:
        sharded = fully_shard(model, mesh=dist.init_device_mesh("cpu", (1,)))
        cond = Cond(torch.tensor([0, 3, 1]))
        found = forward(lambda x, t: sharded(x, t, cond).raw, primals, tangents)
        with pytest.raises(RuntimeError):
            torch.func.jvp(lambda x, t: sharded(x, t, cond).raw, primals, tangents)
    finally:
        dist.destroy_process_group()
    assert off(found, expected) < 1e-14


def off(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def test_dropout_draws_the_same_numbers_in_every_pass_of_a_difference() -> None:
    """Else the difference of two masks is divided by a small step."""
    _, primals, tangents = setting(flow(), "flow")
    thin = nn.Dropout(0.5)

    def fn(x: Tensor, t: Tensor) -> Tensor:
        return thin(torch.ones_like(x)) * torch.sin(x) * spread(t, x)

    def derived(derivative: Derivative) -> Tensor:
        with same_randomness(Key(5)):
            return derivative(fn, primals, tangents)

    exact = derived(forward)
    assert off(derived(Difference()), exact) < 1e-7
    assert off(derived(SemiContinuous()), exact) < 1e-5
