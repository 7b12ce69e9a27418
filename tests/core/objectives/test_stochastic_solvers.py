"""Solvers with noise, flow maps with fresh noise, and second order with one call: as samplers and inside objectives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from flow_map_toys import STD, Every, Mapped, Table, drawn, slope, step_factors
from objective_toys import Listed
from torch import Tensor, nn

from fewstep.config.objectives import KINDS
from fewstep.objectives import Consistency, Sde
from fewstep.objectives import pair_solvers as one_step
from fewstep.processes import Gaussian, Product, ddpm, edm, flow, trig, vp
from fewstep.protocol import Batch, Cond, Estimate, Key, Step
from fewstep.samplers import FewStep, Gamma, ancestral, ddim, dpmpp_2m, flow_map, rule_for
from fewstep.samplers import Sde as SdeSampler
from fewstep.testing.analytic import GaussianTeacher

PROCESSES = {"edm": edm(sigma_max=10.0), "flow": flow(), "trig": trig(sigma_data=1.0), "vp": vp()}
GAMMAS = (0.0, 0.3, 0.7, 1.0)


@pytest.mark.parametrize(("eta", "quoted"), [(0.0, 0.029987), (0.5, 0.012478), (1.0, 0.000899)])
def test_the_mean_of_a_noisy_solver_has_the_closed_form_multiplier(eta: float, quoted: float) -> None:
    """(s^2 / (s^2 + T^2))^((1 + eta^2) / 2) at s = .6, T = 20, from a floor that is small enough."""
    process = edm(sigma_min=1e-5, sigma_max=20.0)
    found = float(step_factors(process, process.grid(4000), Sde(eta)).prod())
    closed = (STD**2 / (STD**2 + 400)) ** ((1 + eta**2) / 2)
    assert closed == pytest.approx(quoted, abs=5e-7)
    assert found == pytest.approx(closed, rel=2e-3)


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("steps", [1, 3, 17])
def test_with_full_noise_the_optimum_is_the_denoiser_on_every_grid(name: str, steps: int) -> None:
    process = PROCESSES[name]
    grid, teacher = process.grid(steps), GaussianTeacher(process, 0.0, STD)
    product = float(step_factors(process, grid, Sde(1.0)).prod())
    denoised = teacher(torch.ones(2, 1).double(), grid[[0, -1]]).x0
    assert product == pytest.approx(float(denoised[0] / denoised[1]), rel=1e-10)
    assert float(step_factors(process, grid, Sde(0.0)).prod()) == pytest.approx(
        float(step_factors(process, grid, one_step.ddim).prod()), rel=1e-12
    )


def mean_slope(gains: Tensor, process: Gaussian, steps: int, eta: float) -> float:
    """Gradient in expectation over data, noise and the solver's noise: eight points are exact for second moments."""
    signs = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    x, noise, fresh = (
        part.reshape(-1, 1).repeat(steps, 1) for part in torch.meshgrid(signs, signs, signs, indexing="ij")
    )
    key = Listed(7, values={"noise": noise, "solver": fresh})
    student = Table(process, process.grid(steps), gains)
    roles = {"teacher": GaussianTeacher(process, 0.0, STD), "student": student}
    objective = Consistency(Every(steps, each=8), Sde(eta), target=None)
    return slope(objective, roles, student.gains, STD * x, key=key)


@pytest.mark.parametrize("eta", [0.2, 1.0])
def test_consistency_over_noise_ends_at_the_mean_over_the_noise(eta: float) -> None:
    process, steps = edm(sigma_max=10.0), 6
    factors = step_factors(process, process.grid(steps), Sde(eta))
    gains = torch.cat([factors.flip(0).cumprod(0).flip(0), torch.ones(1).double()])
    assert mean_slope(gains, process, steps, eta) < 1e-12
    assert mean_slope(gains, process, steps, 0.0) > 1e-5


