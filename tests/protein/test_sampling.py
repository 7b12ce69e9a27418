"""How backbones are drawn: the published grid, Proteina's sampler on Gaussians, labels, restarts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from fewstep.objectives import SiD
from fewstep.processes import Uniform, flow
from fewstep.protocol import Batch, Centered, Cond, Denoiser, Estimate, Guided, Key, State, Step
from fewstep.samplers import FewStep
from fewstep_protein.networks.chain import ChainNet
from fewstep_protein.sampling.roll import roll_sampler, roll_times, undistilled
from fewstep_protein.sampling.sde import FlowSde, log_grid
from fewstep_protein.sid_backbone.conditioning import (
    PartlyTold,
    Until,
    asked_for,
    levels_told,
    told_to,
    unlabelled,
)
from fewstep_protein.sid_backbone.restarts import Renewed, WarmRestarts
from fewstep_protein.structures.sources import blank

GOLDEN = {
    1: (0.37,),
    4: (0.2921, 0.8282, 0.9588, 0.9900),
    8: (0.2921, 0.6154, 0.7911, 0.8865, 0.9376, 0.9661, 0.9816, 0.9900),
    16: (
        0.2921,
        0.4691,
        0.5973,
        0.6980,
        0.7735,
        0.8282,
        0.8712,
        0.9034,
        0.9267,
        0.9450,
        0.9588,
        0.9687,
        0.9766,
        0.9824,
        0.9867,
        0.9900,
    ),
}
"""Start times of the distilled Proteina, in its direction (1 = data)."""


@pytest.mark.parametrize("steps", GOLDEN)
def test_a_roll_starts_where_the_distilled_proteina_does(steps: int) -> None:
    assert tuple(round(1 - t, 4) for t in roll_times(steps)) == GOLDEN[steps]


def test_twenty_steps_end_where_sixteen_do() -> None:
    assert len(set(roll_times(20))) == 20
    assert roll_times(20)[0] == roll_times(16)[0]
    assert roll_times(20)[-1] == pytest.approx(0.01)


@pytest.mark.parametrize(("steps", "finest"), [(0, 0.01), (400, 0.01), (4, 0.9), (4, 0.0), (4, 1.5)])
def test_a_roll_that_the_grid_does_not_have_is_refused(steps: int, finest: float) -> None:
    with pytest.raises(ValueError, match="a roll needs at least one step"):
        roll_times(steps, finest)
    with pytest.raises(ValueError, match="a roll needs at least one step"):
        roll_sampler(finest=finest).with_steps(steps)


class GaussianTeacher(nn.Module):
    """The exact denoiser of independent Gaussians with these variances (P,) on states (B, P, 1)."""

    def __init__(self, variance: Tensor) -> None:
        super().__init__()
        self.variance = variance[:, None]
        self.process = flow(t_min=0.01)

    def forward(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Estimate:
        alpha, sigma = (1 - t)[:, None, None], t[:, None, None]
        return Estimate(alpha * self.variance / (alpha**2 * self.variance + sigma**2) * x)


@pytest.mark.parametrize("gamma", [1.0, 0.45, 0.2])
def test_the_sampler_of_proteina_gives_a_gaussian_gamma_times_its_variance(gamma: float) -> None:
    """Modes of a Rouse chain of 16 beads; 3000 draws: 2.6 percent standard error for a mode, 0.7 for all."""
    mode = torch.arange(1, 16, dtype=torch.float64)
    teacher = GaussianTeacher(0.38**2 / 12 / torch.sin(math.pi * mode / 32) ** 2)
    noise = Key(1).normal(torch.zeros(3000, 15, 1, dtype=torch.float64))
    *_, last = FlowSde(gamma)(teacher, noise, log_grid(teacher.process, 100), Cond(), key=Key(2))
    ratio = last.x.square().mean((0, 2)) / teacher.variance[:, 0]
    assert float(ratio.mean()) == pytest.approx(gamma, rel=0.03)
    assert float(ratio.min()) > 0.9 * gamma
    assert float(ratio.max()) < 1.15 * gamma


def test_without_noise_and_pull_the_sampler_follows_the_flow() -> None:
    teacher = GaussianTeacher(torch.tensor([2.0, 0.1], dtype=torch.float64))
    noise = Key(1).normal(torch.zeros(5, 2, 1, dtype=torch.float64))
    *_, last = FlowSde(quiet=2.0)(teacher, noise, log_grid(teacher.process, 2000), Cond(), key=Key(2))
    torch.testing.assert_close(last.x, noise * teacher.variance.sqrt(), rtol=2e-2, atol=0)


def test_its_grid_ends_at_the_ends_and_becomes_denser_towards_data() -> None:
    grid = log_grid(flow(t_min=0.005), 8)
    assert (float(grid[0]), float(grid[-1])) == (1.0, 0.005)
    assert bool((grid.diff().diff() > 0).all())


@pytest.fixture
def roles() -> dict[str, FewStep]:
    """A teacher's network as student and as teacher."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = ChainNet(16, 1, 1, 2, sigma_data=0.5, labels=(4, 0, 0))
        for parameter in net.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
        for table in net.labels:
            table.weight.data[0] = 0
    process = flow(t_min=0.005, sigma_data=0.5, geometry=Centered())
    return {
        "student": FewStep(net, process, "edm", roll_times(4)),
        "teacher": Denoiser(net, process, "edm"),
    }


def drawn(sampler: object, roles: dict[str, FewStep], batch: Batch | None = None) -> list[State]:
    batch = blank(torch.tensor([9, 12])) if batch is None else batch
    with torch.no_grad():
        return list(sampler.fn(roles, batch, Step.inference(Key(4))))  # type: ignore[attr-defined]


