"""Six problems with known answers, from plan to sample through the one trainer.

Each function takes a seed and returns (student, control): the same distance to the truth, which the student must
make small and the control must not. ``python six_problems.py`` runs the study that STUDY.md records.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.engine import assemble, execute
from fewstep.objectives import Consistency, Coupled, GridPairs, RatioPolicy, dmd, sds, vsd
from fewstep.processes import Karras, Masked, Uniform, edm, flow, vp
from fewstep.protocol import (
    Average,
    Batch,
    Cond,
    Denoiser,
    Group,
    Key,
    Objective,
    Optim,
    Plan,
    Product,
    Sample,
    Site,
    Stage,
    Step,
)
from fewstep.samplers import FewStep, FewStepTokens
from fewstep.testing.analytic import (
    CovarianceTeacher,
    MarkovTeacher,
    ProjectedTeacher,
    ar1_covariance,
    divergence,
    project_points,
    ring,
    sampler_law,
    sequence_law,
)


class Waves(nn.Module):
    """An MLP on (x, time, condition), all flattened."""

    def __init__(self, size: int, cond: int = 0, width: int = 96) -> None:
        super().__init__()
        first = nn.Linear(size + 8 + cond, width)
        self.layers = nn.Sequential(
            first, nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, size)
        )

    def forward(self, x: Tensor, t: Tensor, cond: Cond) -> Tensor:
        phase = t[:, None] * torch.tensor([0.5, 1.0, 2.0, 4.0])
        told = [] if cond.data is None else [cond.data.flatten(1)]
        return self.layers(torch.cat([x.flatten(1), phase.sin(), phase.cos(), *told], 1)).reshape(x.shape)


@dataclass(frozen=True)
class Drawn:
    """A source made of one function of (rows, key)."""

    size: int
    make: Callable[[int, Key], Batch]

    def batch(self, index: int, key: Key) -> Batch:
        return self.make(self.size, key.at("batch", index))


@dataclass(frozen=True)
class After:
    """A learning rate that is zero for the first cycles (the critic's head start), then falls to a tenth."""

    rate: float
    wait: int = 0

    def __call__(self, step: Step) -> float:
        return 0.0 if step.index < self.wait else self.rate * (1 - 0.9 * step.index / step.total)


def train(
    objective: Objective,
    make: Mapping[str, Callable[[], nn.Module]],
    source: Drawn,
    steps: int,
    seed: int,
    rates: Mapping[str, float],
    averages: Mapping[str, Average] | None = None,
    head_start: int = 0,
) -> dict[str, Any]:
    """One stage through the engine; every role is left on the shelf."""
    waits = {"student": head_start}
    ramps = {name: After(rate, waits.get(name, 0)) for name, rate in rates.items()}
    optim = {name: Optim((Group(lr=ramp),), clip=10.0) for name, ramp in ramps.items()}

    def build(shelf: Mapping[str, Any]) -> Any:
        return assemble(objective, make, source, optim, averages)

    stage = Stage("train", build, steps, {"student": "student"})
    return execute(Plan((stage,), NO_PRODUCT), Site(Key(seed), Path()))


NO_PRODUCT = Product("student", {}, lambda n, k: None, lambda o, n, k: None, object, lambda x, b, f: [], ())  # type: ignore[arg-type,return-value]


def energy_distance(x: Tensor, y: Tensor) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'| without self pairs; 0 for one law."""
    within = [torch.cdist(a, a).sum() / (len(a) * (len(a) - 1)) for a in (x, y)]
    return float(2 * torch.cdist(x, y).mean() - within[0] - within[1])


# ---------------------------------------------------------------------------------------------- 1, 2: a plane map
RING = ring(edm(sigma_min=0.02, sigma_max=20.0, sigma_data=1.4), modes=4)


def on_ring(rows: int, key: Key) -> Batch:
    x = RING.draw(key.at("mode").uniform((rows,)), key.at("spot").normal(torch.zeros(rows, 2))).float()
    return Batch(like=x, x=x)


def plane_student(start: float) -> FewStep:
    return FewStep(Waves(2), RING.process, "boundary", (start,))


def plane_distance(shelf: Mapping[str, Any], seed: int) -> tuple[float, float]:
    """Student and one-call teacher against fresh data."""
    truth, key = on_ring(2000, Key(seed).at("truth")), Key(seed).at("judge")
    with torch.no_grad():
        student = shelf["student"].sample(truth, Step.inference(key)).x
        far = torch.full((2000,), 20.0, dtype=torch.float64)
        once = RING(20.0 * key.normal(truth.like), far, Cond()).x0
    return energy_distance(student, truth.x), energy_distance(once.float(), truth.x)


def consistency(seed: int) -> tuple[float, float]:
    """Energy distance of a one-step consistency student of four modes; control: the teacher in one call."""
    objective = Consistency(pairs=GridPairs(18))
    make = {"teacher": lambda: RING, "student": lambda: plane_student(20.0)}
    average = {"target": Average("student", 0.95, when="before")}
    shelf = train(objective, make, Drawn(256, on_ring), 1200, seed, {"student": 2e-3}, average)
    return plane_distance(shelf, seed)


def distribution_matching(seed: int) -> tuple[float, float]:
    """The same by DMD with a learned fake."""
    objective = dmd(Karras(0.05, 10.0), critic_updates=2)
    make = {
        "teacher": lambda: RING,
        "student": lambda: plane_student(5.0),
        "fake": lambda: Denoiser(Waves(2), RING.process, "edm"),
    }
    shelf = train(objective, make, Drawn(256, on_ring), 900, seed, {"student": 1e-3, "fake": 2e-3})
    return plane_distance(shelf, seed)


# ------------------------------------------------------------------------------------------ 3, 4: a scene of points
class Points(nn.Module):
    """A student that is a scene: 12 free points, shown by the batch's cameras."""

    def __init__(self) -> None:
        super().__init__()
        self.points = nn.Parameter(0.01 * Key(7).normal(torch.zeros(12, 3)))

    def generate(self, batch: Batch, step: Step, *, noise: Any = None, steps: int | None = None) -> Sample:
        return Sample(project_points(self.points, batch.cond.data), batch.cond)

    sample = generate


class Shown(nn.Module):
    """A fake's network that believes in one scene: its x0 is that scene's view, whatever the noise."""

    def __init__(self) -> None:
        super().__init__()
        self.points = nn.Parameter(torch.zeros(12, 3))

    def forward(self, x: Tensor, t: Tensor, cond: Cond) -> Tensor:
        return project_points(self.points, cond.data)


class Blind(nn.Module):
    """A judge that is told another camera."""

    def __init__(self, base: ProjectedTeacher) -> None:
        super().__init__()
        self.base, self.process = base, base.process

    def forward(self, xt: Tensor, t: Tensor, cond: Cond) -> Any:
        return self.base(xt, t, Cond(cond.data.roll(1, 0)))


def scene(rows: int, key: Key) -> Batch:
    """Random orthographic cameras: the first two rows of a random rotation."""
    turn = torch.linalg.qr(key.normal(torch.zeros(rows, 3, 3)))[0]
    return Batch(like=torch.zeros(rows, 12, 2), cond=Cond(turn[:, :2]))


TRUTH = Key(3).normal(torch.zeros(12, 3))
VIEWS = ProjectedTeacher(vp(), TRUTH, 0.05)


def _scene(objective: Objective, seed: int, steps: int) -> tuple[float, float]:
    errors = []
    for judge in (VIEWS, Blind(VIEWS)):
        make = {
            "teacher": lambda judge=judge: judge,
            "student": Points,
            "fake": lambda: Denoiser(Shown(), VIEWS.process, "x0"),
        }
        shelf = train(objective, make, Drawn(16, scene), steps, seed, {"student": 2e-2, "fake": 4e-2})
        points = shelf["student"].points.detach()
        errors.append(float((points - TRUTH).norm() / TRUTH.norm()))
    return errors[0], errors[1]


def score_distillation(seed: int) -> tuple[float, float]:
    """Relative error of 12 points seen through random views, by SDS; control: the judge is told a wrong camera."""
    return _scene(sds(Uniform(0.02, 0.98)), seed, 700)


def variational(seed: int) -> tuple[float, float]:
    """The same by VSD with a fake that knows the camera."""
    return _scene(vsd(Uniform(0.02, 0.98)), seed, 700)


# ----------------------------------------------------------------------------------------------- 5: a causal clip
class Causal(nn.Module):
    """Eight frames, each from its own noise and the four frames before it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 48), nn.SiLU(), nn.Linear(48, 1))

    def generate(self, batch: Batch, step: Step, *, noise: Any = None, steps: int | None = None) -> Sample:
        z = step.key.at("frames").normal(batch.like) if noise is None else noise
        frames = [torch.zeros(len(z), 1)] * 4
        for i in range(z.shape[1]):
            frames.append(self.layers(torch.cat([*frames[-4:], z[:, i : i + 1]], 1)))
        return Sample(torch.cat(frames[4:], 1), batch.cond)

    sample = generate


def causal_clip(seed: int) -> tuple[float, float]:
    """|lag-1 correlation - 0.9| + |variance - 1| of AR(1) clips; control: the untrained student."""
    teacher = CovarianceTeacher(flow(), ar1_covariance(8, 0.9))
    source = Drawn(256, lambda rows, key: Batch(like=torch.zeros(rows, 8)))
    make = {
        "teacher": lambda: teacher,
        "student": Causal,
        "fake": lambda: Denoiser(Waves(8), teacher.process, "flow"),
    }
    objective = dmd(Uniform(0.02, 0.98), critic_updates=2)
    shelf = train(objective, make, source, 900, seed, {"student": 3e-3, "fake": 3e-3})

    def error(student: Any) -> float:
        with torch.no_grad():
            x = student.sample(Batch(like=torch.zeros(20_000, 8)), Step.inference(Key(seed).at("judge"))).x
        lag = float((x[:, 1:] * x[:, :-1]).mean() / x.square().mean())
        return abs(lag - 0.9) + abs(float(x.square().mean()) - 1)

    return error(shelf["student"]), error(Causal())


# -------------------------------------------------------------------------------------------------- 6: a language
SIZE, LENGTH = 4, 6
CHAIN = torch.tensor(
    [
        [0.22792, 0.00002, 0.57834, 0.19372],
        [0.06396, 0.37362, 0.17181, 0.39061],
        [0.03752, 0.00001, 0.54971, 0.41276],
        [0.41144, 0.41728, 0.00183, 0.16945],
    ],
    dtype=torch.float64,
)


class OneHot(nn.Module):
    """An MLP on visible tokens; (B, L, out) logits."""

    def __init__(self, out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(LENGTH * (SIZE + 1), 128),
            nn.SiLU(),
            nn.Linear(128, 128),
            nn.SiLU(),
            nn.Linear(128, LENGTH * out),
        )
        self.out = out

    def forward(self, x: Tensor, t: Tensor, cond: Cond) -> Tensor:
        flat = nn.functional.one_hot(x, SIZE + 1).flatten(1).float()
        logits = self.layers(flat).reshape(len(x), LENGTH, self.out)
        return logits if self.out > 1 else logits.squeeze(-1)


def fresh_student(seed: int) -> FewStepTokens:
    torch.manual_seed(seed)
    return FewStepTokens(OneHot(SIZE), Masked(SIZE), "logits", steps=2)


def warm_student(teacher: MarkovTeacher, seed: int) -> FewStepTokens:
    """A student that imitates the exact posterior on every state: the undistilled few-step sampler."""
    student = fresh_student(seed)
    grid = torch.cartesian_prod(*[torch.arange(SIZE + 1)] * LENGTH)
    middle = torch.full((len(grid),), 0.5, dtype=torch.float64)
    target = teacher(grid, middle, Cond()).x0.softmax(-1).float()
    optimizer = torch.optim.Adam(student.parameters(), 3e-3)
    for i in range(300):
        rows = Key(seed).at("warm", i).integers((1024,), len(grid))
        logits = student(grid[rows], middle[rows], Cond()).x0
        loss = -(target[rows] * logits.log_softmax(-1)).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return student


def language(seed: int) -> tuple[float, float]:
    """KL(q | p) of a 2-step student over its undistilled value, by exact enumeration; control: shuffled rewards."""
    teacher = MarkovTeacher(Masked(SIZE), CHAIN)
    law = sequence_law(teacher, LENGTH)
    data = torch.cartesian_prod(*[torch.arange(SIZE)] * LENGTH)

    def sequences(rows: int, key: Key) -> Batch:
        at = torch.searchsorted(law.flatten().cumsum(0), key.uniform((rows,))).clamp(max=len(data) - 1)
        return Batch(like=data[at], x=data[at])

    warm = warm_student(teacher, seed)

    def student() -> FewStepTokens:
        again = fresh_student(seed)
        again.load_state_dict(warm.state_dict())
        return again

    def reached(disc: Callable[[], nn.Module]) -> float:
        make = {"teacher": lambda: teacher, "student": student, "disc": disc}
        objective = RatioPolicy(Uniform(0.02, 0.98), corruption=Coupled(), critic_updates=3)
        rates = {"student": 1e-3, "disc": 5e-3}
        shelf = train(objective, make, Drawn(256, sequences), 500, seed, rates, head_start=120)
        return divergence(sampler_law(shelf["student"], LENGTH, 2), law)

    start = divergence(sampler_law(warm, LENGTH, 2), law)
    return reached(lambda: OneHot(1)) / start, reached(Scrambled) / start


class Scrambled(OneHot):
    """A discriminator whose answers are handed to other rows."""

    def __init__(self) -> None:
        super().__init__(1)

    def forward(self, x: Tensor, t: Tensor, cond: Cond) -> Tensor:
        return super().forward(x, t, cond).roll(1, 0)


PROBLEMS: Mapping[str, Callable[[int], tuple[float, float]]] = {
    "consistency": consistency,
    "distribution matching": distribution_matching,
    "score distillation": score_distillation,
    "variational": variational,
    "causal clip": causal_clip,
    "language": language,
}


def study(seeds: range, names: list[str]) -> Iterator[str]:
    for name in names:
        begin = time.process_time()
        found = [PROBLEMS[name](seed) for seed in seeds]
        spent = (time.process_time() - begin) / len(found)
        students, controls = zip(*found, strict=True)
        yield f"| {name} | {max(students):.4f} | {sum(students) / len(students):.4f} | {min(controls):.4f} | {spent:.1f} |"


if __name__ == "__main__":
    torch.set_num_threads(1)
    for line in study(range(int(sys.argv[1])), sys.argv[2:] or list(PROBLEMS)):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
