"""Discriminators: what their losses mean at the optimum, what they read, and how often networks are called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from cases_score import CASES, head
from objective_cases import NATURAL, PROCESS, Pointwise, points
from objective_toys import (
    ANGLE,
    MEAN,
    STD,
    At,
    Listed,
    duel,
    four_points,
    grant,
    hermite,
    linear_gradient,
    unit_process,
)
from pydantic import ValidationError
from test_ratios import ROWS, ExactRatio, normals
from torch import Tensor, nn

from fewstep.config.objectives import KINDS
from fewstep.engine import AssemblyError, assemble
from fewstep.objectives import Adversarial, Adversary, FeatureHead, Readout, dmd2, tdm
from fewstep.objectives.continuous import After
from fewstep.protocol import Batch, Cond, Denoiser, Group, Key, Optim, Roles, Step
from fewstep.samplers import FewStep
from fewstep.testing.linear import LinearStudent


@dataclass(frozen=True)
class Massed(Adversary):
    """Per-sample losses times quadrature weights."""

    mass: Tensor = field(default_factory=lambda: torch.ones(1))

    def student_loss(self, logit: Tensor) -> Tensor:
        return self.mass * super().student_loss(logit)


@pytest.mark.parametrize(
    ("loss", "row"), [("softplus", "softened_reverse_kl"), ("saturating", "jensen_shannon")]
)
def test_at_the_optimal_discriminator_the_student_descends_a_divergence(loss: Any, row: str) -> None:
    batch, key, mass = hermite()
    objective = Adversarial(At(ANGLE), Massed(loss=loss, mass=mass))
    found = linear_gradient(objective, {**duel(), "disc": ExactRatio(*normals())}, batch, key)
    assert found == pytest.approx(ROWS[row][1], abs=1e-6)


def test_the_hinge_has_another_gradient_and_is_the_mean_logit() -> None:
    batch, key, mass = hermite()
    objective = Adversarial(At(ANGLE), Massed(loss="hinge", mass=mass))
    found = linear_gradient(objective, {**duel(), "disc": ExactRatio(*normals())}, batch, key)
    # -E_q[log p / q]: the reverse divergence with the entropy's gradient in x alone, which is the first row.
    assert found == pytest.approx(ROWS["reverse_kl"][1], abs=1e-6)


class Slope(nn.Module):
    """d(x) = w x."""

    def __init__(self, w: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w, dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor, cond: Any) -> Tensor:
        return (self.w * x).squeeze(-1)


def critic_loss(adversary: Adversary, disc: nn.Module, x: Tensor, key: Key) -> Any:
    objective = Adversarial(At(ANGLE), adversary)
    roles = {**duel(), "disc": disc}
    return objective.loss(objective.phases(0)[0], roles, Batch(like=x, x=x), Step(0, 10, key))


def test_the_gradient_penalty_is_the_squared_slope() -> None:
    """For d = w x at alpha = .8: (w alpha .1)^2, exactly, when the nudge is +-1."""
    batch, _ = four_points()
    key = Listed(0, values={"nudge": batch.like})
    plain = critic_loss(Adversary(), Slope(3.0), batch.like, key)
    held = critic_loss(Adversary(r1=2.0), Slope(3.0), batch.like, key)
    assert float(held.logs["r1"]) == pytest.approx((3.0 * 0.8 * 0.1) ** 2, abs=1e-15)
    assert float((held.total - plain.total).detach()) == pytest.approx(2 * 0.0576, abs=1e-14)


def test_the_hinge_of_the_discriminator_stops_at_its_margins() -> None:
    x = torch.zeros(4, 1, dtype=torch.float64)

    class Sure(nn.Module):
        def forward(self, xt: Tensor, t: Tensor, cond: Any) -> Tensor:
            return torch.full((len(xt),), 0.25, dtype=torch.float64)

    # (relu(1 - 1/4) + relu(1 + 1/4)) / 2 for a logit of 1/4 everywhere
    assert float(critic_loss(Adversary(loss="hinge"), Sure(), x, Key(0)).total) == pytest.approx(1.0)


def test_a_readout_of_an_affine_network_is_any_log_ratio_of_gaussians() -> None:
    """Fitted by least squares on three numbers, at one time: the quadratic of O14 without an error."""

    class Affine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.of_x = nn.Linear(1, 1).double()

        def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
            found: Tensor = self.of_x(x)
            return found

    disc = Readout(Denoiser(Affine(), unit_process(), "x0"))
    x = torch.linspace(-3, 3, 7, dtype=torch.float64).unsqueeze(1)
    t = torch.full((7,), ANGLE, dtype=torch.float64)
    wanted = ExactRatio(*normals())(x, t, None)
    a, b, c = torch.linalg.lstsq(torch.cat([x**2, x, torch.ones_like(x)], 1), wanted.unsqueeze(1)).solution
    net: Any = disc.judge.net
    net.of_x.weight.data[:], net.of_x.bias.data[:] = a, b
    disc.bias.data.copy_(c.squeeze())
    assert torch.allclose(disc(x, t, Cond()), wanted, atol=1e-12)


def test_a_student_that_plays_against_a_readout_reaches_the_data() -> None:
    class Affine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.of_x = nn.Linear(1, 1).double()
            nn.init.zeros_(self.of_x.weight)
            nn.init.zeros_(self.of_x.bias)

        def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
            found: Tensor = self.of_x(x)
            return found

    process = unit_process()
    student = LinearStudent(process, 0.2, 0.0)
    roles: Any = {**duel(), "student": student, "disc": Readout(Denoiser(Affine(), process, "x0"))}
    objective = Adversarial(At(ANGLE), critic_updates=2)
    rates = {"student": torch.optim.Adam(student.parameters(), 0.02, (0.0, 0.9)),
             "disc": torch.optim.Adam(roles["disc"].parameters(), 0.1, (0.0, 0.9))}  # fmt: skip
    for i in range(120):
        for j, phase in enumerate(objective.phases(i)):
            key = Key(1).at(i, j)
            x = MEAN + STD * key.at("data").normal(torch.zeros(128, 1, dtype=torch.float64))
            grant(roles, phase)
            objective.loss(phase, roles, Batch(like=x, x=x), Step(i, 120, key)).total.backward()
            rates[phase.updates[0]].step()
    assert abs(float(student.gain.detach())) == pytest.approx(STD, abs=0.12)
    assert float(student.shift.detach()) == pytest.approx(MEAN, abs=0.12)


def test_real_samples_are_told_the_same_step_as_the_students() -> None:
    """A network that reads the index could otherwise tell the classes apart by it alone."""
    case = CASES["dmd2"]
    roles, told = case.roles(), []
    roles["fake"].net.register_forward_pre_hook(lambda module, given: told.append(given[2].index))
    critic = case.objective.phases(0)[0]
    case.objective.loss(critic, roles, case.batch(), Step(0, 10, Key(1)))
    assert len(told) == 2
    assert torch.equal(told[0], told[1])


CALLS = {
    # name -> phase -> calls of (teacher, fake, disc), those with a graph after the slash
    "dmd2": {"critic": "0/0 2/2 2/2", "student": "1/0 1/1 1/1"},
    "dmd2 that reads states": {"critic": "0/0 1/1 2/2", "student": "1/0 1/0 1/1"},
    "dmd2 on features of the teacher": {"critic": "3/0 1/1 3/3", "student": "1/1 1/0 1/1"},
    "dmd": {"critic": "0/0 1/1", "student": "1/0 1/0"},
    "f-distill": {"critic": "0/0 2/2 2/2", "student": "1/0 1/1 1/1"},
    "f-distill whose ratio alone is read": {"critic": "0/0 1/1 2/2", "student": "1/0 1/0 1/0"},
    "tdm": {"critic": "0/0 1/1", "student": "1/0 1/0"},
    "sds": {"student": "1/0"},
}


@pytest.mark.parametrize("name", CALLS)
def test_no_network_is_called_more_often_than_the_mathematics_needs(name: str) -> None:
    case = CASES[name]
    for phase in dict.fromkeys(case.objective.phases(0)):
        roles = case.roles()
        grant(roles, phase)
        seen = {role: listen(module) for role, module in roles.items() if role not in ("student", "reward")}
        case.objective.loss(phase, roles, case.batch(), Step(0, 10, Key(1)))
        counted = " ".join(f"{len(calls)}/{sum(calls)}" for calls in seen.values())
        assert counted == CALLS[name][phase.name], phase.name


def test_an_adversary_that_has_not_entered_yet_costs_the_student_nothing() -> None:
    case = CASES["dmd2"]
    waiting = replace(case.objective, adversary=replace(case.objective.adversary, weight=After(20)))
    roles, phase = case.roles(), waiting.phases(0)[-1]
    grant(roles, phase)
    seen = {role: listen(roles[role]) for role in ("teacher", "fake", "disc")}
    found = waiting.loss(phase, roles, case.batch(), Step(0, 100, Key(1)))
    assert seen == {"teacher": [False], "fake": [False], "disc": []}
    assert "adversarial" not in found.logs
    assert "adversarial" in waiting.loss(phase, roles, case.batch(), Step(20, 100, Key(1))).logs


def listen(module: nn.Module) -> list[bool]:
    calls: list[bool] = []

    def note(module: Any, given: Any, out: Any) -> None:
        found = out if isinstance(out, Tensor) else out.x0
        calls.append(found.requires_grad)

    module.register_forward_hook(note)
    return calls


class Source:
    def batch(self, index: int, key: Key) -> Batch:
        return points(dmd2(NATURAL)).batch()


class Plain(nn.Module):
    """A network without features."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Pointwise(1)

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Any:
        return self.inner(x, time, cond)