def test_a_student_asked_for_other_steps_walks_the_grid_of_such_a_student(roles: dict[str, FewStep]) -> None:
    for steps in (1, 4, 8, 16, 20):
        visited = drawn(roll_sampler().with_steps(steps), roles)
        assert [round(float(s.t[0]), 9) for s in visited[:-1]] == [round(t, 9) for t in roll_times(steps)]
    assert roles["student"].times == roll_times(4)


def test_an_undistilled_student_is_its_teacher_rolled_over_the_same_times(roles: dict[str, FewStep]) -> None:
    """One step each, since later noise has other keys."""
    one = drawn(roll_sampler().with_steps(1), roles)[-1].x
    torch.testing.assert_close(drawn(undistilled("teacher", 1), roles)[-1].x, one)


def test_a_colder_roll_of_any_student_begins_smaller(roles: dict[str, FewStep]) -> None:
    batch = blank(torch.tensor([9, 12]))
    cold = replace(batch, extra={"noise_scale": 0.45})
    first, small = (drawn(roll_sampler(), roles, b)[0].x for b in (batch, cold))
    torch.testing.assert_close(small, 0.45 * first)


def test_labels_are_told_in_the_published_shares_and_from_the_top() -> None:
    mark = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shares = torch.bincount(levels_told(mark), minlength=4) / 20_000
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.1, 0.15, 0.25]), atol=0.012, rtol=0)
    full = Cond({"cath": torch.tensor([[3, 2, 5]] * 4)})
    told = told_to(full, torch.arange(4)).data["cath"].tolist()
    assert told == [[0, 0, 0], [3, 0, 0], [3, 2, 0], [3, 2, 5]]


class Labelled:
    """Requests that all have labels 2, 1, 1."""

    def batch(self, index: int, key: Key) -> Batch:
        return Batch(torch.zeros(64, 8, 3), cond=Cond({"cath": torch.tensor([[2, 1, 1]] * 64)}))


def test_the_same_batch_of_the_same_run_is_told_the_same() -> None:
    source = PartlyTold(Labelled())
    first, again, other = (source.batch(i, Key(5)).cond.data["cath"] for i in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_asking_for_a_class_changes_what_is_drawn_and_its_index_zero_does_not(
    roles: dict[str, FewStep],
) -> None:
    free = drawn(roll_sampler(), roles)[-1].x
    torch.testing.assert_close(drawn(asked_for(roll_sampler(), (0, 0, 0)), roles)[-1].x, free)
    assert not torch.allclose(drawn(asked_for(roll_sampler(), (1, 0, 0)), roles)[-1].x, free)


def test_guidance_is_w_times_itself_and_the_rest_early_or_unlabelled(roles: dict[str, FewStep]) -> None:
    """Geffner et al. 2025 eq. 6: w D + (1 - w) (r D_early + (1 - r) D_unlabelled)."""
    teacher = roles["teacher"]
    early = Denoiser(ChainNet(16, 1, 1, 2, sigma_data=0.5, labels=(4, 0, 0)), teacher.process, "edm")
    cond = Cond({"cath": torch.tensor([[1, 0, 0]] * 2)})
    x, t = torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(1)), torch.tensor([0.3, 0.6])
    with torch.no_grad():
        itself, weak, free = (
            m(x, t, c).x0 for m, c in ((teacher, cond), (early, cond), (teacher, unlabelled(cond)))
        )
        for w, r in ((2.0, 0.0), (2.0, 1.0), (1.5, 0.4), (1.0, 0.5)):
            found = Guided(teacher, w, unlabelled, weak=early, share=r)(x, t, cond).x0
            expected = w * itself + (1 - w) * (r * weak + (1 - r) * free)
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_an_early_checkpoint_follows_and_then_stands_still() -> None:
    decay = Until(0.25, 0.9)
    assert [decay(Step(i, 8, Key(0))) for i in (0, 1, 2, 7)] == [0.9, 0.9, 1.0, 1.0]


def test_warm_restarts_fall_to_the_floor_and_begin_again_after_twice_as_long() -> None:
    ramp = WarmRestarts(1.0, 0.1, 10)
    at = {i: ramp(Step(i, 100, Key(0))) for i in (0, 5, 9, 10, 20, 29, 30, 69, 70)}
    assert [at[i] for i in (0, 10, 30, 70)] == [1.0] * 4
    assert (at[5], at[20]) == (pytest.approx(0.55), pytest.approx(0.55))
    assert all(at[i] < 0.14 for i in (9, 29, 69))


def test_a_student_s_restarts_begin_again_with_the_fake() -> None:
    ramp = WarmRestarts(1.0, 0.1, 10, every=15)
    values = [ramp(Step(i, 100, Key(0))) for i in (14, 15, 25, 30)]
    assert values[1:] == [1.0, 1.0, 1.0]
    assert values[0] < 1


def test_a_renewed_fake_has_a_lifetime_and_nothing_else_changes() -> None:
    base = SiD(Uniform(0.1, 0.9))
    renewed = Renewed(base, "fake", 50)
    assert renewed.roles["fake"] == replace(base.roles["fake"], reset_every=50)
    assert {n: r for n, r in renewed.roles.items() if n != "fake"} == {
        n: r for n, r in base.roles.items() if n != "fake"
    }
    assert Renewed(base, "nobody", 50).roles == base.roles
    assert (renewed.reads, renewed.phases(0)) == (base.reads, base.phases(0))
