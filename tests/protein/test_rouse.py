"""The Rouse chain against its closed forms, and SiD on it with controls that fail."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fewstep.config.objectives.rounds import rounds
from fewstep.engine import execute
from fewstep.errors import FewstepError
from fewstep.protocol import Centered, Cond, Key, Loss, Site, Step
from fewstep.samplers import FewStep, heun
from fewstep.testing.analytic import RouseTeacher, rouse_modes
from fewstep_protein.rouse import recipe
from fewstep_protein.rouse.chain import BOND, covariance, draw_chains
from fewstep_protein.rouse.config import RouseConfig, RouseRequest
from fewstep_protein.rouse.network import ModeNet
from fewstep_protein.rouse.report import sample_covariance, wasserstein
from fewstep_protein.sampling.roll import roll_times


def test_the_covariance_has_the_bond_length_and_gyration_radius_of_the_formulas() -> None:
    for beads in (5, 16, 40):
        exact = covariance(beads)
        step = exact.diagonal()[1:] + exact.diagonal()[:-1] - 2 * exact.diagonal(1)
        torch.testing.assert_close(
            3 * step, torch.full((beads - 1,), BOND**2, dtype=torch.float64), atol=1e-12, rtol=1e-9
        )
        radius = 3 * exact.diagonal().mean()
        assert float(radius) == pytest.approx(BOND**2 * (beads**2 - 1) / (6 * beads), rel=1e-9)
        torch.testing.assert_close(exact.sum(0), torch.zeros(beads).double(), atol=1e-12, rtol=0)


def test_drawn_chains_have_the_exact_covariance() -> None:
    chains = draw_chains([8] * 20_000, 10, Key(0).normal(torch.zeros(20_000, 10, 3)))
    assert float(chains[:, 8:].abs().max()) == 0
    assert float(wasserstein(sample_covariance(chains[:, :8]))) < 0.01


def test_the_distance_of_a_scaled_gaussian_is_its_formula() -> None:
    exact = covariance(12)
    assert float(wasserstein(exact)) == pytest.approx(0, abs=1e-6)
    assert float(wasserstein(0.49 * exact)) == pytest.approx(0.3, abs=1e-6)


def test_the_network_is_the_exact_denoiser_of_every_length_in_a_batch() -> None:
    config = RouseConfig(lengths=(12, 16))
    mine = recipe.make_teacher(config).double()
    exact = RouseTeacher(recipe.make_process(), BOND)
    mask = (torch.arange(16)[None] < torch.tensor([12, 16, 12])[:, None])[..., None]
    x = Centered(mask=mask).project(Key(1).normal(torch.zeros(3, 16, 3, dtype=torch.float64)))
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    found, wanted = mine(x, t, Cond(mask=mask)).x0, exact(x, t, Cond(mask=mask)).x0
    torch.testing.assert_close(found, wanted, atol=1e-7, rtol=1e-6)


def test_a_padded_chain_is_denoised_as_if_it_were_alone() -> None:
    teacher = recipe.make_teacher(RouseConfig(lengths=(12, 16))).double()
    mask = (torch.arange(16) < 12)[None, :, None]
    x = Centered(mask=mask).project(Key(1).normal(torch.zeros(1, 16, 3, dtype=torch.float64)))
    t = torch.tensor([0.4], dtype=torch.float64)
    padded = teacher(x, t, Cond(mask=mask)).x0
    torch.testing.assert_close(padded[:, :12], teacher(x[:, :12], t, Cond()).x0, atol=1e-12, rtol=1e-12)


def test_an_unknown_length_is_refused_with_the_known_ones() -> None:
    teacher = recipe.make_teacher(RouseConfig(lengths=(12, 16)))
    with pytest.raises(ValueError, match=r"knows lengths \(12, 16\), got \[9\]"):
        teacher(torch.zeros(1, 9, 3), torch.tensor([0.5]).double(), Cond())


def test_the_geometric_times_are_those_of_the_distilled_proteina() -> None:
    found = [round(1 - t, 4) for t in roll_times(8)]
    assert found == pytest.approx([0.2921, 0.6154, 0.7911, 0.8865, 0.9376, 0.9661, 0.9816, 0.99], abs=1.5e-3)


def roll_of(net: torch.nn.Module, config: RouseConfig, beads: int, scale: float = 1.0) -> list[Tensor]:
    """Exact mode variances of every prefix of a linear student's roll."""
    process, times = recipe.make_process(), roll_times(config.steps, config.finest)
    row = torch.tensor([config.lengths.index(beads)])
    gains = [
        net.gain(torch.tensor([t]).double(), torch.tensor([k]), row)[0, : beads - 1].detach()
        for k, t in enumerate(times)
    ]
    variance, found = torch.zeros_like(gains[0]), []
    for t, gain in zip(torch.tensor(times).double(), gains, strict=True):
        # Renoise to time t, then multiply by the gain; at first there is no signal.
        variance = gain.square() * (
            (scale * process.sigma(t)).square() + process.alpha(t).square() * variance
        )
        found.append(variance)
    return found