def assembled(objective: Any, net: Callable[[], nn.Module], rule: Any = "ddim") -> Any:
    make = {
        "teacher": lambda: Denoiser(net(), PROCESS, "edm"),
        "student": lambda: FewStep(net(), PROCESS, "edm", (10.0, 1.0), rule, "random"),
    }
    rates = {"student": Optim((Group(lr=1e-4),)), "fake": Optim((Group("inner", 3e-4), Group("outer", 1e-3)))}
    if net is Plain:
        rates["fake"] = Optim((Group(lr=3e-4),))
    return assemble(objective, make, Source(), rates)


@pytest.mark.parametrize(("net", "kind"), [(lambda: Pointwise(1), FeatureHead), (Plain, Readout)])
def test_a_recipe_without_a_discriminator_gets_one_that_trains_like_the_fake(net: Any, kind: type) -> None:
    built = assembled(dmd2(NATURAL), net)
    assert type(built.roles["disc"]) is kind
    assert [group.lr for group in built.optimizers["disc"].groups] == [3e-4]
    assert all(p.requires_grad for p in built.roles["disc"].parameters())
    objective = built.objective
    for phase in dict.fromkeys(objective.phases(0)):
        total = objective.loss(phase, built.roles, Source().batch(0, Key(0)), Step(0, 10, Key(1))).total
        assert bool(torch.isfinite(total))