def test_substeps_use_noise_of_their_own() -> None:
    process, numbers = edm(), []

    def draw(number: int) -> Tensor:
        numbers.append(number)
        return torch.zeros(3, 2, dtype=torch.float64)

    teacher, t = GaussianTeacher(process, 0.0, STD), torch.full((3,), 4.0, dtype=torch.float64)
    calls: list[Tensor] = []
    believe = lambda x, at: calls.append(at) or teacher(x, at)  # noqa: E731
    Sde(0.5, 4)(process, believe, drawn(3, 2), t, t / 4, draw)
    assert numbers == [0, 1, 2, 3]
    assert [float(at[0]) for at in calls] == [4.0, 3.25, 2.5, 1.75]
    numbers.clear()
    one_step.Along(Sde(0.5, 2), 4)(process, lambda x, at: teacher(x, at), drawn(3, 2), t, t / 4, draw)
    assert len(numbers) == len(set(numbers)) > 1


def test_substeps_of_a_chain_end_at_whole_times() -> None:
    """Where there are more of them than times, some stand still."""
    process: Any = ddpm()
    teacher, calls = GaussianTeacher(process, 0.0, STD), []
    believe = lambda x, at: calls.append(at) or teacher(x, at)  # noqa: E731
    t = torch.tensor([100.0, 999.0, 3.0], dtype=torch.float64)
    s = t - torch.tensor([5.0, 999.0, 1.0], dtype=torch.float64)
    x = Sde(0.0, 3)(process, believe, drawn(3, 2), t, s, lambda number: torch.zeros(3, 2).double())
    assert all(torch.equal(at, at.round()) for at in calls)
    assert torch.stack(calls).tolist() == [[100, 999, 3], [98, 666, 3], [97, 333, 2]]
    assert bool(x.isfinite().all())


def test_a_caution_is_given_for_much_noise_alone() -> None:
    def cautions(**kind: Any) -> list[str]:
        objective = KINDS["scott"](**kind).build(edm())  # type: ignore[attr-defined]
        student = FewStep(nn.Identity(), edm(), "boundary", (80.0,))
        return list(objective.cautions({"student": student}, None, None))

    assert cautions() == []
    (told,) = cautions(eta=0.6)
    assert "eta = 0.6" in told
    assert cautions(eta=0.6, adversarial=0.1) == []


def test_an_adversarial_term_stands_beside_the_maps() -> None:
    mixed = KINDS["scott"](eta=0.6, adversarial=0.1).build(edm())  # type: ignore[attr-defined]
    assert {name: weight for name, (weight, _) in mixed.terms.items()} == {"maps": 1.0, "adversarial": 0.1}
    assert set(mixed.roles) == {"teacher", "student", "target", "disc"}
    assert [phase.updates for phase in mixed.phases(0)] == [("disc",), ("student",)]
    maps = KINDS["ctm"](adversarial=0.1).build(edm())  # type: ignore[attr-defined]
    assert set(maps.terms) == {"maps", "denoising", "adversarial"}
    assert KINDS["tscd"](adversarial=0.1).build(edm()).terms["maps"][1].accompanied  # type: ignore[attr-defined]


def test_the_noisy_jump_is_the_jump_and_the_posterior_at_its_ends() -> None:
    leaves = Product({"a": edm(), "b": edm()})
    x, z = ({"a": drawn(4, 2, seed=i), "b": drawn(4, 3, seed=i)} for i in (1, 2))
    est = Estimate({"a": drawn(4, 2, seed=3), "b": drawn(4, 3, seed=3)})
    t, s = torch.full((4,), 5.0).double(), torch.full((4,), 2.0).double()
    calm, wild = (leaves.stochastic_jump(x, est, t, s, z, eta) for eta in (0.0, 1.0))
    for name in ("a", "b"):
        assert torch.allclose(calm[name], leaves.jump(x, est, t, s)[name], atol=1e-13)
        assert torch.allclose(wild[name], leaves.posterior(x, est, t, s, z)[name], atol=1e-13)
    assert not torch.allclose(calm["a"], wild["a"], atol=1e-2)


@pytest.mark.parametrize("name", PROCESSES)
def test_a_quieter_time_has_its_share_of_the_noise(name: str) -> None:
    process = PROCESSES[name]
    s = process.grid(5)[1:-1]
    ratio = lambda t: process.sigma(t) / process.alpha(t)  # noqa: E731
    for share in (1.0, 0.5, 1e-3):
        assert torch.allclose(ratio(process.quieter(s, share)), share * ratio(s), rtol=1e-9)
    assert float(process.quieter(s, 0.0).max()) < 1e-12