def exact_distance(net: torch.nn.Module, config: RouseConfig, beads: int) -> float:
    """Normalized W2 of the last step, from the weights alone."""
    exact, _ = rouse_modes(beads, BOND)
    gap = roll_of(net, config, beads)[-1].sqrt() - exact.sqrt()
    return math.sqrt(float(gap.square().sum() / exact.sum()))


def fresh(config: RouseConfig) -> FewStep:
    """A student before any training."""
    times = roll_times(config.steps, config.finest)
    return recipe.make_student(config, rounds(config.objective, recipe.make_process(), times)[0])


def test_a_roll_of_the_student_has_the_variances_of_the_recursion() -> None:
    config = RouseConfig(lengths=(8,), steps=3)
    student = fresh(config)
    batch = recipe.request(config, RouseRequest(), 20_000, Key(0))
    made = student.sample(batch, Step.inference(Key(4))).x
    _, basis = rouse_modes(8, BOND)
    found = torch.einsum("np,bnc->bpc", basis, made.double()).square().mean((0, 2))
    torch.testing.assert_close(found, roll_of(student.net, config, 8)[-1], rtol=0.03, atol=0)


def test_a_noise_scale_multiplies_every_variance_by_its_square() -> None:
    config = RouseConfig(lengths=(16,), steps=8)
    net = fresh(config).net
    for full, cold in zip(roll_of(net, config, 16), roll_of(net, config, 16, 0.45), strict=True):
        torch.testing.assert_close(cold, 0.2025 * full, rtol=1e-9, atol=0)


@pytest.mark.parametrize(("steps", "expected"), [(1, 0.654), (4, 0.577), (16, 0.358)])
def test_the_undistilled_teacher_is_far_from_the_chain(steps: int, expected: float) -> None:
    config = RouseConfig(lengths=(16,), steps=steps)
    assert exact_distance(recipe.make_teacher(config).net, config, 16) == pytest.approx(expected, abs=2e-3)


def distilled(tmp_path: Path, **settings: object) -> tuple[torch.nn.Module, RouseConfig]:
    config = RouseConfig(lengths=(8,), batch=128, **settings)
    site = Site(key=Key(config.seed), cache=tmp_path)
    return execute(recipe.build(config, site), site)["student"].net, config


# Normalized W2 of the last step, from the weights, seeds 0 to 4: .0293 .0317 .0348 .0293 .0355; undistilled .65.
def test_a_student_of_one_step_reaches_the_chain(tmp_path: Path) -> None:
    net, config = distilled(tmp_path, steps=1, updates=200, rate=0.1, fake_rate=0.15)
    assert exact_distance(net, config, 8) < 0.06
    untouched = fresh(config).net
    assert exact_distance(untouched, config, 8) > 0.3


