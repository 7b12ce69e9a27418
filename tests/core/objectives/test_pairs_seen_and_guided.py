"""Pairs under a law of guidance scales, and pairs that a frozen decoder looks at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewstep.config.objectives import ODEPairsConfig
from fewstep.engine import AssemblyError, MakePairs, PairSource, assemble
from fewstep.objectives import ODE, Pairs
from fewstep.objectives.perceptual import perceived
from fewstep.processes import Uniform, flow
from fewstep.protocol import Batch, Cond, Denoiser, Guided, Key, Optim, Step
from fewstep.samplers import FewStep, ddim, euler

PROCESS = flow()


class Pointing(nn.Module):
    """Clean states stand at the condition, wherever the state is."""

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        return cond.data.to(x.dtype)


class Told(nn.Module):
    """Knows its guidance scale, and says it."""

    accepts = frozenset({"guidance"})

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.heard: list[Tensor] = []

    def forward(self, x: Tensor, time: Tensor, cond: Cond, guidance: Tensor | None = None) -> Tensor:
        assert guidance is not None
        self.heard.append(guidance)
        return self.weight * guidance.to(x.dtype)[:, None] * torch.ones_like(x)


class Points:
    """Conditions of ones: a teacher guided by w ends at w."""

    def batch(self, index: int, key: Key) -> Batch:
        like = torch.zeros(6, 2)
        return Batch(like, cond=Cond(torch.ones_like(like)))


def guided() -> Guided:
    return Guided(Denoiser(Pointing(), PROCESS, "x0"), 1.0, lambda cond: Cond(torch.zeros_like(cond.data)))


def test_a_law_draws_a_scale_for_every_row_and_the_student_is_told_the_one_of_its_pair() -> None:
    pairs = Pairs(ODE(euler, 4, Uniform(0.0, 7.0)))
    student = FewStep(Told(), PROCESS, "x0", (1.0,))
    batch, step = Points().batch(0, Key(0)), Step(0, 1, Key(3))
    loss = pairs.loss(pairs.phases(0)[0], {"teacher": guided(), "student": student}, batch, step)
    assert len(set(student.net.heard[0].tolist())) == 6
    assert float(loss.total.detach()) < 1e-9  # a student that answers with its scale is right


def test_a_student_of_two_steps_is_told_the_scale_of_its_pair_too() -> None:
    pairs = Pairs(ODE(euler, 4, Uniform(0.0, 7.0)))
    student = FewStep(Told(), PROCESS, "x0", (1.0, 0.5))
    batch, step = Points().batch(0, Key(0)), Step(0, 1, Key(3))
    loss = pairs.loss(pairs.phases(0)[0], {"teacher": guided(), "student": student}, batch, step)
    assert float(loss.total.detach()) < 1e-9


def test_a_law_of_scales_is_not_solved_before_somebody_says_what_it_drew() -> None:
    with pytest.raises(ValueError, match="say what it drew"):
        ODE(euler, 4, Uniform(0.0, 7.0))(guided(), torch.zeros(6, 2), Points().batch(0, Key(0)).cond)


def test_a_student_that_cannot_be_told_is_refused_a_law_of_scales() -> None:
    make: dict[str, Any] = {"teacher": guided, "student": lambda: FewStep(Pointing(), PROCESS, "x0", (1.0,))}
    with pytest.raises(AssemblyError, match="optional input guidance"):
        assemble(Pairs(ODE(euler, 4, Uniform(0.0, 7.0))), make, Points(), {"student": Optim()})


def test_recorded_pairs_keep_their_scales_and_are_for_their_own_law(tmp_path: Path) -> None:
    ode = ODE(ddim, 4, Uniform(0.0, 7.0))
    made = MakePairs(Points(), 3, ode, (1.0,), tmp_path, guided())
    store = made.run({}, Key(1))["pairs"]
    assert json.loads((store / "pairs.json").read_text())["guidance"] == "Uniform(low=0.0, high=7.0)"
    batch = PairSource(store, (1.0,), PROCESS, Uniform(0.0, 7.0)).batch(0, Key(2))
    scale = batch.extra["guidance"][:, None].float()
    assert torch.allclose(batch.extra["target"], scale.expand(6, 2), atol=1e-4)
    with pytest.raises(ValueError, match="not this student's"):
        PairSource(store, (1.0,), PROCESS, Uniform(1.0, 7.0))


class Eyes(nn.Module):
    """Shows the state itself, and twice a sum of it."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.full((), 2.0))

    def forward(self, x: Tensor, cond: Cond) -> dict[str, tuple[Tensor, ...]]:
        return {"plain": (x,), "deep": (self.gain * x.sum(1, keepdim=True), x[:, :1])}


def test_what_is_seen_is_the_relative_difference_of_every_layer_summed() -> None:
    aim = torch.tensor([[1.0, 3.0], [-2.0, 0.5]])
    mine = torch.tensor([[2.0, 3.0], [-2.0, 1.5]])
    total, told = perceived(Eyes(), mine, aim, Cond(), {"plain": 1.0, "deep": 0.5})
    plain = torch.tensor([1 / 4, 1 / 2.5]).mean()
    deep = torch.tensor([1 / 4 + 1 / 1, 1 / 1.5 + 0]).mean()
    assert float(total.detach()) == pytest.approx(float(plain + 0.5 * deep))
    assert float(told["seen/deep"]) == pytest.approx(float(deep))


def test_a_decoder_that_looks_is_frozen_and_its_gradient_reaches_the_student() -> None:
    pairs = ODEPairsConfig(perceptual={"plain": 1.0}).build(PROCESS, online=None)
    assert not pairs.roles["decoder"].trainable
    student, eyes = FewStep(Told(), PROCESS, "x0", (1.0,), guidance=1.0), Eyes().requires_grad_(False)
    x = torch.full((4, 2), 3.0)
    batch = Batch(x, extra={"noise": torch.randn(4, 2), "target": x})
    roles = {"student": student, "decoder": eyes}
    loss = pairs.loss(pairs.phases(0)[0], roles, batch, Step(0, 1, Key(0)))
    loss.total.backward()  # type: ignore[no-untyped-call]
    distance = float((3.0 - 1.0) ** 2)
    assert float(loss.total.detach()) == pytest.approx(distance + 2 / 3)
    assert student.net.weight.grad is not None


def test_a_recipe_without_a_decoder_refuses_to_look_through_one() -> None:
    pairs = ODEPairsConfig(perceptual={"plain": 1.0}).build(PROCESS)
    make: dict[str, Any] = {"teacher": guided, "student": lambda: FewStep(Pointing(), PROCESS, "x0", (1.0,))}
    with pytest.raises(AssemblyError, match=r"leave objective\.perceptual empty"):
        assemble(pairs, make, Points(), {"student": Optim()})
