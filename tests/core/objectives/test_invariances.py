"""Laws that every objective obeys, whatever its formula: batches, masks, frozen roles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from objective_cases import LENGTH, REAL, ROWS, Case, every_case
from objective_toys import Cropped, Permuted, grant
from torch import Tensor

from fewstep.protocol import Batch, Key, Phase, Step, parts, tensors, tree_map
from fewstep.testing.objectives import check_objective

CASES = every_case()

PHASES = [
    (name, phase.name) for name, case in CASES.items() for phase in dict.fromkeys(case.objective.phases(0))
]

ALL = pytest.mark.parametrize(("name", "phase"), PHASES)


def gradients(case: Case, phase: str, batch: Batch, key: Key) -> dict[str, Tensor]:
    """All gradients of one phase, under the flags that the engine sets."""
    roles = case.roles()
    which = phase_of(case, phase)
    grant(roles, which)
    step = Step(1, 10, key, cycle_key=key)
    for part in parts(case.objective.loss(which, roles, batch, step)):
        part.total.backward()
    return {
        f"{role}.{name}": parameter.grad
        for role, module in roles.items()
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }


def phase_of(case: Case, name: str) -> Phase:
    found: Phase = next(p for p in case.objective.phases(1) if p.name == name)
    return found


def rows_of(batch: Batch, order: Any) -> Batch:
    pick = lambda leaf: leaf if leaf is None else leaf[order]  # noqa: E731
    return Batch(
        pick(batch.like),
        tree_map(pick, batch.x),
        replace(batch.cond, mask=pick(batch.cond.mask), data=tree_map(pick, batch.cond.data)),
        tree_map(pick, dict(batch.extra)),
    )


def agree(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.allclose(value, b[name], rtol=1e-9, atol=1e-11), name


@ALL
def test_two_micro_batches_have_the_gradient_of_the_whole(name: str, phase: str) -> None:
    case, key = CASES[name], Key(31)
    if phase in case.coupled:
        pytest.skip("this phase divides by a mean over the batch by design")
    whole = gradients(case, phase, case.batch(), key)
    halves = [
        gradients(
            case,
            phase,
            rows_of(case.batch(), slice(i * ROWS // 2, (i + 1) * ROWS // 2)),
            replace(key, shard=(i, 2)),
        )
        for i in range(2)
    ]
    agree(whole, {k: (halves[0][k] + halves[1][k]) / 2 for k in whole})


@ALL
def test_the_order_of_the_batch_does_not_matter(name: str, phase: str) -> None:
    case, order = CASES[name], (2, 3, 1, 0)
    plain = gradients(case, phase, case.batch(), Key(32))
    permuted = gradients(case, phase, rows_of(case.batch(), list(order)), Permuted(32, order=order))
    agree(plain, permuted)


@ALL
def test_padding_changes_nothing(name: str, phase: str) -> None:
    case = CASES[name]
    padded = gradients(case, phase, case.batch(), Cropped(33, length=LENGTH))
    batch = case.batch()
    crop = lambda leaf: leaf[:, :REAL] if leaf.ndim > 1 else leaf  # noqa: E731
    short = Batch(
        crop(batch.like), crop(batch.x), replace(batch.cond, mask=crop(batch.cond.mask)),
        tree_map(crop, dict(batch.extra)),
    )  # fmt: skip
    agree(padded, gradients(case, phase, short, Cropped(33, length=LENGTH)))


@ALL
def test_no_mask_is_the_mask_that_is_true_everywhere(name: str, phase: str) -> None:
    case = CASES[name]
    batch = case.batch()
    full = replace(batch, cond=replace(batch.cond, mask=torch.ones_like(batch.cond.mask)))
    none = replace(batch, cond=replace(batch.cond, mask=None))
    agree(gradients(case, phase, full, Key(34)), gradients(case, phase, none, Key(34)))


def test_padding_would_change_an_objective_that_forgets_its_mask() -> None:
    """The control of the two tests above: the same batches with the mask taken away disagree."""
    case = CASES["denoising"]
    batch = case.batch()
    blind = replace(batch, cond=replace(batch.cond, mask=None))
    seen = gradients(case, "student", batch, Key(33))
    lost = gradients(case, "student", blind, Key(33))
    assert any(not torch.allclose(seen[k], lost[k], rtol=1e-3) for k in seen)


@ALL
def test_only_the_roles_of_the_phase_receive_gradients(name: str, phase: str) -> None:
    case = CASES[name]
    roles = case.roles()
    which = phase_of(case, phase)
    found = gradients(case, phase, case.batch(), Key(35))
    allowed = {*which.updates}
    assert {key.split(".")[0] for key in found} == allowed
    assert set(roles) >= allowed


@ALL
def test_stopped_gradients_stay_stopped_when_nothing_is_frozen(name: str, phase: str) -> None:
    """The graph itself is cut, not only the flags."""
    case = CASES[name]
    if phase in case.through_judges:
        pytest.skip("this gradient runs through the judges by design")
    roles = case.roles()
    which = phase_of(case, phase)
    step = Step(1, 10, Key(36), cycle_key=Key(36))
    for part in parts(case.objective.loss(which, roles, case.batch(), step)):
        part.total.backward()
    reached = {
        r
        for r, m in roles.items()
        if any(p.grad is not None and p.grad.abs().sum() > 0 for p in m.parameters())
    }
    assert reached == set(which.updates)


@ALL
def test_every_graph_that_is_built_is_used(name: str, phase: str) -> None:
    """A network that is called with a graph receives a gradient through it; others are called without one."""
    case, which = CASES[name], phase_of(CASES[name], phase)
    if which.builds:
        pytest.skip("this phase builds a graph for a later one")
    roles = case.roles()
    grant(roles, which)
    built, used = [], set()

    def note(module: Any, inputs: Any, out: Any) -> None:
        outputs = [leaf for leaf in tensors(out) if leaf.requires_grad]
        if outputs:
            built.append(f"{type(module).__name__} {len(built)}")
            for leaf in outputs:
                leaf.register_hook(lambda grad, call=built[-1]: used.add(call))

    for module in {id(m.net): m.net for m in roles.values() if hasattr(m, "net")}.values():
        module.register_forward_hook(note)
    for part in parts(
        case.objective.loss(which, roles, case.batch(), Step(1, 10, Key(38), cycle_key=Key(38)))
    ):
        part.total.backward()
    assert sorted(set(built) - used) == []


@pytest.mark.parametrize("name", CASES)
def test_no_parameter_changes_by_computing_a_loss(name: str) -> None:
    case = CASES[name]
    roles = case.roles()
    before = {role: [p.clone() for p in module.parameters()] for role, module in roles.items()}
    for which in case.objective.phases(0):
        for part in parts(case.objective.loss(which, roles, case.batch(), Step(0, 10, Key(37)))):
            part.total.backward()
    for role, module in roles.items():
        assert all(torch.equal(a, b) for a, b in zip(before[role], module.parameters(), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_the_conformance_kit_accepts_it(name: str) -> None:
    case = CASES[name]
    for check in check_objective(case.objective, case.roles(), case.batch()):
        check.run()


@pytest.mark.parametrize("name", CASES)
def test_roles_phases_and_reads_fit_together(name: str) -> None:
    objective = CASES[name].objective
    named = set(objective.roles)
    for which in objective.phases(0):
        assert {*which.updates, *which.builds} <= named
        assert all(objective.roles[r].trainable for r in which.updates)
    assert all(role.init is None or role.init in named for role in objective.roles.values())
    assert hash(objective.reads) == hash(frozenset(objective.reads))


def test_critic_and_student_of_one_cycle_judge_one_sample_when_they_share_it() -> None:
    case = CASES["dmd with one rollout"]
    assert count_rollouts(case) == 1
    assert count_rollouts(CASES["dmd"]) == 2


def count_rollouts(case: Case) -> int:
    roles = case.roles()
    student: Any = roles["student"]
    calls = []
    generate = student.generate
    object.__setattr__(student, "generate", lambda *a, **k: calls.append(1) or generate(*a, **k))
    step = Step(0, 10, Key(1), cycle_key=Key(1))
    for which in dict.fromkeys(case.objective.phases(0)):
        case.objective.loss(which, roles, case.batch(), step)
    return len(calls)


def test_the_fake_is_told_the_step_and_the_teacher_is_not() -> None:
    case = CASES["dmd"]
    roles = case.roles()
    told: dict[str, list[Any]] = {"teacher": [], "fake": []}

    def listen(name: str) -> Any:
        return lambda module, inputs: told[name].append(inputs[2].index)

    handles = [roles[name].net.register_forward_pre_hook(listen(name)) for name in told]
    for which in case.objective.phases(0):
        case.objective.loss(which, roles, case.batch(), Step(0, 10, Key(1)))
    assert told["teacher"] == [None]
    assert len(told["fake"]) == 2
    assert all(index is not None for index in told["fake"])
    for handle in handles:
        handle.remove()
