"""Controls trained on a teacher act on its student, by name and shape, and can be taken back."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewstep.engine import control_between, control_from_lora, controlled, transfer
from fewstep.processes import edm
from fewstep.protocol import Batch, Cond, Denoiser, Key, Step
from fewstep.samplers import FewStep

PROCESS = edm()
DELTA = torch.tensor([0.5, -0.2], dtype=torch.float64)


class Layer(nn.Module):
    """A linear network of the state."""

    def __init__(self, seed: int, width: int = 2) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width).double()
        for i, parameter in enumerate(self.parameters()):
            parameter.data.copy_(Key(seed).at(i).normal(parameter.data))

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        found: Tensor = self.layer(x)
        return found


def teacher() -> Denoiser:
    return Denoiser(Layer(1), PROCESS, "x0")


def student() -> FewStep:
    return FewStep(Layer(2), PROCESS, "x0", (80.0,))


def outputs(module: Any) -> Tensor:
    x = Key(3).normal(torch.zeros(4, 2, dtype=torch.float64))
    with torch.no_grad():
        found: Tensor = module(x, torch.full((4,), 2.0, dtype=torch.float64)).x0
    return found


def test_a_bias_trained_on_the_teacher_shifts_the_student_as_much() -> None:
    known, tuned, other = teacher(), teacher(), student()
    tuned.net.layer.bias.data += DELTA
    control = control_between(known, tuned)
    assert set(control) == {"net.layer.bias"}
    before = outputs(other)
    told = transfer(control, other)
    assert told.applied == ("net.layer.bias",)
    assert torch.allclose(outputs(other) - before, DELTA.expand(4, 2))
    assert torch.allclose(outputs(tuned) - outputs(known), DELTA.expand(4, 2))


def test_a_slider_scales_and_turns_round() -> None:
    control = {"net.layer.bias": DELTA}
    module = student()
    before = outputs(module)
    with controlled(control, module, -3.0):
        assert torch.allclose(outputs(module) - before, (-3 * DELTA).expand(4, 2))


def test_after_a_block_every_bit_is_as_before_even_after_an_error() -> None:
    module = student()
    kept = copy.deepcopy(module.state_dict())
    control = {"net.layer.weight": torch.full((2, 2), 1 / 3).double(), "net.layer.bias": DELTA}

    def broken() -> None:
        with controlled(control, module, 0.1):
            assert not torch.equal(module.net.layer.bias, kept["net.layer.bias"])
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        broken()
    assert all(torch.equal(value, kept[name]) for name, value in module.state_dict().items())


def test_what_does_not_fit_is_reported_with_its_reason() -> None:
    control = {
        "net.layer.bias": DELTA,
        "net.layer.weigth": torch.zeros(2, 2),
        "net.layer.weight": torch.zeros(3, 3),
    }
    told = transfer(control, student())
    assert told.applied == ("net.layer.bias",)
    assert "did you mean 'net.layer.weight'" in told.unmatched["net.layer.weigth"]
    assert "(2, 2)" in told.unmatched["net.layer.weight"]
    assert "(3, 3)" in told.unmatched["net.layer.weight"]


@pytest.mark.parametrize("control", [{}, {"other": DELTA}])
def test_a_control_of_which_nothing_fits_is_refused(control: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="nothing of this control fits"):
        transfer(control, student())


def test_low_rank_factors_are_their_product() -> None:
    down = Key(4).normal(torch.zeros(1, 2, dtype=torch.float64))
    up = Key(5).normal(torch.zeros(2, 1, dtype=torch.float64))
    state = {"base.net.layer.lora_A.weight": down, "base.net.layer.lora_B.weight": up}
    control = control_from_lora(state, scaling=2.0, prefix="base.")
    assert torch.allclose(control["net.layer.weight"], 2.0 * up @ down)
    module = student()
    x = Key(6).normal(torch.zeros(3, 2, dtype=torch.float64))
    before = module.net.layer(x)
    transfer(control, module)
    assert torch.allclose(module.net.layer(x) - before, 2.0 * x @ (up @ down).T)


def test_low_rank_factors_of_a_convolution_keep_its_kernel() -> None:
    state = {"c.lora_A.weight": torch.ones(2, 3, 5, 5), "c.lora_B.weight": torch.ones(4, 2, 1, 1)}
    assert torch.equal(control_from_lora(state)["c.weight"], torch.full((4, 3, 5, 5), 2.0))


def test_factors_without_a_partner_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"layer\.lora_B\.weight"):
        control_from_lora({"layer.lora_A.weight": torch.zeros(1, 2)})


@pytest.mark.slow
def test_adapters_that_peft_trains_are_understood() -> None:
    peft = pytest.importorskip("peft")
    known = teacher()
    adapted = peft.get_peft_model(
        copy.deepcopy(known), peft.LoraConfig(r=1, lora_alpha=3, target_modules=["layer"])
    )
    for i, (name, parameter) in enumerate(adapted.named_parameters()):
        if "lora" in name:
            parameter.data.copy_(Key(7).at(i).normal(parameter.data))
    state = peft.get_peft_model_state_dict(adapted)
    control = control_from_lora(state, scaling=3.0, prefix="base_model.model.")
    with controlled(control, known):
        assert torch.allclose(outputs(known), outputs(adapted), atol=1e-12)
    sample = student()
    before = sample.sample(Batch(like=torch.zeros(2, 2).double()), Step.inference(Key(0))).x
    transfer(control, sample)
    assert not torch.allclose(
        before, sample.sample(Batch(like=torch.zeros(2, 2).double()), Step.inference(Key(0))).x
    )
