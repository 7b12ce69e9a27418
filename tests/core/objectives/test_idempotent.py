"""Idempotent distillation: projections are its solutions, and nothing else that is linear.

Setting: data N(0, s^2 P) on a k-dimensional subspace, source N(0, s^2 I). f = P matches the law, keeps data, and is
idempotent at once. On the trigonometric process with sigma_data = s a student sees clean states as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
import torch
from objective_toys import At, student_loss
from torch import Tensor, nn

from fewstep.engine import AssemblyError, assemble
from fewstep.objectives import Idempotence, dmd, idempotence_gap, sign
from fewstep.processes import Gaussian, edm, trig
from fewstep.protocol import Batch, Cond, Estimate, Key, Mix, Step
from fewstep.samplers import FewStep
from fewstep.testing.analytic import CovarianceTeacher
from fewstep.testing.exact import Exact
from fewstep.testing.linear import LinearStudent

SCALE = 1.5
PROCESS = trig(sigma_data=SCALE)
TIME = 0.8
STEP = Step(0, 10, Key(3))


class Linear(FewStep):
    """f(x) = A x, in one step."""

    def __init__(self, matrix: Tensor, process: Gaussian = PROCESS) -> None:
        super().__init__(nn.Identity(), process, "x0", (process.t_max,))
        self.matrix = nn.Parameter(matrix.clone())

    def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
        return Estimate(xt @ self.matrix.T)


class Law(Exact):
    """The exact denoiser of what a linear student makes: N(0, s^2 A A')."""

    def __init__(self, student: Linear) -> None:
        super().__init__(PROCESS)
        object.__setattr__(self, "student", student)

    student: Linear

    def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        matrix = self.student.matrix.detach()
        return CovarianceTeacher(PROCESS, SCALE**2 * matrix @ matrix.T).believe(xt, t, cond)


def projection(rank: int, size: int) -> Tensor:
    """Onto a subspace in general position."""
    basis, _ = torch.linalg.qr(Key(1).normal(torch.zeros(size, size, dtype=torch.float64)))
    return basis[:, :rank] @ basis[:, :rank].T


def scene(matrix: Tensor, target: Tensor) -> dict[str, Any]:
    student = Linear(matrix)
    teacher = CovarianceTeacher(PROCESS, SCALE**2 * target)
    return {"teacher": teacher, "student": student, "fake": Law(student)}


def data(target: Tensor, count: int = 64) -> Batch:
    noise = SCALE * Key(2).normal(torch.zeros(count, len(target), dtype=torch.float64))
    x = noise @ target.T
    return Batch(like=x, x=x)


@pytest.mark.parametrize(("rank", "size"), [(1, 2), (1, 3), (2, 4), (3, 5)])
def test_a_projection_matches_keeps_data_and_is_idempotent_at_once(rank: int, size: int) -> None:
    target = projection(rank, size)
    roles = scene(target, target)
    loss = student_loss(sign(At(TIME)), roles, data(target), Key(4))
    (slope,) = torch.autograd.grad(loss.total, [roles["student"].matrix])
    # The normalized direction is 0 / 0 kept away from 0 by its floor of 1e-5: rounding of 1e-16 is seen as 1e-11.
    assert float(slope.abs().max()) < 1e-9
    assert abs(float(loss.total.detach())) < 1e-9
    assert float(idempotence_gap(roles["student"], data(target), STEP).max()) < 1e-14


def test_a_rotated_projection_matches_the_law_and_is_not_idempotent() -> None:
    """The control: P R has the law of P, and score distillation is content with it."""
    target = projection(1, 2)
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    roles = scene(target @ quarter, target)
    alone, both = (
        torch.autograd.grad(
            student_loss(objective, roles, data(target), Key(4)).total, [roles["student"].matrix]
        )[0]
        for objective in (dmd(At(TIME)), sign(At(TIME)))
    )
    assert float(alone.abs().max()) < 1e-9
    assert float(both.abs().max()) > 0.5
    assert float(idempotence_gap(roles["student"], data(target), STEP).min()) > 0.9


@pytest.mark.parametrize("gain", [0.1, 0.4, 0.9, 1.3])
def test_a_scale_other_than_one_has_the_closed_form_loss(gain: float) -> None:
    """f = a: the loss is (a^2 - a)^2 E z^2; both calls learn by its derivative, the outer alone by 2 a^2 (a - 1) E z^2."""
    student = Linear(gain * torch.eye(3, dtype=torch.float64))
    batch = data(torch.eye(3, dtype=torch.float64))
    z = student.sample(batch, Step(0, 10, Key(5).at("sample"))).x.detach() / gain
    spread = float(z.square().mean())
    closed = {"both": 2 * (gain**2 - gain) * (2 * gain - 1), "outer": 2 * gain**2 * (gain - 1)}
    for learns, slope in closed.items():
        objective = Idempotence(reconstruction=0.0, learns=learns)  # type: ignore[arg-type]
        total = student_loss(objective, {"student": student}, batch, Key(5)).total
        (found,) = torch.autograd.grad(total, [student.matrix])
        assert float(total.detach()) == pytest.approx(gain**2 * (gain - 1) ** 2 * spread, rel=1e-12)
        assert float(found.trace()) == pytest.approx(slope * spread, rel=1e-12)
    assert float(idempotence_gap(student, batch, STEP).mean()) == pytest.approx(abs(gain - 1), rel=1e-12)


def test_a_source_of_another_scale_makes_the_terms_contradict_each_other() -> None:
    """Data of standard deviation d s from a source of s: matching asks for a = d, idempotence for a = 1."""
    target = 0.49 * torch.eye(2, dtype=torch.float64)
    roles = scene(0.7 * torch.eye(2, dtype=torch.float64), target)
    slopes = [
        torch.autograd.grad(
            student_loss(objective, roles, data(target), Key(4)).total, [roles["student"].matrix]
        )[0].trace()
        for objective in (dmd(At(TIME)), Idempotence(reconstruction=0.0))
    ]
    assert abs(float(slopes[0])) < 1e-9
    assert float(slopes[1]) < -0.2


@cache
def descended(method: str) -> Any:
    """A student after training by "dmd", or by "sign" in which "both" calls or the "outer" one learn."""
    objective = dmd(At(TIME)) if method == "dmd" else sign(At(TIME), again={"learns": method})
    target = projection(1, 3)
    roles = scene(0.5 * Key(8).normal(torch.zeros(3, 3, dtype=torch.float64)), target)
    optimizer = torch.optim.Adam(roles["student"].parameters(), lr=0.05)
    for i in range(400):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - i / 400)
        optimizer.zero_grad()
        student_loss(objective, roles, data(target), Key(6).at(i)).total.backward()
        optimizer.step()
    return roles["student"].requires_grad_(False)


