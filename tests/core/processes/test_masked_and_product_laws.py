"""Laws of masked tokens and of products."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewstep.processes import Masked, Product, flow
from fewstep.protocol import Batch, Centered, Cond, Estimate, Flow, Key, Process
from fewstep.samplers import ddim
from fewstep.testing.checks import run_checks
from fewstep.testing.components import check_process

TOKENS = torch.arange(24).reshape(4, 6) % 5


def masked_noise(seed: int, rows: int = 4, length: int = 6) -> torch.Tensor:
    return Masked(5).noise(Batch(torch.zeros(rows, length, dtype=torch.int64)), Key(seed))


def at(value: float, rows: int = 4) -> torch.Tensor:
    return torch.full((rows,), value, dtype=torch.float64)


def test_a_masked_process_is_a_process_without_an_ode() -> None:
    assert isinstance(Masked(5), Process)
    assert not isinstance(Masked(5), Flow)


@given(seed=st.integers(0, 10_000), low=st.floats(0.05, 0.95), high=st.floats(0.05, 0.95))
def test_shared_noise_gives_nested_masks(seed: int, low: float, high: float) -> None:
    process, noise = Masked(5), masked_noise(seed)
    early = process.hidden(process.corrupt(TOKENS, noise, at(min(low, high))))
    late = process.hidden(process.corrupt(TOKENS, noise, at(max(low, high))))
    assert bool((late | ~early).all())


def test_positions_hide_at_the_declared_rate() -> None:
    rows, length, t = 2000, 50, 0.3
    noise = masked_noise(0, rows, length)
    xt = Masked(5).corrupt(torch.zeros(rows, length, dtype=torch.int64), noise, at(t, rows))
    rate, error = float((xt == 5).float().mean()), (t * (1 - t) / (rows * length)) ** 0.5
    assert abs(rate - t) < 5 * error


def test_hiding_in_two_moves_has_the_rate_of_one() -> None:
    process, rows, length = Masked(5), 2000, 50
    x = torch.zeros(rows, length, dtype=torch.int64)
    half = process.corrupt(x, masked_noise(1, rows, length), at(0.3, rows))
    full = process.corrupt(half, masked_noise(2, rows, length), at(0.7, rows), since=at(0.3, rows))
    error = (0.7 * 0.3 / (rows * length)) ** 0.5
    assert abs(float((full == 5).float().mean()) - 0.7) < 5 * error


def test_the_prior_is_all_hidden() -> None:
    assert bool((Masked(5).corrupt(None, masked_noise(0), at(1.0)) == 5).all())


def test_visible_tokens_are_carried_over_with_certainty() -> None:
    process = Masked(5)
    xt = process.corrupt(TOKENS, masked_noise(0), at(0.5))
    probabilities = torch.softmax(process.x0(torch.randn(4, 6, 5), xt, at(0.5)), -1)
    visible = ~process.hidden(xt)
    assert torch.equal(probabilities.argmax(-1)[visible], TOKENS[visible])
    assert float(probabilities.max(-1).values[visible].min()) == 1.0


def test_the_last_step_shows_everything() -> None:
    process = Masked(5)
    hidden = process.corrupt(None, masked_noise(0), at(1.0))
    est = Estimate(torch.zeros(4, 6, 5))
    assert not bool(process.hidden(process.posterior(hidden, est, at(1.0), at(0.0), masked_noise(1))).any())


def test_tokens_appear_with_the_estimated_probabilities() -> None:
    process, rows = Masked(3), 40_000
    odds = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    hidden = torch.full((rows, 1), 3)
    noise = process.noise(Batch(hidden), Key(4))
    drawn = process.posterior(
        hidden, Estimate(odds.log().expand(rows, 1, 3)), at(1.0, rows), at(0.0, rows), noise
    )
    shares = torch.bincount(drawn.flatten(), minlength=3) / rows
    assert float((shares - odds).abs().max()) < 5 * (0.25 / rows) ** 0.5


def test_log_probability_counts_only_what_appeared() -> None:
    process = Masked(3)
    odds = torch.tensor([0.2, 0.5, 0.3])
    est = Estimate(odds.log().expand(1, 3, 3))
    before, after = torch.tensor([[3, 3, 1]]), torch.tensor([[2, 3, 1]])
    assert float(process.logp(before, est, after)) == pytest.approx(float(odds[2].log()), abs=1e-6)


def test_padding_is_never_hidden() -> None:
    mask = torch.tensor([[True, True, False, False, False, False]]).expand(4, 6)
    xt = Masked(5).on(mask).corrupt(TOKENS, masked_noise(0), at(1.0))
    assert torch.equal(xt[:, 2:], TOKENS[:, 2:])


def test_the_optimal_estimate_minimizes_the_scoring_rule() -> None:
    process, rows = Masked(3), 20_000
    odds = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    x0 = torch.multinomial(odds, rows, replacement=True, generator=torch.Generator().manual_seed(0)).reshape(
        -1, 1
    )
    hidden = torch.full((rows, 1), 3)

    def score(p: torch.Tensor) -> float:
        est = Estimate(process.x0(p.log().expand(rows, 1, 3), hidden, at(1.0, rows)))
        return float(process.geometry.nll(est, x0).mean())

    other = torch.tensor([0.3, 0.4, 0.3], dtype=torch.float64)
    assert score(odds) < score(other)


def pair() -> tuple[Product, Batch]:
    process = Product({"points": flow(geometry=Centered()), "scale": flow()})
    clean = {"points": torch.randn(4, 5, 3), "scale": torch.randn(4, 2)}
    clean["points"] = clean["points"] - clean["points"].mean(-2, keepdim=True)
    return process, Batch(like=clean, x=clean, cond=Cond())


def test_a_product_obeys_the_laws_of_its_leaves() -> None:
    process, batch = pair()
    broken = [o for o in run_checks(check_process(process, batch)) if not o.ok]
    assert not broken, broken


def test_a_masked_process_obeys_the_generic_laws() -> None:
    broken = [o for o in run_checks(check_process(Masked(5), Batch(TOKENS, TOKENS))) if not o.ok]
    assert not broken, broken


def test_a_product_of_flows_is_a_flow_and_solvers_run_on_it() -> None:
    process, batch = pair()

    class Exact(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.process = process

        def forward(self, xt: dict, t: torch.Tensor, cond: Cond) -> Estimate:
            return Estimate(batch.x)

    start = process.corrupt(None, process.noise(batch, Key(0)), at(1.0))
    *_, last = ddim(Exact(), start, process.grid(3), batch.cond)
    assert torch.allclose(last.x["points"], batch.x["points"])


def test_leaves_on_different_clocks_are_refused() -> None:
    with pytest.raises(ValueError, match="share one time"):
        Product({"a": flow(), "b": flow(t_min=0.01)})


def test_distances_of_a_product_add_up() -> None:
    process, batch = pair()
    other = {name: leaf + 1 for name, leaf in batch.x.items()}
    total = process.geometry.nll(Estimate(other), batch.x)
    leaves = [process.leaves[n].geometry.nll(Estimate(other[n]), batch.x[n]) for n in other]
    assert torch.allclose(total, leaves[0] + leaves[1])
