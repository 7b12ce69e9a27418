"""Keys, ramps, once, and the combinations of objectives."""

from __future__ import annotations

import pytest
import torch

from fewstep.errors import FewstepError
from fewstep.processes import edm, flow
from fewstep.protocol import (
    Batch,
    Cond,
    Denoiser,
    Euclidean,
    Guided,
    Key,
    Linear,
    Sample,
    Step,
    at_step,
    pathwise,
    reinforce,
    rows,
)
from fewstep.testing.analytic import GaussianTeacher


def test_the_same_path_gives_the_same_numbers_and_another_path_others() -> None:
    like = torch.zeros(4, 3)
    assert torch.equal(Key(1).at("a", 2).normal(like), Key(1).at("a", 2).normal(like))
    assert not torch.equal(Key(1).at("a", 2).normal(like), Key(1).at("a", 3).normal(like))
    assert not torch.equal(Key(1).at("a").normal(like), Key(2).at("a").normal(like))


def test_a_path_is_not_confused_with_its_concatenation() -> None:
    like = torch.zeros(8)
    assert not torch.equal(Key(0).at("a", "b").normal(like), Key(0).at("ab").normal(like))
    assert not torch.equal(Key(0).at(1, 23).normal(like), Key(0).at(12, 3).normal(like))