def test_a_run_is_repeated_bit_by_bit(tmp_path: Path) -> None:
    first, _ = distilled(tmp_path, steps=2, updates=5)
    second, _ = distilled(tmp_path, steps=2, updates=5)
    torch.testing.assert_close(first.log_variance, second.log_variance, atol=0, rtol=0)


def test_a_length_that_a_run_does_not_know_is_refused_with_the_known_ones() -> None:
    with pytest.raises(FewstepError, match=r"no chain of 20 beads\n.*12, 16"):
        recipe.request(RouseConfig(), RouseRequest(length=20), 2, Key(0))


def test_a_request_for_no_chain_is_refused() -> None:
    with pytest.raises(FewstepError, match="0 chains were asked for"):
        recipe.request(RouseConfig(), RouseRequest(), 0, Key(0))


def test_contenders_whose_times_are_fixed_offer_no_choice_of_steps() -> None:
    contenders = recipe.product(RouseConfig()).contenders
    assert [name for name, one in contenders.items() if one.with_steps is None] == [
        "student",
        "teacher_fewstep",
    ]


@torch.no_grad()
def test_told_where_to_land_the_network_is_the_exact_flow_map() -> None:
    teacher = recipe.make_teacher(RouseConfig(lengths=(12,))).double()
    process = recipe.make_process()
    x = Centered().project(Key(1).normal(torch.zeros(2, 12, 3, dtype=torch.float64)))

    def moved(x: Tensor, *times: float) -> Tensor:
        for pair in itertools.pairwise(times):
            t, s = (torch.full((2,), time, dtype=torch.float64) for time in pair)
            x = process.jump(x, teacher(x, t, to=s), t, s)
        return x

    torch.testing.assert_close(moved(x, 0.9, 0.1), moved(x, 0.9, 0.4, 0.1), atol=1e-12, rtol=1e-9)
    walk = list(heun(teacher, x, torch.linspace(0.9, 0.1, 401, dtype=torch.float64), Cond()))
    torch.testing.assert_close(walk[-2].x, moved(x, 0.9, 0.1), atol=1e-4, rtol=0)
    t = torch.tensor([0.9, 0.2], dtype=torch.float64)
    torch.testing.assert_close(teacher(x, t, to=t).x0, teacher(x, t).x0)


# The identities of the exact chain ------------------------------------------------------------------------------------


def exact_fake(student: FewStep, config: RouseConfig) -> torch.nn.Module:
    """The fake that knows the law of every prefix of the student; with ``fake=shared`` that of their mixture's variance."""
    fake = recipe.make_fake(config).requires_grad_(False)
    beads = config.lengths[0]
    laws = torch.stack(roll_of(student.net, config, beads))
    laws = laws.mean(0, keepdim=True).expand_as(laws) if config.fake == "shared" else laws
    fake.net.log_variance[:, 0, : beads - 1] = laws.log()
    return fake


def sid(config: RouseConfig, student: FewStep, fake: torch.nn.Module, index: int, alpha: float = 1.0) -> Loss:
    """The student's loss by SiD on the batch of this index."""
    objective = RouseConfig(
        objective={
            "kind": "sid",
            "alpha": alpha,
            "normalize": False,
            "weight": "one",
            "times": {"low": 0.02, "high": 0.98},
        }
    ).objective.build(recipe.make_process())
    phase = next(phase for phase in objective.phases(0) if "student" in phase.updates)
    roles = {"teacher": recipe.make_teacher(config).requires_grad_(False), "student": student, "fake": fake}
    batch = recipe.Chains(config.lengths, config.batch).batch(index, Key(0))
    return objective.loss(phase, roles, batch, Step(index, 10_000, Key(config.seed).at(index)))


