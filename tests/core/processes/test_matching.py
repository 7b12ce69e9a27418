"""One state in two processes, and clean states at the scale of noisy ones."""

from __future__ import annotations

import pytest
import torch

from fewstep.processes import Gaussian, at_scale, carried, edm, flow, same_noise, trig, vp
from fewstep.protocol import Key
from fewstep.testing.analytic import GaussianTeacher

PROCESSES = {"exploding": edm(), "straight": flow(), "preserving": vp(), "trigonometric": trig()}


@pytest.mark.parametrize("source", PROCESSES)
@pytest.mark.parametrize("target", PROCESSES)
def test_a_carried_state_is_believed_to_come_from_the_same_data(source: str, target: str) -> None:
    """The same law seen through two processes has one posterior mean."""
    a, b = PROCESSES[source], PROCESSES[target]
    t = torch.linspace(0.3, 0.9, 7, dtype=torch.float64) * (
        a.t_max if a is not PROCESSES["exploding"] else 5.0
    )
    x = Key(0).normal(torch.zeros(7, 3, dtype=torch.float64))
    y, s = carried(a, x, t, b)
    assert torch.allclose(a.sigma(t) / a.alpha(t), b.sigma(s) / b.alpha(s), rtol=1e-9)
    here, there = (GaussianTeacher(process, 0.7, 0.6) for process in (a, b))
    assert torch.allclose(here(x, t).x0, there(y, s).x0, atol=1e-8)
    back, u = carried(b, y, s, a)
    assert torch.allclose(back, x, atol=1e-9)
    assert torch.allclose(u, t, atol=1e-9)


def test_straight_time_is_known_in_closed_form() -> None:
    sigma = torch.tensor([0.1, 1.0, 2.0, 50.0], dtype=torch.float64)
    assert torch.allclose(same_noise(edm(), sigma, flow()), sigma / (1 + sigma), atol=1e-12)


def test_noise_that_the_other_process_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="no time with sigma / alpha from 500 to 500"):
        same_noise(edm(sigma_max=600.0), torch.tensor([500.0], dtype=torch.float64), edm(sigma_max=80.0))


@pytest.mark.parametrize("name", PROCESSES)
def test_clean_states_at_scale_look_like_noisy_ones_to_a_network(name: str) -> None:
    process: Gaussian = PROCESSES[name]
    t = torch.full((4,), 0.8 * process.t_max, dtype=torch.float64)
    x = Key(1).normal(torch.zeros(4, 3, dtype=torch.float64))
    assert torch.allclose(process.network_input(at_scale(process, x, t), t), x / process.sigma_data)
    same = torch.allclose(at_scale(process, x, t), x, rtol=1e-2)
    assert same == (name in ("trigonometric", "preserving")), "where data and noise are of one size"
