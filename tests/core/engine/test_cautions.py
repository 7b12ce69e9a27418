"""An objective may warn before it trains: once, with what it saw, to whoever watches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from engine_toys import Fit, plan, site, stage

from fewstep.engine import Watch, execute
from fewstep.protocol import Batch, Mix, Step


@dataclass(frozen=True)
class Wary(Fit):
    """Warns of the batch that it is shown."""

    word: str = "rows"

    def cautions(self, roles: Any, batch: Batch, step: Step) -> Iterator[str]:
        shown = f"{len(batch.like)} {self.word} before {step.total} cycles for {', '.join(sorted(roles))}"
        yield f"{shown}, gradients {torch.is_grad_enabled()}"


class Ears(Watch):
    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def cautioned(self, stage: str, caution: str) -> None:
        self.heard.append((stage, caution))


def heard(tmp_path: Any, objective: Any) -> list[tuple[str, str]]:
    ears = Ears()
    execute(plan(stage(objective)), site(tmp_path), tmp_path / "run", watch=ears)
    return ears.heard


def test_a_caution_is_told_once_with_its_stage_and_without_gradients(tmp_path: Any) -> None:
    told = heard(tmp_path, Wary())
    assert len(told) == 1
    assert told[0][0] == stage(Wary()).name
    assert "rows before 10 cycles for student" in told[0][1]
    assert told[0][1].endswith("gradients False")


def test_a_mixture_passes_on_the_cautions_of_its_terms(tmp_path: Any) -> None:
    mixed = Mix({"one": (1.0, Wary(word="one")), "plain": (1.0, Fit()), "two": (1.0, Wary(word="two"))})
    assert [" one " in text or " two " in text for _, text in heard(tmp_path, mixed)] == [True, True]


def test_an_objective_without_cautions_is_silent(tmp_path: Any) -> None:
    assert heard(tmp_path, Fit()) == []


def test_what_is_finished_is_not_warned_of_again(tmp_path: Any) -> None:
    heard(tmp_path, Wary())
    assert heard(tmp_path, Wary()) == []
