"""Frames of a known law: the exact denoiser against quadrature and draws, samplers against the law, with controls."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.objectives import SiD
from fewstep.objectives.weights import one
from fewstep.processes import Uniform
from fewstep.processes.rotations import exp, log
from fewstep.protocol import Batch, Cond, Denoiser, Key, Step
from fewstep.samplers import FewStep, ddim, renoise
from fewstep.testing.checks import run_checks
from fewstep.testing.components import check_process
from fewstep_protein.frames.config import OracleConfig
from fewstep_protein.frames.law import (
    SHARES,
    WOBBLE_SHARES,
    ShapeLaw,
    angle_error,
    nearest,
    place_distance,
    share_distance,
)
from fewstep_protein.frames.oracle import Shapes, make_process, make_teacher, start_times
from fewstep_protein.frames.shapes import PREDICTS, ShapeNet

LAW = ShapeLaw(residues=8)
PROCESS = make_process()
CONFIG = OracleConfig()


def draws(count: int, law: ShapeLaw = LAW, seed: int = 0) -> dict[str, Tensor]:
    """Exact float64 frames."""
    key = Key(seed)
    normal = key.at("modes").normal(torch.zeros(count, law.residues - 1, 3, dtype=torch.float64))
    return law.draw(key.at("shape").uniform((count, 1 + law.residues)), normal)


def noisy(x: dict[str, Tensor], t: float, seed: int = 1) -> tuple[Any, Tensor]:
    """The frames at flow time t."""
    at = torch.full((len(x["turn"]),), t, dtype=torch.float64)
    return PROCESS.corrupt(x, PROCESS.noise(Batch(like=x), Key(seed)), at), at


def exact(law: ShapeLaw = LAW, steps: int = 1) -> Denoiser:
    return Denoiser(ShapeNet(PROCESS, law, steps), PROCESS, PREDICTS)


def test_noise_on_frames_obeys_the_laws_of_processes() -> None:
    broken = [
        found for found in run_checks(check_process(PROCESS, Shapes(6, 4).batch(0, Key(0)))) if not found.ok
    ]
    assert not broken, broken


def test_drawn_frames_have_the_law_and_distances_know_it() -> None:
    found = nearest(LAW, draws(4000))
    assert float(angle_error(found)) < 1e-4
    assert float(place_distance(LAW, found)) < 0.02
    assert float(share_distance(found)) < 0.03
    frozen = {**draws(400), "place": LAW.places[nearest(LAW, draws(400)).shape]}
    assert float(place_distance(LAW, nearest(LAW, frozen))) == pytest.approx(1, abs=1e-6)
    turned = {
        **draws(400),
        "turn": draws(400)["turn"] @ exp(torch.tensor([0.1, 0.0, 0.0], dtype=torch.float64)),
    }
    assert float(angle_error(nearest(LAW, turned))) == pytest.approx(math.degrees(0.1), rel=1e-6)


@pytest.mark.parametrize("t", [0.15, 0.5, 0.85])
def test_the_exact_denoiser_is_the_integral_over_all_clean_frames(t: float) -> None:
    """Two residues: three shapes, four pairs of wobbles, and one mode in space on a grid of 33^3 points."""
    law = ShapeLaw(residues=2)
    xt, at = noisy(draws(3, law), t)
    est = exact(law)(xt, at).x0
    variance, basis = (part[..., 0] for part in law.modes)
    line = torch.linspace(-6, 6, 33, dtype=torch.float64) * variance.sqrt()
    grid = torch.cartesian_prod(line, line, line)
    prior = torch.exp(-grid.square().sum(1) / (2 * variance))
    for row in range(3):
        place, turn, total = torch.zeros(2, 3).double(), torch.zeros(2, 3).double(), 0.0
        for m, wobble in itertools.product(range(3), itertools.product(range(2), repeat=2)):
            clean = law.places[m] + basis[:, None] * grid[:, None]
            gap = (xt["place"][row] - (1 - t) * clean).square().sum((1, 2))
            toward = torch.stack(
                [log(xt["turn"][row, i].mT @ law.turns[m, j, i]) for i, j in enumerate(wobble)]
            )
            weight = prior * torch.exp(-gap / (2 * t**2)) * SHARES[m]
            for angle, j in zip(toward.norm(dim=-1).tolist(), wobble, strict=True):
                inside = angle < math.pi * t
                weight = weight * (
                    WOBBLE_SHARES[j] * math.sin(angle / 2 / t) ** 2 / math.sin(angle / 2) ** 2
                    if inside
                    else 0.0
                )
            place += (weight[:, None, None] * clean).sum(0)
            turn += weight.sum() * toward
            total += weight.sum()
        assert torch.allclose(est["place"][row], place / total, atol=2e-6)
        assert torch.allclose(log(xt["turn"][row].mT @ est["turn"][row]), turn / total, atol=2e-6)


def orthogonal(denoiser: Denoiser, t: float) -> list[float]:
    """Standard errors by which E <g(x_t), truth - estimate> differs from 0, for a g of each leaf."""
    x = draws(3000)
    xt, at = noisy(x, t)
    with torch.no_grad():
        est = denoiser(xt, at).x0
    own, truth = (log(xt["turn"].mT @ y["turn"]) for y in (est, x))
    pairs = [
        (own, truth - own),
        (est["place"], x["place"] - est["place"]),
        (xt["place"], x["place"] - est["place"]),
    ]
    each = [(g * gap).sum((1, 2)) for g, gap in pairs]
    return [float(e.mean().abs() / e.std() * len(e) ** 0.5) for e in each]


@pytest.mark.parametrize("t", [0.3, 0.7, 0.95])
def test_nothing_that_noisy_frames_say_is_left_in_the_error_of_the_exact_denoiser(t: float) -> None:
    """The score identity on frames: what is not known is orthogonal to every function of the noisy state."""
    assert max(orthogonal(exact(), t)) < 4.5


def test_a_denoiser_that_believes_in_other_shares_or_sizes_breaks_the_identity() -> None:
    wrong = exact()
    with torch.no_grad():
        wrong.net.log_wobble[0] = torch.tensor([0.3, 0.7]).log()
        wrong.net.log_variance[0] += 0.5
    found = orthogonal(wrong, 0.3)
    assert found[0] > 8
    assert found[2] > 8


def rolled(count: int, solver: Any, times: Tensor) -> dict[str, Tensor]:
    batch = Shapes(8, count).batch(0, Key(4))
    noise = PROCESS.noise(batch, Key(5))
    start = PROCESS.corrupt(None, noise, times[0].expand(count))
    with torch.no_grad():
        *_, last = solver(exact(), start, times, Cond(), key=Key(6))
    found: dict[str, Tensor] = last.x
    return found


def test_many_steps_of_the_exact_flow_reach_the_law_and_few_do_not() -> None:
    many = nearest(LAW, rolled(384, ddim, PROCESS.grid(30)))
    assert float(place_distance(LAW, many)) < 0.12
    assert float(angle_error(many)) < 0.1
    assert float(share_distance(many)) < 0.1
    times = torch.tensor(start_times(CONFIG), dtype=torch.float64)
    for few in (rolled(256, renoise, times), rolled(256, ddim, PROCESS.grid(3))):
        assert float(place_distance(LAW, nearest(LAW, few))) > 0.25
    one_call = nearest(LAW, rolled(256, renoise, PROCESS.grid(1)[:1]))
    assert float(angle_error(one_call)) > 5


def test_teacher_and_fake_that_agree_leave_the_student_where_it_is() -> None:
    teacher, student = make_teacher(CONFIG), FewStep(ShapeNet(PROCESS, LAW, 2), PROCESS, PREDICTS, (0.9, 0.2))
    objective = SiD(Uniform(0.03, 0.95), alpha=1.0, normalize=False, weight=one)

    def slope(fake: Denoiser) -> float:
        student.zero_grad()
        roles = {"teacher": teacher, "student": student, "fake": fake}
        objective.loss(
            objective.phases(0)[-1], roles, Shapes(8, 16).batch(0, Key(1)), Step(0, 1, Key(2))
        ).total.backward()
        return float(student.net.log_variance.grad.abs().max())

    assert slope(make_teacher(CONFIG)) == 0
    moved = make_teacher(CONFIG)
    with torch.no_grad():
        moved.net.log_variance[0] -= 1.0
    assert slope(moved) > 1e-5


def test_start_times_fall_geometrically_between_their_ends() -> None:
    times = start_times(OracleConfig(steps=4, start=0.8, finest=0.1))
    assert times[0] == pytest.approx(0.8)
    assert times[-1] == pytest.approx(0.1)
    assert times[1] / times[0] == pytest.approx(times[3] / times[2])
    assert start_times(OracleConfig(steps=1)) == (0.9,)
