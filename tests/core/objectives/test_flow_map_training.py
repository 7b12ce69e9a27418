"""Small students that are trained end at the closed form, and not at that of other settings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from flow_map_toys import STD, Table, drawn, exactly, leading, step_factors
from torch import Tensor, nn

from fewstep.config.objectives import KINDS
from fewstep.objectives import Along, Consistency, MapPairs, Sde, ddim, heun
from fewstep.processes import edm
from fewstep.protocol import Batch, Cond, Denoiser, Estimate, Key, Step, parts
from fewstep.testing.analytic import GaussianTeacher

PROCESS = edm(sigma_max=5.0)
TEACHER = GaussianTeacher(PROCESS, 0.0, STD)


def descended(objective: Any, student: Any, cycles: int = 80, lr: float = 0.05, **more: Any) -> None:
    """Resilient steps on fresh data, since entries differ in scale; the whole run is one stage."""
    optimizer = torch.optim.Rprop(student.parameters(), lr=lr, step_sizes=(1e-3, 0.2))
    for i in range(cycles):
        optimizer.zero_grad()
        roles = {"teacher": TEACHER, "student": student, **more}
        data = STD * drawn(64, 1, seed=i)
        batch = Batch(like=data, x=data)
        for part in parts(
            objective.loss(objective.phases(i)[0], roles, batch, Step(i, cycles, Key(2).at(i)))
        ):
            part.total.backward()
        optimizer.step()


def tabled(kind: str, steps: int, start: float = 0.5, **settings: Any) -> Tensor:
    """(steps,) gains that a table learns."""
    student = Table(PROCESS, PROCESS.grid(steps), torch.full((steps + 1,), start).double())
    descended(KINDS[kind](target="self", distance="l2", steps=steps, **settings).build(PROCESS), student)  # type: ignore[call-arg, attr-defined]
    return student.gains.detach()[:-1]


def products(steps: int, solver: Any, skip: int = 1) -> Tensor:
    """Of the teacher's mean steps over every ``skip``-th time below each grid time."""
    grid, found = PROCESS.grid(steps), []
    for i in range(steps):
        way = [*range(i, steps, skip), steps]
        found.append(step_factors(PROCESS, grid[way], solver).prod())
    return torch.stack(found)


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        ("consistency", {"steps": 4, "solver": "heun"}, products(4, heun)),
        ("lcm", {"steps": 6, "skip": 2}, products(6, ddim, skip=2)),
        ("tscd", {"steps": 4, "segments": (4, 2, 1)}, products(4, ddim)),
        ("mlcm", {"steps": 4, "segments": (4, 2, 1)}, products(4, ddim)),
    ],
)
def test_a_table_learns_the_products_of_the_teachers_steps(
    kind: str, settings: dict[str, Any], expected: Tensor
) -> None:
    found = tabled(kind, **settings)
    assert torch.allclose(found, expected, rtol=0.02, atol=2e-3)
    other = products(len(expected), ddim if kind == "consistency" else heun)
    assert not torch.allclose(found, other, rtol=0.05)


@pytest.mark.parametrize("eta", [0.2, 1.0])
def test_a_table_learns_the_mean_over_a_noisy_solver(eta: float) -> None:
    found = tabled("scott", steps=4, eta=eta, substeps=2)
    assert torch.allclose(found, products(4, Sde(eta, 2)), rtol=0.05, atol=0.01)
    assert not torch.allclose(found, products(4, Sde(1.2 - eta, 2)), rtol=0.1, atol=0.02)


def test_segments_that_stay_apart_end_elsewhere() -> None:
    merged, apart = (tabled("tscd", steps=4, segments=segments) for segments in ((4, 2, 1), (4, 2)))
    assert torch.allclose(merged[2:], apart[2:], rtol=0.02)
    assert float((merged[0] - apart[0]).abs()) > 0.05 * float(merged[0])


class MapTable(Denoiser):
    """One landing factor for each pair of grid times, one gain of the denoiser for each time."""

    def __init__(self, steps: int) -> None:
        super().__init__(nn.Identity(), PROCESS, "x0")
        self.grid = PROCESS.grid(steps)
        self.factors = nn.Parameter(torch.full((steps + 1, steps + 1), 0.5).double())

    accepts = frozenset({"to"})  # type: ignore[assignment]

    def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
        to = asked["to"]
        here, there = ((u[:, None] - self.grid).abs().argmin(1) for u in (t, to))
        return Estimate(leading(PROCESS, xt, t, to, self.factors[here, there][:, None] * xt))


def test_a_table_of_maps_learns_the_flow_between_all_times() -> None:
    steps = 4
    student, target = MapTable(steps), MapTable(steps)
    objective = Consistency(MapPairs(steps), exactly(TEACHER), target=None)
    descended(objective, student, cycles=100)
    grid, like = PROCESS.grid(steps), torch.ones(1, 1).double()
    for i in range(steps):
        for j in range(i + 1, steps + 1):
            exact = (TEACHER.variance(grid[[j]], like) / TEACHER.variance(grid[[i]], like)).sqrt()
            assert float(student.factors[i, j].detach()) == pytest.approx(float(exact), rel=0.02, abs=2e-3)
    assert float((target.factors[0, -1].detach() - 0.5).abs()) == 0.0
    coarse = MapTable(steps)
    descended(Consistency(MapPairs(steps), Along(ddim, steps), target=None), coarse, cycles=100)
    assert float(coarse.factors[0, -1].detach()) == pytest.approx(
        float(step_factors(PROCESS, grid, ddim).prod()), rel=0.03, abs=2e-3
    )


def test_tuning_on_data_comes_near_the_exact_map_when_the_gap_is_small() -> None:
    class Scaled(Denoiser):
        """x0 = sqrt(V_min / V_t) scaled: exact at power 1/2, the denoiser at power 1."""

        def __init__(self) -> None:
            super().__init__(nn.Identity(), PROCESS, "x0")
            self.power = nn.Parameter(torch.ones(()).double())

        def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
            ratio = (STD**2 + PROCESS.t_min**2) / (STD**2 + t.square())
            return Estimate(ratio[:, None] ** self.power * xt)

    objective = KINDS["ect"](stages=10).build(PROCESS)  # type: ignore[attr-defined, call-arg]
    early, late = Scaled(), Scaled()
    descended(objective, late, cycles=150)
    first = KINDS["ect"](stages=1).build(PROCESS)  # type: ignore[attr-defined, call-arg]
    descended(first, early, cycles=60)
    powers = float(early.power.detach()), float(late.power.detach())
    assert abs(powers[1] - 0.5) < 0.1
    assert powers[0] - powers[1] > 0.2