def distilled_exactly(config: RouseConfig, student: FewStep) -> FewStep:
    """The student after SiD with a fake that is exact before every update."""
    learned = [weight for weight in student.net.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(learned, config.rate, betas=(0.9, 0.99))
    for i in range(config.updates):
        optimizer.param_groups[0]["lr"] = config.rate * (1 - i / config.updates)
        loss = sid(config, student, exact_fake(student, config), i)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    return student


def prefix_distances(net: torch.nn.Module, config: RouseConfig) -> list[float]:
    """Normalized W2 of every prefix of the roll."""
    beads = config.lengths[0]
    exact, _ = rouse_modes(beads, BOND)
    gaps = [variance.sqrt() - exact.sqrt() for variance in roll_of(net, config, beads)]
    return [math.sqrt(float(gap.square().sum() / exact.sum())) for gap in gaps]


class FreeGains(ModeNet):
    """A student whose gain of each mode in each step is any number; :class:`ModeNet` cannot amplify what it is given."""

    def __init__(self, config: RouseConfig) -> None:
        """Start with the teacher's gains."""
        super().__init__(recipe.make_process(), config.lengths, config.steps)
        times = torch.tensor(roll_times(config.steps, config.finest), dtype=torch.float64)
        which = torch.arange(config.steps)
        with torch.no_grad():
            gains = super().gain(times, which, torch.zeros_like(which))
        self.log_variance.requires_grad_(False)
        self.log_gain = torch.nn.Parameter(gains.log().float())

    def gain(self, t: Tensor, step: Tensor, row: Tensor) -> Tensor:
        """(B, modes)."""
        return self.log_gain[step].to(t.dtype).exp()


# Measured: .00005.
def test_with_an_exact_fake_a_student_of_one_step_reaches_the_chain() -> None:
    config = RouseConfig(lengths=(16,), steps=1, batch=64, updates=200, rate=0.05)
    student = distilled_exactly(config, fresh(config))
    assert exact_distance(student.net, config, 16) < 0.002


@pytest.mark.slow
def test_with_an_exact_fake_a_student_of_four_steps_reaches_the_chain() -> None:
    config = RouseConfig(lengths=(8,), steps=4, batch=64, updates=800, rate=0.1)
    student = distilled_exactly(config, fresh(config))
    assert exact_distance(student.net, config, 8) < 0.002


# The farthest prefix after 300 updates, seeds 0 and 1: .09 and .10 with a fake that knows the step, .58 and .56 without.
@pytest.mark.parametrize(("fake", "low", "high"), [("per-step", 0.0, 0.2), ("shared", 0.3, 1.0)])
def test_a_fake_that_does_not_know_the_step_leads_students_with_free_gains_astray(
    fake: str, low: float, high: float
) -> None:
    config = RouseConfig(lengths=(16,), steps=4, batch=64, updates=300, rate=0.03, fake=fake)
    student = fresh(config)
    student.net = FreeGains(config)
    assert low <= max(prefix_distances(distilled_exactly(config, student).net, config)) < high


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.2])
def test_the_loss_at_an_exact_fake_is_one_minus_alpha_times_the_fisher_divergence(alpha: float) -> None:
    config = RouseConfig(lengths=(8,), steps=1, batch=40_000)
    student = fresh(config)
    with torch.no_grad():
        found = sid(config, student, exact_fake(student, config), 0, alpha)
    identity, fisher = float(found.logs["identity"]), float(found.logs["fisher"])
    assert fisher > 0.003
    assert identity == pytest.approx((1 - alpha) * fisher, abs=0.02 * fisher)


def test_a_fake_that_agrees_with_the_teacher_moves_no_student() -> None:
    config = RouseConfig(lengths=(8,), steps=4, batch=32)
    student, fake = fresh(config), recipe.make_fake(config).requires_grad_(False)
    sid(config, student, fake, 0).total.backward()
    assert float(student.net.log_variance.grad.abs().max()) == 0
    moved = exact_fake(student, config)
    sid(config, student, moved, 0).total.backward()
    assert float(student.net.log_variance.grad.abs().max()) > 0


