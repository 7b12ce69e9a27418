"""Networks that learn on a ring of eight Gaussians: small teacher, student and fake, everything in the engine.

Energy distance of 4,000 samples to fresh data; data against data is .001. Minutes, so marked slow.
"""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewstep.config.objectives import KINDS
from fewstep.engine import assemble, execute
from fewstep.objectives import Denoising
from fewstep.processes import LogNormal, edm
from fewstep.protocol import (
    Average,
    Batch,
    Cond,
    Denoiser,
    Group,
    Key,
    Linear,
    Optim,
    Plan,
    Product,
    Site,
    Stage,
    Step,
)
from fewstep.samplers import FewStep
from fewstep.testing.analytic import ring

PROCESS = edm(sigma_min=0.02, sigma_max=20.0, sigma_data=1.5)
DATA = ring(PROCESS)


class Net(nn.Module):
    """Three hidden layers of 96."""

    def __init__(self) -> None:
        super().__init__()
        width = 96
        self.stack = nn.Sequential(
            nn.Linear(2 + 16, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2),
        )  # fmt: skip

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        angle = time[:, None] * torch.tensor([0.5, 1, 2, 4, 8, 16, 32, 64]).sqrt() * 2
        found: Tensor = self.stack(torch.cat([x, angle.sin(), angle.cos()], 1))
        return found


class Ring:
    """Fresh data for every index."""

    def batch(self, index: int, key: Key) -> Batch:
        x = draw(key.at("data", index), 256)
        return Batch(like=x, x=x)


def draw(key: Key, count: int) -> Tensor:
    normal = key.at("normal").normal(torch.zeros(count, 2, dtype=torch.float64))
    return DATA.draw(key.at("mode").uniform((count,)), normal).float()


def energy_distance(a: Tensor, b: Tensor) -> float:
    return float(2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean())


def optim(lr: float) -> Optim:
    return Optim((Group(lr=Linear(lr, lr / 20)),), options={"betas": (0.5, 0.99), "weight_decay": 0.0})


def plan(stage: Stage) -> Plan:
    empty: Any = lambda *given: []  # noqa: E731
    return Plan((stage,), Product("student", {}, empty, empty, dict, empty, ()))


def trained(stage: Stage, seed: int = 0) -> Any:
    return execute(plan(stage), Site(key=Key(seed), cache=Path()))


@cache
def teacher() -> Denoiser:
    def build(shelf: Any) -> Any:
        objective = Denoising(LogNormal(0.0, 1.4, PROCESS.t_min, PROCESS.t_max), role="teacher")
        make = {"teacher": lambda: Denoiser(Net(), PROCESS, "edm")}
        return assemble(objective, make, Ring(), {"teacher": optim(2e-3)})

    shelf = trained(Stage("teacher", build, 1500, {"teacher": "teacher"}))
    found: Denoiser = shelf["teacher"]
    return found


SETTINGS: dict[str, tuple[dict[str, Any], tuple[float, ...]]] = {
    "dmd": ({"critic_updates": 3}, (2.5, 0.5)),
    "sid": ({}, (2.5, 0.5)),
    "consistency": ({"steps": 40, "distance": "pseudo-huber", "huber_c": 0.03}, (20.0, 1.0)),
    "sds": ({}, (2.5, 0.5)),
}


def distance(kind: str, steps: int, seed: int = 0) -> float:
    settings, times = SETTINGS[kind]
    config: Any = KINDS[kind](**settings)
    prediction = "boundary" if kind == "consistency" else "edm"

    def build(shelf: Any) -> Any:
        known = copy.deepcopy(teacher())
        make = {
            "teacher": lambda: known,
            "student": lambda: FewStep(Net(), PROCESS, prediction, times, pick="random"),
        }
        rates = {"student": optim(2e-3 if kind == "consistency" else 5e-4), "fake": optim(1e-3)}
        averages = {"target": Average("student", 0.95, "before"), "smooth": Average("student", 0.98)}
        return assemble(config.build(PROCESS), make, Ring(), rates, averages)

    shelf = trained(Stage("student", build, steps, {"smooth": "student"}), seed)
    return of_student(shelf["student"])


def of_student(student: Any) -> float:
    with torch.no_grad():
        like = torch.zeros(4000, 2)
        x = student.sample(Batch(like=like), Step.inference(Key(77))).x
    return energy_distance(x, draw(Key(78), 4000))


BOUND = 0.1
"""Seeds 0, 1, 2: dmd .062 .036 .043, sid .032 .027 .027, consistency .047 .047 .047 (17 to 32 s each on a busy core).
Controls: the teacher in one step 1.18, in the students' two steps .37 and .34; sds 1.28 1.33 1.31."""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("kind", "steps"), [("dmd", 600), ("sid", 600), ("consistency", 1000)])
def test_two_step_students_come_near_the_data(kind: str, steps: int) -> None:
    assert distance(kind, steps) < BOUND


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("times", [(20.0,), (20.0, 1.0), (2.5, 0.5)])
def test_the_undistilled_teacher_in_as_many_steps_stays_far(times: tuple[float, ...]) -> None:
    assert of_student(FewStep(teacher().net, PROCESS, "edm", times)) > 2 * BOUND


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_score_sampling_without_a_fake_stays_far() -> None:
    assert distance("sds", 300) > 2 * BOUND
