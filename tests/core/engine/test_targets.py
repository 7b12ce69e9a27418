"""A target average walks in step with the role that it follows: the same units drop out of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from engine_toys import Generator, adam, plan, site, stage
from torch import Tensor

from fewstep.engine import execute
from fewstep.objectives.rollout import same_randomness
from fewstep.protocol import Average, Batch, Loss, Phase, Role, Step


@dataclass(frozen=True)
class Beside:
    """A student beside its average, each asked under keys of the dropout; what they answer is noted."""

    noted: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    @property
    def roles(self) -> Mapping[str, Role]:
        return {"student": Role(), "target": Role(trainable=False)}

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"x"})

    def phases(self, index: int) -> Sequence[Phase]:
        return (Phase("student", ("student",)),)

    def loss(self, phase: Phase, roles: Mapping[str, Any], batch: Batch, step: Step) -> Loss:
        own, same, other = (
            asked(roles[name], batch.x, step, key)
            for name, key in (("student", "one"), ("target", "one"), ("target", "other"))
        )
        self.noted.append((own.detach(), same.detach(), other.detach()))
        return Loss((own - batch.x).square().mean())


def asked(role: Any, x: Tensor, step: Step, key: str) -> Tensor:
    with same_randomness(step.key.at(key)):
        return role(x)


@pytest.mark.parametrize(("when", "follows"), [("before", True), ("after", False)])
def test_a_target_drops_the_units_that_its_student_drops(tmp_path, when, follows):
    """An average of decay 0 is the student itself at every cycle, but for the dropout; that of an export has none."""
    objective = Beside()
    made = stage(
        objective,
        4,
        roles={"student": Generator(dropout=0.5), "target": Generator(dropout=0.5)},
        optimizers={"student": adam()},
        averages={"target": Average("student", 0.0, when)},
    )
    shelf = execute(plan(made), site(tmp_path), tmp_path)
    # An average that moves after the phases is the student only from the second cycle on.
    for own, same, other in objective.noted[1:]:
        assert torch.equal(own, same) is follows
        assert torch.equal(same, other) is not follows
    assert not shelf["student"].training
