"""The recipe on real text: networks, writing block by block, requests, and the way through the engine."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from fewstep.engine import execute
from fewstep.errors import FewstepError
from fewstep.processes import Masked
from fewstep.protocol import Batch, Cond, Key, Plan, Site, Step
from fewstep.runs import evaluate
from fewstep_text.didi import recipe
from fewstep_text.didi.config import DidiConfig, DidiRequest
from fewstep_text.didi.network import TextCritic, TextNet
from fewstep_text.didi.writer import Writer
from fewstep_text.plugin import fewstep_recipes

TINY = {
    "width": 8,
    "dilations": (1,),
    "block": 4,
    "context": 6,
    "teacher_length": 10,
    "teacher_updates": 2,
    "teacher_batch": 2,
    "teacher_steps": 3,
    "updates": 3,
    "head_start": 1,
    "batch": 4,
    "samples": 16,
}


def tiny(tmp_path: Path, **changes: object) -> tuple[Plan, Site]:
    config = DidiConfig.model_validate({**TINY, **changes})
    site = Site(key=Key(config.seed), cache=tmp_path)
    return recipe.build(config, site), site


def writer(steps: int = 2, block: int = 4) -> Writer:
    torch.manual_seed(0)
    net = TextNet(5, 8, (1, 2), 3)
    torch.nn.init.normal_(net.head.weight)
    return Writer(net, Masked(5), steps, block, context=6)


def ask(prefix: Sequence[int], length: int, rows: int = 3) -> Batch:
    start = torch.full((rows, length), 5)
    start[:, : len(prefix)] = torch.tensor(prefix, dtype=torch.int64)
    return Batch(like=torch.zeros_like(start), extra={"prefix": start})


def test_a_reader_takes_a_text_of_any_length() -> None:
    net = TextNet(5, 8, (1, 2), 3)
    for length in (1, 7, 40):
        x = torch.zeros(2, length, dtype=torch.int64)
        assert net(x, torch.ones(2), Cond()).shape == (2, length, 5)


def test_an_untrained_reader_finds_every_token_equally_likely() -> None:
    logits = TextNet(5, 8, (1,), 3)(torch.tensor([[5, 1, 5]]), torch.ones(1), Cond())
    assert float(logits.detach().abs().max()) == 0.0


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="must be odd"):
        TextNet(5, 8, (1,), 4)


def test_a_critic_starts_with_the_eyes_of_the_teacher() -> None:
    net = TextNet(5, 8, (1,), 3)
    critic = TextCritic(5, 8, (1,), 3).start_from(net)
    x = torch.tensor([[0, 5, 2]])
    torch.testing.assert_close(critic.body(x), net.body(x))
    assert critic(x, torch.ones(1), Cond()).shape == (1, 3)


def test_a_long_text_keeps_its_beginning_and_leaves_nothing_hidden() -> None:
    made = writer().sample(ask([1, 2, 3], 50), Step.inference(Key(0)))
    assert made.x[:, :3].tolist() == [[1, 2, 3]] * 3
    assert int(made.x.max()) < 5


def test_a_text_without_a_beginning_can_be_written() -> None:
    made = writer().sample(Batch(like=torch.zeros(2, 9, dtype=torch.int64)), Step.inference(Key(0)))
    assert int(made.x.max()) < 5


def test_a_writer_calls_its_network_once_per_step_and_block() -> None:
    """13 tokens after a beginning of 3, in blocks of 4: four blocks, the last of one token; 3 steps each."""
    made = writer(steps=3).sample(ask([1, 2, 3], 16), Step.inference(Key(0)))
    assert len(made.path) == 12


def test_later_blocks_do_not_change_earlier_ones() -> None:
    made = writer().sample(ask([1], 20), Step.inference(Key(4)))
    states = [state.x for state in made.path] + [made.x]
    for before, after in itertools.pairwise(states):
        known = before != 5
        assert torch.equal(before[known], after[known])


def test_the_same_key_writes_the_same_text() -> None:
    first, second = (writer().sample(ask([1], 20), Step.inference(Key(7))).x for _ in range(2))
    assert torch.equal(first, second)


def test_every_contender_continues_the_same_prompts(tmp_path: Path) -> None:
    plan, site = tiny(tmp_path)
    found = evaluate(plan.product, execute(plan, site), Key(1))
    assert {row.contender: row.evaluations for row in found.rows} == {
        "student": 2,
        "teacher": 3,
        "teacher_fewstep": 2,
        "teacher_greedy": 2,
    }
    for drawn in found.drawn.values():
        assert torch.equal(drawn.x[:, :6], drawn.batch.x[:, :6])


def test_a_sample_of_the_asked_length_begins_as_asked(tmp_path: Path) -> None:
    plan, site = tiny(tmp_path)
    student = execute(plan, site)["student"]
    batch = plan.product.request(DidiRequest(text="The object", length=40), 2, Key(0))
    paths = plan.product.write(student.sample(batch, Step.inference(Key(1))).x, batch, tmp_path)
    lines = paths[0].read_text(encoding="utf-8").splitlines()
    assert [len(line) for line in lines] == [40, 40]
    assert all(line.startswith("the object") for line in lines)


def test_unknown_characters_of_a_prefix_are_listed(tmp_path: Path) -> None:
    plan, _ = tiny(tmp_path)
    with pytest.raises(FewstepError, match=r"'\+' \(plus sign\).*'1' \(digit one\)"):
        plan.product.request(DidiRequest(text="1+1"), 1, Key(0))


@pytest.mark.parametrize(("text", "length", "number"), [("a", 1, 1), ("too long", 4, 1), ("a", 8, 0)])
def test_a_request_that_leaves_nothing_to_write_is_told(
    text: str, length: int, number: int, tmp_path: Path
) -> None:
    plan, _ = tiny(tmp_path)
    with pytest.raises(FewstepError, match=r"nothing is left to write|asked for 0 texts"):
        plan.product.request(DidiRequest(text=text, length=length), number, Key(0))


@pytest.mark.parametrize("length", [0, -1])
def test_a_length_below_one_is_refused(length: int) -> None:
    with pytest.raises(ValidationError):
        DidiRequest(length=length)


@pytest.mark.parametrize("objective", ["denoising", "diff-instruct"])
def test_another_objective_of_the_core_trains_the_same_student(objective: str, tmp_path: Path) -> None:
    plan, site = tiny(tmp_path, objective=objective)
    assert "student" in execute(plan, site)


def test_a_byte_pair_vocabulary_goes_the_same_way(tmp_path: Path) -> None:
    plan, site = tiny(tmp_path, data={"vocabulary": 64}, judge_order=3)
    assert "student" in execute(plan, site)


def test_every_gate_has_a_control() -> None:
    recipes = {spec.name: spec for spec in fewstep_recipes()}
    assert set(recipes) == {"text/markov", "text/didi"}
    assert all(spec.gates and all(gate.control for gate in spec.gates) for spec in recipes.values())