@pytest.mark.parametrize("world", [2, 3])
def test_the_rows_of_all_ranks_are_the_rows_of_one_process(world: int) -> None:
    whole = Key(5).normal(torch.zeros(6, 2))
    rank_rows = [Key(5, (), (rank, world)).normal(torch.zeros(6 // world, 2)) for rank in range(world)]
    assert torch.equal(torch.cat(rank_rows), whole)


def test_decisions_are_the_same_on_every_rank() -> None:
    drawn = {Key(5, ("pick",), (rank, 4)).integer(1000) for rank in range(4)}
    assert len(drawn) == 1


def test_half_precision_noise_is_the_rounded_single_precision_noise() -> None:
    single = Key(0).normal(torch.zeros(64))
    assert torch.equal(Key(0).normal(torch.zeros(64, dtype=torch.bfloat16)), single.bfloat16())


def test_drawing_never_touches_the_global_generator() -> None:
    before = torch.get_rng_state()
    Key(0).normal(torch.zeros(3)), Key(0).uniform((3,)), Key(0).integers((3,), 5), Key(0).permutation(4)
    assert torch.equal(before, torch.get_rng_state())


def test_choosing_among_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Key(0).integer(0)


def test_once_computes_once_per_cycle_with_a_key_of_the_cycle() -> None:
    cycle, cache = Key(0).at("cycle", 3), {}
    first = Step(3, 9, Key(0).at("phase", 0), cycle, cache)
    second = Step(3, 9, Key(0).at("phase", 1), cycle, cache)
    assert (
        first.once("roll", lambda key: key)
        == second.once("roll", lambda key: None)
        == cycle.at("once", "roll")
    )


def test_ramps_reach_their_end() -> None:
    assert at_step(Linear(1.0, 3.0, until=0.5), Step(25, 100, Key(0))) == 2.0
    assert at_step(Linear(1.0, 3.0, until=0.5), Step(80, 100, Key(0))) == 3.0
    assert at_step(2.0, Step.inference(Key(0))) == 2.0


def test_a_mapped_sample_has_no_score_function_gradient() -> None:
    with pytest.raises(ValueError, match="no logp"):
        reinforce(Sample(torch.zeros(2, 1)), torch.zeros(2), 0.0)


def test_a_direction_is_data() -> None:
    """Whoever made it gets no gradient, even where nothing was frozen."""
    x, by = (torch.ones(2, 3, requires_grad=True) for _ in range(2))
    pathwise(Sample(x), 2 * by, Euclidean(), weight=3 * by[:, 0]).backward()
    assert torch.allclose(x.grad, torch.full((2, 3), 2 * 3 / 6))
    assert by.grad is None


def test_a_tree_without_tensors_has_no_rows() -> None:
    with pytest.raises(ValueError, match="at least one tensor"):
        rows({})


class Centered(GaussianTeacher):
    """A conditional teacher: its mean is the condition."""

    def believe(self, xt: torch.Tensor, t: torch.Tensor, cond: Cond) -> torch.Tensor:
        return GaussianTeacher(self.process, cond.data, 0.6).believe(xt, t, cond)


def guided(scale: float, interval: tuple[float, float] | None = None) -> Guided:
    teacher = Centered(edm(), 0.0, 0.6)
    return Guided(teacher, scale, lambda cond: Cond(torch.zeros_like(cond.data)), interval)


def ask(model: Guided, time: float, **extra: torch.Tensor) -> torch.Tensor:
    cond = Cond(torch.ones(3, 1, dtype=torch.float64))
    t = torch.full((3,), time, dtype=torch.float64)
    return model(torch.full((3, 1), 0.4, dtype=torch.float64), t, cond, **extra).x0


def test_autoguidance_points_away_from_the_weak_model_and_from_the_unconditional_one_by_their_shares() -> (
    None
):
    """D_g = g D + (1 - g) (r D_weak + (1 - r) D_uncond), Geffner et al. 2025 eq. 6."""
    strong, weak = Centered(edm(), 0.0, 0.6), Centered(edm(), 0.0, 0.9)
    null = lambda cond: Cond(torch.zeros_like(cond.data))  # noqa: E731
    cond, t = Cond(torch.ones(3, 1, dtype=torch.float64)), torch.full((3,), 1.3, dtype=torch.float64)
    x = torch.full((3, 1), 0.4, dtype=torch.float64)
    given, early, free = strong(x, t, cond).x0, weak(x, t, cond).x0, strong(x, t, null(cond)).x0
    for share in (0.0, 0.3, 1.0):
        expected = 2.5 * given - 1.5 * (share * early + (1 - share) * free)
        torch.testing.assert_close(Guided(strong, 2.5, null, weak=weak, share=share)(x, t, cond).x0, expected)


def test_guidance_is_u_plus_g_times_c_minus_u() -> None:
    """Equal variances: guided by g, the mean moves from m_u to m_u + g (m_c - m_u); here from 0 to g."""
    far = GaussianTeacher(edm(), 2.5, 0.6)
    t = torch.full((3,), 1.3, dtype=torch.float64)
    expected = far(torch.full((3, 1), 0.4, dtype=torch.float64), t, Cond()).x0
    assert torch.allclose(ask(guided(2.5), 1.3), expected, atol=1e-12)


def test_guidance_of_one_is_the_conditional_answer() -> None:
    given = GaussianTeacher(edm(), 1.0, 0.6)
    t = torch.full((3,), 1.3, dtype=torch.float64)
    assert torch.equal(
        ask(guided(1.0), 1.3), given(torch.full((3, 1), 0.4, dtype=torch.float64), t, Cond()).x0
    )


def test_guidance_acts_inside_its_interval_only() -> None:
    model = guided(2.5, (1.0, 2.0))
    assert torch.allclose(ask(model, 3.0), ask(guided(1.0), 3.0))
    assert torch.allclose(ask(model, 1.5), ask(guided(2.5), 1.5))


@pytest.mark.parametrize("prediction", ["x0", "eps", "flow", "edm"])
def test_what_a_guided_network_says_means_its_guided_estimate(prediction: str) -> None:
    class Sum(torch.nn.Module):
        def forward(self, x: torch.Tensor, time: torch.Tensor, cond: Cond) -> torch.Tensor:
            return x.sin() + cond.data

    process = flow()
    base = Denoiser(Sum(), process, prediction)
    teacher = Guided(base, 2.5, lambda cond: Cond(torch.zeros_like(cond.data)))
    x, t = torch.ones(3, 2, dtype=torch.float64), torch.full((3,), 0.4, dtype=torch.float64)
    est = teacher(x, t, Cond(torch.ones(3, 2, dtype=torch.float64)))
    assert torch.allclose(process.x0(est.raw, x, t, prediction), est.x0, atol=1e-12)
    assert not torch.allclose(est.raw, base(x, t, Cond(torch.ones(3, 2, dtype=torch.float64))).raw)


def test_a_scale_in_the_call_replaces_the_guides_own() -> None:
    scale = torch.full((3,), 2.5, dtype=torch.float64)
    assert torch.allclose(ask(guided(7.0), 1.3, guidance=scale), ask(guided(2.5), 1.3))


@pytest.mark.parametrize(("time", "acts"), [(0.9, False), (1.5, True), (2.1, False)])
def test_a_scale_in_the_call_acts_inside_the_interval_only(time: float, acts: bool) -> None:
    scale, model = torch.tensor([2.5, 0.0, 4.0], dtype=torch.float64), guided(1.0, (1.0, 2.0))
    found = ask(model, time, guidance=scale)
    assert torch.equal(found, ask(guided(1.0), time, guidance=scale if acts else torch.ones_like(scale)))
    assert torch.allclose(found, ask(guided(1.0), time)) is not acts


def test_a_batch_shows_its_conditions_mask() -> None:
    mask = torch.ones(2, 1, dtype=torch.bool)
    assert Batch(torch.zeros(2, 3), cond=Cond(mask=mask)).mask is mask


def test_a_batch_that_ranks_cannot_share_is_refused() -> None:
    assert Key(0, (), (1, 2)).share(6) == 3
    with pytest.raises(FewstepError, match=r"6 rows cannot be shared by 4 processes\n.*a multiple of 4"):
        Key(0, (), (0, 4)).share(6)
