"""Small closed-form stages for the engine's tests; also run in child processes that are killed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.objectives import SiD
from fewstep.objectives.score_methods import dmd, dmd2
from fewstep.processes import LogNormal, edm
from fewstep.protocol import (
    Assembly,
    Average,
    Batch,
    Cond,
    Denoiser,
    Group,
    Key,
    Loss,
    Objective,
    Optim,
    Phase,
    Plan,
    Product,
    Role,
    Sample,
    Site,
    Stage,
    Step,
)
from fewstep.samplers import FewStep


class Generator(nn.Module):
    """A small student: noise through a network, with dropout so that the global generator matters."""

    def __init__(self, width: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Linear(2, width)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Linear(width, 2)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.dropout(torch.tanh(self.first(x))))

    def generate(
        self, batch: Batch, step: Step, *, noise: Tensor | None = None, steps: int | None = None
    ) -> Sample:
        noise = step.key.at("noise").normal(batch.like) if noise is None else noise
        return Sample(self(self(noise)) + self.second.bias, batch.cond)

    def sample(
        self, batch: Batch, step: Step, *, noise: Tensor | None = None, steps: int | None = None
    ) -> Sample:
        return self.generate(batch, step, noise=noise)


def ignore(index: int) -> None:
    """Hear of a batch and do nothing."""


@dataclass(frozen=True)
class Cloud:
    """Gaussian points around (3, -1)."""

    rows: int = 8
    seen: Callable[[int], None] = ignore

    def batch(self, index: int, key: Key) -> Batch:
        self.seen(index)
        world = key.shard[1]
        like = torch.zeros(self.rows // world, 2)
        x = key.at(index).normal(like) + torch.tensor([3.0, -1.0])
        return Batch(like=like, x=x)


@dataclass(frozen=True)
class Fit:
    """One role regresses the data from noise: its mean is (3, -1) in closed form."""

    role: str = "student"

    @property
    def roles(self) -> Mapping[str, Role]:
        return {self.role: Role(), "target": Role(trainable=False, optional=True)}

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"x"})

    def phases(self, index: int) -> Sequence[Phase]:
        return (Phase(self.role, (self.role,)),)

    def loss(self, phase: Phase, roles: Mapping[str, Any], batch: Batch, step: Step) -> Loss:
        out = roles[self.role](step.key.at("noise").normal(batch.like))
        total = (out - batch.x).square().mean()
        return Loss(total, {"error": total.detach()})


@dataclass(frozen=True)
class Duel:
    """Two critic updates and one student update: the shape of a learned-fake distillation."""

    builds: tuple[str, ...] = ()
    reset: int | None = None

    @property
    def roles(self) -> Mapping[str, Role]:
        return {
            "teacher": Role(trainable=False),
            "student": Role(init="teacher"),
            "fake": Role(init="teacher", reset_every=self.reset),
        }

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"x"})

    def phases(self, index: int) -> Sequence[Phase]:
        critic = Phase("critic", ("fake",), self.builds)
        return (critic, critic, Phase("student", ("student",)))

    def loss(self, phase: Phase, roles: Mapping[str, Any], batch: Batch, step: Step) -> Iterator[Loss]:
        made = self._made(phase, roles, batch, step)
        if phase.name == "critic":
            noisy = made.detach() + step.key.at("corrupt").normal(made)
            total = (roles["fake"](noisy) - made.detach()).square().mean()
            yield Loss(total, {"fit": total.detach()})
            return
        noisy = made + step.key.at("corrupt").normal(made)
        gap = (roles["fake"](noisy) - roles["teacher"](noisy)).detach()
        yield Loss((made * gap).mean())
        again = roles["student"].generate(batch, step).x
        yield Loss(0.1 * (again - batch.x).square().mean(), {"anchor": again.detach().mean()})

    def _made(self, phase: Phase, roles: Mapping[str, Any], batch: Batch, step: Step) -> Tensor:
        if self.builds:
            return step.once("roll", lambda key: roles["student"].generate(batch, replace_key(step, key)).x)
        with torch.set_grad_enabled(phase.name == "student"):
            return roles["student"].generate(batch, step).x


def replace_key(step: Step, key: Key) -> Step:
    return Step(step.index, step.total, key, step.cycle_key)


def adam(lr: Any = 1e-2, match: str = "", **extra: Any) -> Optim:
    return Optim((Group(match, lr),), **extra)


def product() -> Product:
    empty: Any = lambda *_: None  # noqa: E731
    return Product("student", {}, empty, empty, dict, empty, ())


def plan(*stages: Stage) -> Plan:
    return Plan(tuple(stages), product())


def stage(objective: Objective, steps: int = 10, name: str = "student", **changes: Any) -> Stage:
    """A stage of fresh generators for every role of the objective."""

    def build(shelf: Mapping[str, Any]) -> Assembly:
        roles = {role: Generator() for role, spec in objective.roles.items() if not spec.optional}
        trained = {role: adam() for role, spec in objective.roles.items() if spec.trainable and role in roles}
        return Assembly(
            **{"roles": roles, "objective": objective, "source": Cloud(), "optimizers": trained} | changes
        )

    return Stage(
        name, build, steps, {role: role for role, spec in objective.roles.items() if not spec.optional}
    )


def two_stages(
    duel: Duel | None = None, steps: int = 6, accumulate: int = 1, dropout: float = 0.0, seen: Any = None
) -> Plan:
    """A teacher with an exported average, then a duel with a target average: all that a resume must restore.

    ``seen`` is called with the index of every batch that the second stage takes.
    """
    duel = duel or Duel()

    def teach(shelf: Mapping[str, Any]) -> Assembly:
        roles = {"teacher": Generator(dropout=dropout), "teacher_ema": Generator(dropout=dropout)}
        roles["teacher_ema"].load_state_dict(roles["teacher"].state_dict())
        return Assembly(
            roles, Fit("teacher"), Cloud(), {"teacher": adam()}, {"teacher_ema": Average("teacher", 0.9)}
        )

    def distill(shelf: Mapping[str, Any]) -> Assembly:
        roles = {"teacher": shelf["teacher"]}
        for name in ("student", "fake", "student_ema"):
            roles[name] = Generator(dropout=dropout)
            roles[name].load_state_dict(shelf["teacher"].state_dict())
        optimizers = {"student": adam(clip=1.0), "fake": adam(lambda step: 1e-2 / (1 + step.index))}
        averages = {"student_ema": Average("student", 0.9, "before")}
        return Assembly(roles, duel, Cloud(seen=seen or ignore), optimizers, averages, accumulate=accumulate)

    leaves = {"student": "student", "fake": "fake", "student_ema": "student_ema"}
    return plan(
        Stage("teacher", teach, steps, {"teacher_ema": "teacher"}), Stage("student", distill, steps, leaves)
    )


class Adapted(nn.Module):
    """A view: a frozen base and a small change beside it."""

    def __init__(self, base: Generator) -> None:
        super().__init__()
        self.base = base
        self.change = nn.Linear(2, 2)
        nn.init.zeros_(self.change.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.change(x)


def adapter_plan(steps: int = 4) -> Plan:
    """A duel whose fake is an adapter on the very teacher."""

    def build(shelf: Mapping[str, Any]) -> Assembly:
        teacher = Generator()
        roles = {"fake": Adapted(teacher), "teacher": teacher, "student": Generator()}
        return Assembly(roles, Duel(), Cloud(), {"student": adam(), "fake": adam()})

    return plan(Stage("student", build, steps, {"student": "plain", "fake": "adapted"}))


class Net(nn.Module):
    """A small network over a vector and its time."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 2))

    def forward(self, x: Tensor, t: Tensor, cond: Cond) -> Tensor:
        return self.body(torch.cat([x, t[:, None]], 1))


