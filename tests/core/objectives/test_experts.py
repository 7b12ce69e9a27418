"""One student for each part of the conditions, against one student for all.

Setting of the numbers: the mixture .3 N(-2, .5^2) + .7 N(1.5, .4^2), judged at sigma = .5 of the exploding process.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from objective_toys import At, hermite, linear_gradient
from scipy.optimize import root
from torch import Tensor, nn

from fewstep.engine import assemble, execute
from fewstep.objectives import ByCentroid, ByLabel, PartSource, dmd, experts, k_means
from fewstep.objectives.discriminator import Adversary
from fewstep.objectives.ratios import DensityRatio, forward_kl, jensen_shannon
from fewstep.objectives.weights import score
from fewstep.processes import edm
from fewstep.protocol import Assembly, Batch, Cond, Group, Key, Optim, Plan, Product, Shelf, Site, Step
from fewstep.samplers import router_sampler
from fewstep.testing.analytic import GaussianTeacher, MixtureTeacher
from fewstep.testing.exact import Exact
from fewstep.testing.linear import LinearFake, LinearStudent

SHARES, MEANS, STDS = (torch.tensor(v, dtype=torch.float64) for v in ((0.3, 0.7), (-2.0, 1.5), (0.5, 0.4)))
NOISE = 0.5
PROCESS = edm()


def log_mixture(x: Tensor) -> Tensor:
    """Log density of the corrupted mixture."""
    laws = torch.distributions.Normal(MEANS, (STDS.square() + NOISE**2).sqrt())
    return torch.logsumexp(SHARES.log() + laws.log_prob(x.unsqueeze(-1)), -1)


def log_student(x: Tensor, gain: float, shift: float) -> Tensor:
    return torch.distributions.Normal(shift, math.sqrt(gain**2 + NOISE**2)).log_prob(x)


def divergence(name: str, gain: float, shift: float) -> float:
    """By the trapezoidal rule on 4,001 points."""
    x = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    log_p, log_q = log_mixture(x), log_student(x, gain, shift)
    p, q = log_p.exp(), log_q.exp()
    if name == "forward":
        inside = p * (log_p - log_q)
    elif name == "reverse":
        inside = q * (log_q - log_p)
    else:
        middle = ((p + q) / 2).log()
        inside = p * (log_p - middle) + q * (log_q - middle)
    return float(torch.trapezoid(inside, x))


class Ratio(nn.Module):
    """The optimal discriminator between the mixture and a linear student."""

    def __init__(self, student: LinearStudent) -> None:
        super().__init__()
        object.__setattr__(self, "student", student)

    student: LinearStudent

    def forward(self, xt: Tensor, t: Tensor, cond: Any) -> Tensor:
        gain, shift = float(self.student.gain.detach()), float(self.student.shift.detach())
        return (log_mixture(xt) - log_student(xt, gain, shift)).squeeze(-1)


FACTORS: dict[str, Any] = {"forward": forward_kl, "reverse": None, "shannon": jensen_shannon}


def slope(name: str, gain: float, shift: float) -> tuple[float, float]:
    """Gradient of the objective that follows a divergence, by 60 x 60 Gauss-Hermite points."""
    batch, key, mass = hermite()
    student = LinearStudent(PROCESS, gain, shift)
    teacher = MixtureTeacher(PROCESS, SHARES, MEANS.unsqueeze(1), STDS)
    roles = {"teacher": teacher, "student": student, "fake": LinearFake(PROCESS, student)}
    settings: dict[str, Any] = {}
    if (factor := FACTORS[name]) is not None:
        roles["disc"] = Ratio(student)
        settings = {
            "adversary": Adversary(weight=0.0),
            "ratio": DensityRatio(factor, clip=None, normalize="none"),
        }
    objective = dmd(
        At(NOISE),
        weight=lambda process, t: score(process, t) * mass,
        normalize=False,
        **settings,
    )
    return linear_gradient(objective, roles, batch, key)


@pytest.mark.parametrize(
    ("name", "near", "optimum", "value"),
    [
        ("forward", (1.5, 0.3), (1.661174, 0.45), 0.3678),
        ("reverse", (0.5, 1.4), (0.443, 1.479), 0.3474),
        ("shannon", (1.7, 0.5), (1.631, 0.438), 0.2025),
        ("shannon", (0.45, 1.5), (0.478, 1.464), 0.2270),
    ],
)
def test_one_student_for_two_modes_stands_still_far_from_the_mixture(
    name: str, near: tuple[float, float], optimum: tuple[float, float], value: float
) -> None:
    """The best single Gaussian in each divergence: (standard deviation, mean), and how far it remains."""
    found = root(lambda point: slope(name, *point), near, tol=1e-7)
    assert found.success
    assert tuple(found.x) == pytest.approx(optimum, abs=2e-3)
    assert divergence(name, *found.x) == pytest.approx(value, abs=6e-5)


def test_the_moments_of_the_mixture_are_the_optimum_of_the_forward_divergence() -> None:
    mean = float((SHARES * MEANS).sum())
    spread = math.sqrt(float((SHARES * (STDS.square() + MEANS.square())).sum()) - mean**2)
    assert (mean, spread) == pytest.approx((0.45, 1.661174), abs=1e-6)


# --- one student for each component -----------------------------------------------------------------------------------


class Labeled(Exact):
    """The component that the label names."""

    def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        mean, std = MEANS[cond.data].unsqueeze(1), STDS[cond.data].unsqueeze(1)
        return GaussianTeacher(self.process, mean, std).believe(xt, t, cond)


class Labels:
    """Rows of both labels, .3 to .7."""

    def batch(self, index: int, key: Key) -> Batch:
        label = (key.at("label", index).uniform((32,)) > 0.3).long()
        return Batch(like=torch.zeros(32, 1, dtype=torch.float64), cond=Cond(label))


BOTH = ByLabel((0, 1))


def build(part: int, shelf: Shelf) -> Assembly:
    student = LinearStudent(PROCESS, 1.0, 0.0)
    make: dict[str, Any] = {
        "teacher": lambda: Labeled(PROCESS),
        "student": lambda: student,
        "fake": lambda: LinearFake(PROCESS, student),
    }
    rate = Optim((Group(lr=lambda step: 0.1 * (1 - step.index / step.total) + 1e-4),))
    objective = dmd(At(NOISE), critic_updates=0, normalize=False)
    return assemble(objective, make, PartSource(Labels(), BOTH, part), {"student": rate})


@cache
def shelf() -> dict[str, Any]:
    empty: Any = lambda *given: []  # noqa: E731
    plan = Plan(experts("part", 2, build, 120), Product("student/0", {}, empty, empty, dict, empty, ()))
    return execute(plan, Site(key=Key(0), cache=Path()))


def test_each_part_is_a_stage_that_leaves_its_own_student() -> None:
    stages = experts("part", 2, build, 7)
    assert [stage.name for stage in stages] == ["part-0", "part-1"]
    assert [stage.leaves for stage in stages] == [{"student": "student/0"}, {"student": "student/1"}]
    assert set(shelf()) == {"student/0", "student/1"}


@pytest.mark.parametrize("part", [0, 1])
def test_each_student_becomes_its_component(part: int) -> None:
    student = shelf()[f"student/{part}"]
    gain, shift = abs(float(student.gain)), float(student.shift)
    mean, std = float(MEANS[part]), float(STDS[part])
    apart = math.log(std / gain) + (gain**2 + (shift - mean) ** 2) / (2 * std**2) - 0.5
    assert apart < 1e-3, "Kullback-Leibler divergence of two Gaussians"


def test_the_routed_students_have_the_law_that_no_single_one_has() -> None:
    labels = (torch.arange(20_000) % 10 >= 3).long()
    batch = Batch(like=torch.zeros(20_000, 1, dtype=torch.float64), cond=Cond(labels))
    (state,) = router_sampler(BOTH, ("student/0", "student/1")).fn(shelf(), batch, Step.inference(Key(5)))
    for part in (0, 1):
        mine = state.x[batch.cond.data == part]
        assert float(mine.mean()) == pytest.approx(float(MEANS[part]), abs=0.03)
        assert float(mine.std()) == pytest.approx(float(STDS[part]), abs=0.03)


# --- partitions and their sources -------------------------------------------------------------------------------------


def test_a_part_shows_only_its_conditions_at_full_size_as_a_function_of_the_counter() -> None:
    class Numbered:
        """Labels 0 to 3, each row named by a number of its own."""

        def batch(self, index: int, key: Key) -> Batch:
            label = key.at("label", index).integers((8,), 4)
            x = (100.0 * index + torch.arange(8.0)).unsqueeze(1)
            return Batch(like=x, x=x, cond=Cond({"label": label}), extra={"twice": 2 * x, "note": "kept"})

    source = PartSource(Numbered(), ByLabel((0, 1, 1, 2), "label"), part=1)
    one, again, other = source.batch(3, Key(0)), source.batch(3, Key(0)), source.batch(4, Key(0))
    assert set(one.cond.data["label"].tolist()) == {1, 2}
    assert one.x.shape == (8, 1)
    assert torch.equal(one.x, again.x)
    assert torch.equal(one.extra["twice"], 2 * one.x)
    assert one.extra["note"] == "kept"
    assert not set(one.x.flatten().tolist()) & set(other.x.flatten().tolist())


def test_rows_are_taken_from_all_that_has_rows_and_nothing_else() -> None:
    x = torch.arange(12.0).reshape(3, 2, 2)
    mask = torch.tensor([[True], [False]]).unsqueeze(0)
    cond = Cond({"a": torch.arange(3)}, mask=mask, index=torch.arange(3))
    taken = Batch(like=x, x={"leaf": x}, cond=cond, extra={"table": torch.zeros(7), "each": x}).take(
        torch.tensor([2, 0])
    )
    assert torch.equal(taken.like, x[[2, 0]])
    assert torch.equal(taken.x["leaf"], x[[2, 0]])
    assert taken.cond.data["a"].tolist() == [2, 0]
    assert taken.cond.index is not None
    assert taken.cond.index.tolist() == [2, 0]
    assert torch.equal(taken.cond.mask, mask), "one mask for all rows"
    assert torch.equal(taken.extra["table"], torch.zeros(7))
    assert torch.equal(taken.extra["each"], x[[2, 0]])


def test_a_rare_part_is_repeated_and_an_empty_one_is_refused() -> None:
    class Same:
        def batch(self, index: int, key: Key) -> Batch:
            x = torch.arange(4.0).unsqueeze(1)
            return Batch(like=x, x=x, cond=Cond(torch.tensor([0, 0, 0, 1])))

    assert PartSource(Same(), BOTH, 1, reach=2).batch(0, Key(0)).x.flatten().tolist() == [3.0] * 4
    with pytest.raises(ValueError, match="part 2"):
        PartSource(Same(), BOTH, 2).batch(0, Key(0))


@pytest.mark.parametrize("seed", range(5))
def test_centroids_of_separate_clusters_are_their_means(seed: int) -> None:
    centers = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]], dtype=torch.float64)
    points = (centers.unsqueeze(1) + Key(1).normal(torch.zeros(3, 40, 2, dtype=torch.float64))).flatten(0, 1)
    found = k_means(points, 3, Key(seed))
    parts = ByCentroid(found)(Cond(points)).reshape(3, 40)
    assert all(len(set(row.tolist())) == 1 for row in parts)
    means = points.reshape(3, 40, 2).mean(1)
    assert torch.allclose(found[parts[:, 0]], means)
    assert not torch.allclose(k_means(points, 3, Key(seed), rounds=0)[parts[:, 0]], means)


def test_more_parts_than_points_are_refused() -> None:
    with pytest.raises(ValueError, match="2 different points cannot make 3 parts"):
        k_means(torch.tensor([[0.0], [0.0], [1.0]]), 3, Key(0))
