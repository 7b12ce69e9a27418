"""``Choose``: one of several objectives in every cycle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch

from fewstep.protocol import Batch, Choose, Key, Loss, Phase, Role, Step


@dataclass(frozen=True)
class Saying:
    """An objective whose loss is a number."""

    number: float
    names: tuple[str, ...] = ("critic", "student")
    reads: ClassVar[frozenset[str]] = frozenset()
    roles: ClassVar[Mapping[str, Role]] = {"student": Role()}

    def phases(self, index: int) -> Sequence[Phase]:
        return [Phase(name, ("student",)) for name in self.names]

    def loss(self, phase: Phase, roles: Any, batch: Batch, step: Step) -> Loss:
        return Loss(torch.tensor(self.number))


def said(objective: Choose, cycle: int) -> set[float]:
    """What the phases of a cycle have for losses; every phase has a key of its own."""
    key = Key(3).at("cycle", cycle)
    found = set()
    for place, phase in enumerate(objective.phases(cycle)):
        loss = objective.loss(phase, {}, Batch(torch.zeros(1)), Step(cycle, 9, key.at("phase", place), key))
        assert isinstance(loss, Loss)
        found.add(float(loss.total))
    return found


def test_each_is_drawn_as_often_as_its_odds_say() -> None:
    three_to_one = Choose({"often": (3.0, Saying(1.0)), "rarely": (1.0, Saying(0.0))})
    share = sum(next(iter(said(three_to_one, cycle))) for cycle in range(800)) / 800
    assert share == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / 800) ** 0.5)


def test_critic_and_student_of_one_cycle_see_the_same_objective() -> None:
    even = Choose({"one": (1.0, Saying(1.0)), "other": (1.0, Saying(0.0))})
    assert all(len(said(even, cycle)) == 1 for cycle in range(40))


def test_what_has_no_odds_is_never_drawn() -> None:
    never = Choose({"never": (0.0, Saying(1.0)), "always": (2.0, Saying(0.0))})
    assert set.union(*(said(never, cycle) for cycle in range(40))) == {0.0}


def test_objectives_of_different_cycles_are_refused() -> None:
    with pytest.raises(ValueError, match="cycles differ"):
        Choose({"one": (1.0, Saying(1.0)), "other": (1.0, Saying(0.0, ("student",)))})