def real_plan(objective: Objective, name: str) -> Plan:
    """Teacher, few-step student and fake under one of the core's own objectives."""

    def build(shelf: Mapping[str, Any]) -> Assembly:
        process = edm()
        roles = {role: Denoiser(Net(), process, "edm") for role in ("teacher", "fake")}
        roles["student"] = FewStep(Net(), process, "edm", (80.0, 1.0), pick="random")
        source = Cloud()
        for role, asked in objective.roles.items():
            if role not in roles and asked.default is not None:
                roles[role] = asked.default(roles, source.batch(0, Key(0)))
        trained = {role: adam() for role, asked in objective.roles.items() if asked.trainable}
        return Assembly(roles, objective, source, trained, accumulate=2)

    leaves = {role: f"{name}_{role}" for role, asked in objective.roles.items() if asked.trainable}
    return plan(Stage(name, build, 3, leaves))


def real_plans() -> list[Plan]:
    """A shared rollout, a gradient through frozen sharded roles into the student, a discriminator made by default."""
    times = LogNormal(-1.2, 1.2, 0.002, 80.0)
    return [
        real_plan(dmd(times, share_rollout=True), "dmd"),
        real_plan(SiD(times), "sid"),
        real_plan(dmd2(times), "dmd2"),
    ]


def digest(shelf: Mapping[str, nn.Module]) -> str:
    """One hash over the bytes of all modules of a shelf."""
    found = hashlib.sha256()
    for name, module in sorted(shelf.items()):
        for key, value in module.state_dict().items():
            found.update(f"{name}.{key}".encode() + value.detach().cpu().numpy().tobytes())
    return found.hexdigest()


def site(folder: Any, seed: int = 0) -> Site:
    return Site(Key(seed), folder)
