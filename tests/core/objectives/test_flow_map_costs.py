"""The documented number of network calls is the number that is made."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from objective_cases import PROCESS, TIMES, Pointwise, points
from objective_toys import grant

from fewstep.config.objectives import KINDS
from fewstep.protocol import Denoiser, Key, Step, parts
from fewstep.samplers import FewStep

PAGES = Path(__file__).parents[3] / "docs" / "objectives"
METHODS = ["consistency", "lcm", "ect", "ctm", "tscd", "mlcm", "scott"]


def told(kind: str) -> dict[str, tuple[range, int]]:
    """role -> (calls, calls with a graph) as the page of a method says."""
    rows = [line.strip("| ").split(" | ") for line in (PAGES / f"{kind}.md").read_text().splitlines()]
    found = {}
    for row in (row for row in rows if len(row) == 3 and row[2].isdigit()):
        first, _, last = row[1].partition(" to ")
        found[row[0]] = range(int(first), int(last or first) + 1), int(row[2])
    return found


def made(kind: str, seed: int) -> tuple[Counter[str], Counter[str]]:
    """Calls of every role in one update, and those that build a graph."""
    objective: Any = KINDS[kind]().build(PROCESS)
    student = FewStep(Pointwise(2), PROCESS, "edm", TIMES, rule="ddim")
    everyone = {
        "teacher": Denoiser(Pointwise(1), PROCESS, "edm"), "student": student, "target": copy.deepcopy(student)
    }  # fmt: skip
    roles = {name: everyone[name] for name in objective.roles}
    calls, graphs = Counter[str](), Counter[str]()

    def listen(name: str) -> Any:
        def hear(module: Any, inputs: Any, out: Any) -> None:
            calls[name] += 1
            graphs[name] += out.x0.requires_grad

        return hear

    for name, module in roles.items():
        module.register_forward_hook(listen(name))
    (phase,) = objective.phases(0)
    grant(roles, phase)
    for part in parts(objective.loss(phase, roles, points(objective).batch(), Step(0, 10, Key(seed)))):
        part.total.backward()
    return calls, graphs


@pytest.mark.parametrize("kind", METHODS)
def test_an_update_makes_the_calls_that_its_page_says(kind: str) -> None:
    page = told(kind)
    assert page
    for seed in range(6):
        calls, graphs = made(kind, seed)
        assert set(calls) == set(page)
        for role, (count, with_graph) in page.items():
            assert calls[role] in count, (role, calls)
            assert graphs[role] == with_graph, (role, graphs)


def test_a_network_that_is_asked_once_too_often_is_noticed() -> None:
    assert made("lcm", 0)[0] != made("consistency", 0)[0]


@pytest.mark.parametrize("kind", METHODS)
def test_no_graph_reaches_the_frozen_roles(kind: str) -> None:
    calls, graphs = made(kind, 1)
    assert graphs["teacher"] == 0
    assert torch.is_grad_enabled()
    assert calls["student"] >= 1