def test_a_discriminator_alone_trains_like_the_student() -> None:
    built = assembled(Adversarial(NATURAL), Plain)
    assert [group.lr for group in built.optimizers["disc"].groups] == [1e-4]


def test_matching_of_paths_is_refused_for_students_that_renoise() -> None:
    assert assembled(tdm(NATURAL), Plain).roles.keys() == {"teacher", "student", "fake"}
    with pytest.raises(AssemblyError, match="rule = 'ddim', not 'renoise'"):
        assembled(tdm(NATURAL), Plain, rule="renoise")


def test_a_head_that_reads_features_needs_to_know_whose() -> None:
    roles: Roles = {"disc": head()}
    with pytest.raises(ValueError, match="features_of"):
        Adversary().shows(None, roles)


def test_a_head_averages_over_real_positions_alone() -> None:
    disc, mask = head(), torch.tensor([[1, 1, 0], [1, 1, 1]], dtype=torch.bool).unsqueeze(-1)
    features = Key(0).normal(torch.zeros(2, 3, 8, dtype=torch.float64))
    t = torch.tensor([0.5, 2.0], dtype=torch.float64)
    found = disc((features,), t, Cond(mask=mask))
    short = disc((features[:1, :2],), t[:1], Cond())
    assert torch.allclose(found[:1], short, atol=1e-14)
    assert not torch.allclose(disc((features,), t, Cond())[:1], short)
    with pytest.raises(ValueError, match="do not fit the mask"):
        disc((features[:, :2],), t, Cond(mask=mask))


def test_settings_reach_the_objectives_and_keep_their_own_defaults() -> None:
    found: Any = KINDS["dmd2"](adversary={"features_of": "teacher"}).build(PROCESS)
    assert (found.adversary.features_of, found.adversary.weight) == ("teacher", 3e-3)
    assert (found.adversary.disc_weight, found.critic_updates) == (1e-2, 5)
    assert "disc" not in KINDS["dmd2"](adversary=None).build(PROCESS).roles
    ladd: Any = KINDS["ladd"](adversary={"r1": 0.1, "reference": "teacher"}, inputs="data").build(PROCESS)
    assert (ladd.adversary.features_of, ladd.adversary.weight) == ("teacher", 1.0)
    assert ladd.reads == {"x", "extra.teacher"}
    ratio: Any = KINDS["f-distill"](divergence="neyman", clip=None, bins=4).build(PROCESS)
    assert ratio.ratio.unbounded
    assert ratio.ratio.bins == 4
    path: Any = KINDS["tdm"](reach="segment").build(PROCESS)
    assert path.corruption.reach == "segment"
    assert path.roles["student"].having == {"rule": "ddim"}


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("dmd", {"reward": {}}),
        ("dmd", {"reward": {"tilt": 1.0, "target": "no colon"}}),
        ("ladd", {"weight": "edm"}),
        ("ladd", {"adversary": {"features_of": "fake"}}),
        ("f-distill", {"adversary": None}),
        ("f-distill", {"divergence": "total-variation"}),
        ("dmd2", {"adversary": {"smoothing": 0.5}}),
    ],
)
def test_settings_that_mean_nothing_are_refused(kind: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        KINDS[kind](**settings)