@pytest.mark.parametrize("scale", [0.45, 0.671])
def test_a_noise_scale_asked_of_a_batch_multiplies_samples_and_their_variances_by_its_square(
    scale: float,
) -> None:
    config = RouseConfig(lengths=(16,), steps=4)
    sampler = recipe.product(config).contenders["student"]
    batch = recipe.request(config, RouseRequest(), 4000, Key(0))
    cold = replace(batch, extra={"noise_scale": scale})
    shelf = {"student": fresh(config)}
    with torch.no_grad():
        (*_, full), (*_, less) = (
            list(sampler.fn(shelf, one, Step.inference(Key(2)))) for one in (batch, cold)
        )
        (*_, other) = sampler.fn(shelf, cold, Step.inference(Key(3)))
    torch.testing.assert_close(less.x, scale * full.x, atol=1e-5, rtol=1e-4)
    # By sampling: the square of a Gaussian has a standard deviation of sqrt(2) times its mean, in 3 * 4000 draws.
    _, basis = rouse_modes(16, BOND)
    found = torch.einsum("np,bnc->bpc", basis, other.x.double()).square().mean((0, 2))
    exact = roll_of(shelf["student"].net, config, 16, scale)[-1]
    assert float(((found / exact - 1) / math.sqrt(2 / (3 * 4000))).abs().max()) < 4
    assert float(((found / exact - 1) / math.sqrt(2 / (3 * 4000))).square().mean()) < 3


@pytest.mark.parametrize(("steps", "expected"), [(1, 0.840), (4, 0.809), (16, 0.711)])
def test_undistilled_and_colder_is_farther_still(steps: int, expected: float) -> None:
    config = RouseConfig(lengths=(16,), steps=steps)
    net = recipe.make_teacher(config).net
    exact, _ = rouse_modes(16, BOND)
    gap = roll_of(net, config, 16, 0.45)[-1].sqrt() - exact.sqrt()
    assert math.sqrt(float(gap.square().sum() / exact.sum())) == pytest.approx(expected, abs=2e-3)


def test_what_moves_or_turns_noise_moves_or_turns_samples_as_it_should() -> None:
    config = RouseConfig(lengths=(16,), steps=4)
    student = fresh(config).double()
    batch = recipe.request(config, RouseRequest(), 6, Key(0))
    noise = student.process.on(batch.mask).noise(batch, Key(5)).double()
    turn, _ = torch.linalg.qr(Key(4).normal(torch.zeros(3, 3).double()))

    def one_step(noise: Tensor) -> Tensor:
        with torch.no_grad():
            return student.generate(batch, Step.inference(Key(1)), noise=noise, steps=1).x

    made = one_step(noise)
    shifted = one_step(Centered(mask=batch.mask).project(noise + torch.tensor([1.0, -2.0, 3.0]).double()))
    torch.testing.assert_close(shifted, made, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(one_step(noise @ turn.T), made @ turn.T, atol=1e-9, rtol=1e-9)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(one_step(noise[order]), made[order], atol=1e-12, rtol=1e-12)


# Normalized W2 of seeds 0 and 1: .0049 and .0095.
@pytest.mark.slow
def test_with_a_learned_fake_and_time_a_student_of_one_step_comes_within_two_percent(tmp_path: Path) -> None:
    net, config = distilled(tmp_path, steps=1, updates=1000, rate=0.05, fake_rate=0.1)
    assert exact_distance(net, config, 8) < 0.02


# 1500 updates: .0025.
@pytest.mark.slow
def test_with_an_exact_fake_a_student_of_sixteen_steps_reaches_the_chain() -> None:
    config = RouseConfig(lengths=(8,), steps=16, batch=64, updates=1500, rate=0.1)
    student = distilled_exactly(config, fresh(config))
    assert exact_distance(student.net, config, 8) < 0.005