def walked(sampler: Any, model: Any, process: Gaussian, steps: int, key: Key, x: Tensor) -> list[Any]:
    return list(sampler(model, x, process.grid(steps), Cond(), key=key))


def corners(steps: int) -> tuple[Tensor, Key]:
    """All signs of the initial state and of each step's noise: exact for second moments of linear maps."""
    signs = [torch.tensor([-1.0, 1.0], dtype=torch.float64)] * (steps + 1)
    first, *rest = (part.reshape(-1, 1) for part in torch.meshgrid(*signs, indexing="ij"))
    return first, numbered(rest)


def numbered(noises: Sequence[Tensor]) -> Listed:
    """Hands out one listed noise for each step."""
    values: Any = {name: noise for i, noise in enumerate(noises) for name in (i, str(i))}
    return Listed(0, values=values)


def mean_square(x: Tensor) -> float:
    return float(x.detach().square().mean())


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_fresh_noise_after_exact_maps_keeps_every_marginal(name: str, gamma: float) -> None:
    process = PROCESSES[name]
    teacher = GaussianTeacher(process, 0.0, STD)
    grid, (first, key) = process.grid(4), corners(4)
    var = lambda t: float(teacher.variance(t.reshape(1), first[:1]))  # noqa: E731
    states = walked(Gamma(gamma), Mapped(teacher), process, 4, key, first * var(grid[0]) ** 0.5)
    assert len(states) == 5
    for state, t in zip(states[:-1], grid[1:], strict=True):
        assert mean_square(state.x) == pytest.approx(var(t), rel=1e-9)
    clean = var(grid[-1]) / float(process.alpha(grid[-1])) ** 2
    assert mean_square(states[-1].x) == pytest.approx(clean, rel=1e-9)


def test_fresh_noise_after_inexact_maps_does_not() -> None:
    process = PROCESSES["edm"]
    teacher, (first, key) = GaussianTeacher(process, 0.0, STD), corners(4)

    class Chord(Mapped):
        def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
            return Estimate(teacher(xt, t).x0)

    states = walked(Gamma(0.3), Chord(teacher), process, 4, key, first * 10.0)
    assert abs(mean_square(states[-1].x) / STD**2 - 1) > 0.1


@pytest.mark.parametrize(("gamma", "share"), [(0.0, 1.0), (0.6, 0.8), (0.8, 0.6)])
def test_maps_land_at_their_share_of_the_next_noise(gamma: float, share: float) -> None:
    process, landings = PROCESSES["edm"], []

    class Seen(Mapped):
        def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
            landings.append(float(asked["to"][0]))
            return super().forward(xt, t, cond, **asked)

    walked(Gamma(gamma), Seen(GaussianTeacher(process, 0.0, STD)), process, 4, Key(3), drawn(2, 1))
    _, *between, last = process.grid(4).tolist()
    assert landings == pytest.approx([*(share * t for t in between), last], rel=1e-9)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("steps", [1, 3])
def test_students_walk_as_the_samplers_do(gamma: float, steps: int) -> None:
    process, noise = PROCESSES["edm"], drawn(6, 2)
    mapped = Mapped(GaussianTeacher(process, 0.2, STD))
    net = nn.Identity()
    net.accepts = frozenset({"to"})  # type: ignore[assignment]

    class Student(FewStep):
        def forward(self, xt: Tensor, t: Tensor, cond: Cond | None = None, **asked: Any) -> Estimate:
            return mapped(xt, t, cond, **asked)

    times = process.grid(steps)[:-1].tolist()
    student = Student(net, process, "x0", times, rule="gamma", gamma=gamma)
    rolled = student.sample(Batch(like=noise), Step.inference(Key(3)), noise=noise)
    own = numbered([process.noise(Batch(like=noise), Key(3).at("roll", i)) for i in range(steps)])
    expected = walked(Gamma(gamma), mapped, process, steps, own, 10 * noise)
    assert torch.allclose(rolled.x, expected[-1].x, atol=1e-12)
    exact = walked(flow_map, mapped, process, steps, Key(0), 10 * noise)[-1].x
    assert torch.allclose(rolled.x, exact, atol=1e-9) == (gamma == 0.0 or steps == 1)


