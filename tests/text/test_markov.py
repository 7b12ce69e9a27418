"""The oracle recipe: its numbers against closed forms, its path through the engine."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from fewstep.engine import AssemblyError, execute
from fewstep.errors import FewstepError
from fewstep.processes import Masked
from fewstep.protocol import Batch, Key, Plan, Sample, Site, State, Step
from fewstep.runs import evaluate
from fewstep.samplers import FewStepTokens, Sharpened
from fewstep.testing.markov import all_sequences, divergence, entropy, sampler_law, total_correlation
from fewstep_text.markov import recipe
from fewstep_text.markov.chain import Chain, ChainSource, Lookup, law_of, with_beliefs
from fewstep_text.markov.config import MarkovConfig, MarkovRequest
from fewstep_text.markov.metrics import pair_entropy
from fewstep_text.markov.network import SequenceNet

TINY = {
    "length": 3,
    "width": 16,
    "teacher_updates": 3,
    "updates": 3,
    "head_start": 1,
    "batch": 32,
    "teacher_steps": 3,
}


def tiny(tmp_path: Path, **changes: object) -> tuple[Plan, Site]:
    config = MarkovConfig.model_validate({**TINY, **changes})
    site = Site(key=Key(config.seed), cache=tmp_path)
    return recipe.build(config, site), site


def chain() -> Chain:
    return Chain(4, 6, 0.3, 0)


def test_the_default_chain_has_the_entropy_of_its_closed_form() -> None:
    assert entropy(chain().law) == pytest.approx(6.314283571842, abs=1e-9)


@pytest.mark.parametrize(("steps", "forward", "reverse"), [(1, 1.84217, 7.0448), (2, 0.66712, 2.8661)])
def test_the_exact_teacher_has_these_divergences_at_few_steps(
    steps: int, forward: float, reverse: float
) -> None:
    law = sampler_law(chain().teacher, 6, steps)
    assert divergence(chain().law, law) == pytest.approx(forward, abs=1e-5)
    assert divergence(law, chain().law) == pytest.approx(reverse, abs=1e-4)


def test_one_step_of_the_exact_teacher_misses_exactly_the_total_correlation() -> None:
    law = sampler_law(chain().teacher, 6, 1)
    assert divergence(chain().law, law) == pytest.approx(total_correlation(chain().law, 4, 6), abs=1e-10)


def test_samples_of_the_chain_follow_its_law() -> None:
    """Frequencies of 40 000 samples of 3 letters: largest deviation below 4 standard errors of 64 cells."""
    small = Chain(4, 3, 0.3, 0)
    x = small.draw(40_000, Key(3))
    seen = torch.bincount((x * torch.tensor([16, 4, 1])).sum(1), minlength=64) / len(x)
    error = (small.law * (1 - small.law) / len(x)).sqrt()
    assert bool(((seen - small.law).abs() <= 4 * error + 1e-9).all())


def test_beliefs_give_the_same_law_as_the_network() -> None:
    torch.manual_seed(0)
    student = FewStepTokens(SequenceNet(3, 3, 16, 3), Masked(3), "logits", 2)
    batch = Batch(like=torch.zeros(5, 3, dtype=torch.int64))
    *_, last = with_beliefs("student", 2, 3).fn({"student": student}, batch, Step.inference(Key(0)))
    torch.testing.assert_close(law_of(last.x, Masked(3)), sampler_law(student, 3, 2), atol=1e-6, rtol=1e-5)


def test_a_lookup_answers_from_the_row_of_each_state() -> None:
    states = all_sequences(3, 2)
    beliefs = torch.arange(len(states) * 2 * 2, dtype=torch.float64).reshape(len(states), 2, 2)
    answered = Lookup(Masked(2), beliefs)(states, torch.ones(len(states)), None).x0  # type: ignore[arg-type]
    assert torch.equal(answered, beliefs)


def test_log_probability_of_paths_sums_to_the_exact_law() -> None:
    """Two letters, three places, two steps: sum over the eight reveal patterns of 2^-3 exp(logp) is the law."""
    torch.manual_seed(1)
    student = FewStepTokens(SequenceNet(2, 3, 16, 2), Masked(2), "logits", 2)
    x = all_sequences(2, 3)
    total = torch.zeros(len(x), dtype=torch.float64)
    for pattern in itertools.product([True, False], repeat=3):
        start = torch.full_like(x, 2)
        middle = torch.where(torch.tensor(pattern), x, start)
        times = (torch.ones(len(x)).double(), torch.full((len(x),), 0.5).double())
        sample = Sample(x, path=(State(start, times[0]), State(middle, times[1])))
        logp = student.logp(sample, Batch(like=x)).detach()
        assert logp.shape == (8, 2)
        total += logp.double().sum(1).exp() / 8
    torch.testing.assert_close(total, sampler_law(student, 3, 2), atol=1e-6, rtol=1e-5)
    assert float(total.sum()) == pytest.approx(1.0, abs=1e-6)


def test_a_sample_knows_the_log_probability_that_the_student_would_give_it() -> None:
    torch.manual_seed(2)
    student = FewStepTokens(SequenceNet(2, 3, 16, 2), Masked(2), "logits", 2)
    batch = Batch(like=torch.zeros(16, 3, dtype=torch.int64))
    sample = student.generate(batch, Step.inference(Key(5)))
    torch.testing.assert_close(sample.logp, student.logp(sample, batch))


def test_the_control_with_sharp_logits_loses_entropy() -> None:
    sharp = sampler_law(Sharpened(chain().teacher, 8.0), 6, 2)
    assert entropy(sharp) < 0.9 * entropy(sampler_law(chain().teacher, 6, 2))


def test_tokens_alone_are_measured_by_their_frequencies() -> None:
    """8 sequences of 3 letters from 2: one seen twice, half a count for each: 2.5 / 6."""
    law = law_of(torch.tensor([[1, 0, 1], [1, 0, 1]]), Masked(2))
    assert float(law[5]) == pytest.approx(2.5 / 6)
    assert float(law.sum()) == pytest.approx(1.0)


def test_neighbors_of_a_collapsed_sampler_have_no_entropy() -> None:
    law = torch.zeros(4**6, dtype=torch.float64)
    law[17] = 1.0
    assert pair_entropy(law, chain()) == pytest.approx(0.0, abs=1e-12)
    assert pair_entropy(chain().law, chain()) == pytest.approx(2.350384, abs=1e-6)


def test_a_chain_too_large_to_be_exact_is_refused() -> None:
    with pytest.raises(ValidationError, match="partly hidden states"):
        MarkovConfig(vocabulary=8, length=8)


def test_the_recipe_measures_every_contender_with_counted_calls(tmp_path: Path) -> None:
    plan, site = tiny(tmp_path)
    found = evaluate(plan.product, execute(plan, site), Key(1))
    calls = {row.contender: row.evaluations for row in found.rows}
    assert calls == {"student": 2, "teacher": 3, "teacher_fewstep": 2, "teacher_greedy": 2}


def test_the_beginning_of_a_sequence_is_kept(tmp_path: Path) -> None:
    plan, site = tiny(tmp_path)
    batch = plan.product.request(MarkovRequest(text="dA"), 4, Key(0))
    made = execute(plan, site)["student"].sample(batch, Step.inference(Key(1))).x
    assert made[:, :2].tolist() == [[3, 0]] * 4


def test_a_letter_that_the_chain_lacks_is_told(tmp_path: Path) -> None:
    plan, _ = tiny(tmp_path)
    with pytest.raises(FewstepError, match="does not know 'z'"):
        plan.product.request(MarkovRequest(text="z"), 1, Key(0))


def test_an_objective_that_cannot_serve_tokens_is_told_before_training(tmp_path: Path) -> None:
    plan, site = tiny(tmp_path, objective="consistency")
    with pytest.raises((AssemblyError, ValueError, AttributeError)):
        execute(plan, site)


def test_the_source_draws_exact_sequences_of_its_size() -> None:
    assert ChainSource(chain(), 7).batch(0, Key(0)).x.shape == (7, 6)