def test_descent_ends_at_the_projection() -> None:
    student, target = descended("both"), projection(1, 3)
    assert float((student.matrix - target).abs().max()) < 0.05
    assert float(idempotence_gap(student, data(target), STEP).mean()) < 0.01


def test_matching_alone_finds_the_law_but_no_projection() -> None:
    student, target = descended("dmd"), projection(1, 3)
    assert float((student.matrix @ student.matrix.T - target).abs().max()) < 0.05
    assert float(idempotence_gap(student, data(target), STEP).mean()) > 0.3


def test_where_only_the_outer_call_learns_the_student_leaks_out_of_the_data() -> None:
    leak = torch.linalg.svdvals(descended("outer").matrix)[1]
    tight = torch.linalg.svdvals(descended("both").matrix)[1]
    assert float(leak) > 0.5
    assert float(tight) < 0.01


class Nearest(FewStep):
    """The nearest of a few points."""

    def __init__(self, points: Tensor) -> None:
        super().__init__(nn.Identity(), PROCESS, "x0", (PROCESS.t_max,))
        self.register_buffer("points", points)

    points: Tensor

    def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
        return Estimate(self.points[torch.cdist(xt, self.points).argmin(1)])


def test_the_nearest_point_of_a_mixture_of_points_is_idempotent_and_their_mean_is_not_kept() -> None:
    points = torch.tensor([[-2.0, 0.0], [1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    batch = Batch(like=points, x=points)
    kept = student_loss(Idempotence(), {"student": Nearest(points)}, batch, Key(8))
    assert float(kept.total) == 0.0
    mean = student_loss(Idempotence(), {"student": Nearest(points.mean(0, keepdim=True))}, batch, Key(8))
    assert float(mean.total) == pytest.approx(float(points.square().mean()))


def test_clean_states_enter_at_the_step_that_is_asked_for() -> None:
    seen: list[tuple[float, int]] = []

    class Told(Linear):
        def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
            seen.append((float(t[0]), int(cond.index[0])))  # type: ignore[union-attr, index]
            return super().forward(xt, t, cond)

    student = Told(torch.eye(2, dtype=torch.float64))
    student.times = (PROCESS.t_max, 0.3)
    batch = data(torch.eye(2, dtype=torch.float64), 4)
    list(Idempotence(at=-1, idempotence=0.0).loss(student_phase(), {"student": student}, batch, STEP))
    assert seen == [(0.3, 1)]


def student_phase() -> Any:
    return Idempotence().phases(0)[0]


def test_a_student_for_which_it_is_free_is_cautioned_against() -> None:
    """With the boundary form the least noisy step is the identity, whatever the network says."""
    process = edm(sigma_min=0.02, sigma_max=20.0, sigma_data=1.0)

    class Still(nn.Module):
        def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
            return 0.1 * x

    student = FewStep(Still(), process, "boundary", (20.0, 0.0201))
    batch = data(torch.eye(2, dtype=torch.float64))

    def said(at: int) -> list[str]:
        with torch.no_grad():
            return list(Idempotence(at=at).cautions({"student": student}, batch, STEP))

    assert "teaches nothing" in said(-1)[0]
    assert said(0) == []


def test_terms_that_ask_for_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="dmd alone"):
        Idempotence(idempotence=0.0, reconstruction=0.0)


def test_data_is_read_only_where_it_is_reconstructed() -> None:
    assert Idempotence().reads == {"x"}
    assert Idempotence(reconstruction=0.0).reads == frozenset()
    mix = sign(At(TIME), again={"reference": "extra.teacher"})
    assert isinstance(mix, Mix)
    assert mix.reads == {"extra.teacher"}
    assert [phase.name for phase in mix.phases(0)] == ["critic", "student"]


def test_a_student_that_cannot_be_asked_again_is_refused() -> None:
    class Once:
        def batch(self, index: int, key: Key) -> Batch:
            return data(torch.eye(2, dtype=torch.float64))

    make: Mapping[str, Any] = {
        "teacher": lambda: CovarianceTeacher(PROCESS, torch.eye(2)),
        "student": lambda: LinearStudent(PROCESS),
    }
    with pytest.raises(AssemblyError, match=r"Stepwise .*, but it has no ask, times"):
        assemble(sign(At(TIME), fake=None), make, Once(), {})