def test_a_flow_map_lands_where_the_exact_ode_ends() -> None:
    process, noise = PROCESSES["vp"], drawn(6, 2)
    teacher = GaussianTeacher(process, 0.2, STD)
    top, end = (torch.full((6,), t, dtype=torch.float64) for t in (process.t_max, process.t_min))
    for steps in (1, 4):
        found = walked(flow_map, Mapped(teacher), process, steps, Key(0), process.corrupt(None, noise, top))[
            -1
        ].x
        exact = teacher.flow_map(process.corrupt(None, noise, top), top, end) / process.alpha(end)[:, None]
        assert torch.allclose(found, exact, atol=1e-12)


def test_maps_need_a_network_that_is_told_where_to_land() -> None:
    with pytest.raises(ValueError, match="declare `to`"):
        FewStep(nn.Identity(), edm(), "boundary", (80.0,), rule="flow")
    assert rule_for(KINDS["ctm"]().build(edm())) == "flow"  # type: ignore[attr-defined]
    assert rule_for(KINDS["consistency"]().build(edm()), "ddim") == "ddim"  # type: ignore[attr-defined]


def test_students_tell_their_network_the_guidance_scale() -> None:
    told: list[Any] = []

    class Net(nn.Module):
        accepts = frozenset({"guidance"})

        def forward(self, x: Tensor, time: Tensor, cond: Cond, guidance: Tensor | None = None) -> Tensor:
            told.append(guidance)
            return x

    batch = Batch(like=torch.zeros(3, 2))
    FewStep(Net(), edm(), "boundary", (80.0,), guidance=4.0).sample(batch, Step.inference(Key(0)))
    FewStep(Net(), edm(), "boundary", (80.0,)).sample(batch, Step.inference(Key(0)))
    assert told[0].tolist() == [4.0, 4.0, 4.0]
    assert told[1] is None


def test_the_noisy_sampler_is_ddim_and_the_ancestral_one_at_its_ends() -> None:
    process, x = PROCESSES["edm"], 10 * drawn(5, 2)
    teacher = GaussianTeacher(process, 0.2, STD)
    calm, wild = (walked(SdeSampler(eta), teacher, process, 5, Key(4), x) for eta in (0.0, 1.0))
    plain, drawn_ = (walked(solver, teacher, process, 5, Key(4), x) for solver in (ddim, ancestral))
    assert torch.allclose(calm[-1].x, plain[-1].x, atol=1e-11)
    assert torch.allclose(wild[-2].x, drawn_[-1].x, atol=1e-11)
    assert not torch.allclose(calm[-1].x, wild[-1].x, atol=1e-2)


@pytest.mark.parametrize("name", ["edm", "vp", "flow"])
def test_extrapolated_estimates_are_of_second_order(name: str) -> None:
    process = {"edm": edm(sigma_min=0.1, sigma_max=5.0), "vp": vp(t_min=0.05), "flow": flow(t_min=0.05)}[name]
    teacher, x = GaussianTeacher(process, 0.0, STD), torch.ones(1, 1, dtype=torch.float64)
    top = process.t_max if name != "flow" else 0.95

    def error(solver: Any, steps: int) -> float:
        times = torch.linspace(math.log(top), math.log(process.t_min), steps + 1, dtype=torch.float64).exp()
        state = list(solver(teacher, x, times, Cond()))[-2].x
        return abs(float(state - teacher.flow_map(x, times[:1], times[-1:])))

    orders = [math.log2(error(solver, 40) / error(solver, 80)) for solver in (ddim, dpmpp_2m)]
    assert orders[0] == pytest.approx(1, abs=0.15)
    assert orders[1] == pytest.approx(2, abs=0.25)
    assert error(dpmpp_2m, 40) < 0.2 * error(ddim, 40)
