"""Small worlds in which every method is trained the same way: networks, roles, and one run of the engine.

A toy is a law that is known, with metrics that a bad student cannot pass. A method is a row of ``methods.METHODS``.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from methods import Method
from torch import Tensor, nn

from fewstep.config.objectives import KINDS, Round, rounds, student_stages
from fewstep.engine import assemble, execute
from fewstep.objectives import Denoising
from fewstep.objectives.weights import customary
from fewstep.processes import Gaussian, Karras
from fewstep.protocol import (
    Average,
    Batch,
    Cond,
    Denoiser,
    Group,
    Key,
    Linear,
    Optim,
    Plan,
    Product,
    Site,
    Stage,
    Step,
)
from fewstep.samplers import FewStep, rule_for

DRAWN = 4000
"""Samples behind every number of a table."""


@dataclass(frozen=True)
class Toy:
    """A law that is known.

    Args:
        name: of the table.
        size: numbers in a sample.
        processes: name -> how it is corrupted, at equal ratios of signal and noise.
        exact: the closed-form denoiser on a process.
        draw: fresh data: (key, count) -> (count, size).
        measure: samples -> name -> number; "energy distance" is one of them.
        passes: whether a row of numbers passes the gate.
        width: of the networks.
        depth: hidden layers.
        rows: batch size.
        pretraining: updates of the small network that students, fakes and feature heads start from.
        share: of a method's updates that this toy takes.
    """

    name: str
    size: int
    processes: Mapping[str, Gaussian]
    exact: Callable[[Gaussian], Denoiser]
    draw: Callable[[Key, int], Tensor]
    measure: Callable[[Tensor], dict[str, float]]
    passes: Callable[[Mapping[str, float]], bool]
    width: int = 96
    depth: int = 3
    rows: int = 256
    pretraining: int = 3000
    share: float = 1.0

    def __hash__(self) -> int:
        """By name: there is one toy of each."""
        return hash(self.name)

    def batch(self, index: int, key: Key) -> Batch:
        """Fresh data for every index, and as pairs what has nothing to do with one another."""
        x = self.draw(key.at("data", index), self.rows)
        return Batch(like=x, x=x, extra={"noise": key.at("pairs", index).normal(x), "target": x})


class Net(nn.Module):
    """A perceptron over a vector and its time that takes every optional input; what it is not told adds nothing."""

    accepts = frozenset({"to", "guidance", "features"})

    def __init__(self, toy: Toy, process: Gaussian) -> None:
        super().__init__()
        ends = torch.tensor([process.t_min, process.t_max], dtype=torch.float64)
        self.low, self.high = process.network_time(ends).tolist()
        self.first = nn.Linear(toy.size + 8, toy.width)
        self.hidden = nn.ModuleList(nn.Linear(toy.width, toy.width) for _ in range(toy.depth - 1))
        self.last = nn.Linear(toy.width, toy.size)
        self.destination = _silent(nn.Linear(8, toy.width))
        self.scale = _silent(nn.Linear(1, toy.width))
        self.step = _silent(nn.Embedding(8, toy.width))

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        cond: Cond,
        *,
        to: Tensor | None = None,
        guidance: Tensor | None = None,
        features: tuple[int, ...] = (),
    ) -> Any:
        h = self.first(torch.cat([x, self._clock(time)], 1))
        if to is not None:
            h = h + self.destination(self._clock(to.to(x.dtype)))
        if guidance is not None:
            h = h + self.scale(guidance.to(x.dtype)[:, None])
        if cond.index is not None:
            h = h + self.step(cond.index)
        found = [nn.functional.silu(h)]
        for layer in self.hidden:
            found.append(nn.functional.silu(layer(found[-1])))
        out = self.last(found[-1])
        return (out, tuple(found[i] for i in features)) if features else out

    def _clock(self, time: Tensor) -> Tensor:
        """(B, 8) waves of the share of the process that has passed; 0 and below are the clean end."""
        share = ((time - self.low) / (self.high - self.low)).clamp(min=-0.1)
        angle = share[:, None] * math.pi * torch.arange(1, 5, dtype=time.dtype, device=time.device)
        return torch.cat([angle.sin(), angle.cos()], 1)


@dataclass(frozen=True)
class Trained:
    """What one run leaves.

    Args:
        student: frozen, its running average.
        seconds: processor time of the training.
        updates: cycles of training, all rounds together.
        calls: network calls per cycle (one update of the student and its critics'), exact teachers counted too.
    """

    student: Any
    updates: int
    seconds: float
    calls: float


def train(method: Method, toy: Toy, seed: int = 0, updates: int | None = None) -> Trained:
    """Train one method with the engine; a kind of several rounds shares its updates among them."""
    config = KINDS[method.kind](**method.settings)
    process = toy.processes[method.process]
    times = [time_at(process, level) for level in method.levels]
    found = rounds(config, process, times, **method.fixed)
    whole = updates or round(method.updates * toy.share)
    steps = max(1, whole // len(found))
    count = Counter()

    def build(each: Round, shelf: Any) -> Any:
        assembly = assembled(method, toy, each, shelf)
        for role in assembly.roles.values():
            count.watch(role)
        return assembly

    pretrained(toy, method.process)
    stages = student_stages(config, process, times, build, steps, {"smooth": "student"}, **method.fixed)
    begun = time.process_time()
    shelf = execute(Plan(stages, product()), Site(Key(seed), Path()))
    seconds = time.process_time() - begun
    count.stop()
    cycles = steps * len(found)
    return Trained(shelf["student"], cycles, seconds, count.calls / cycles)


def assembled(method: Method, toy: Toy, each: Round, shelf: Mapping[str, Any]) -> Any:
    """All roles that a round may ask for; the engine leaves out what its objective does not."""
    process = toy.processes[method.process]
    before = pretrained(toy, method.process) if each.before is None else shelf[each.before]
    first = toy.exact(process) if method.teacher == "exact" else pretrained(toy, method.process)
    make = {
        "teacher": lambda: first if each.before is None else before,
        "student": lambda: started(student_of(method, toy, each), before),
        "fake": lambda: copy.deepcopy(pretrained(toy, method.process)).requires_grad_(True),
    }
    rates = {name: optim(lr, method.momentum) for name, lr in method.rates.items()}
    averages = {
        "target": Average("student", method.target, "before"),
        "smooth": Average("student", method.average),
    }
    return assemble(each.objective, make, toy, rates, averages)


def student_of(method: Method, toy: Toy, each: Round) -> FewStep:
    """An untrained student of a round."""
    process = toy.processes[method.process]
    rule = rule_for(each.objective, method.rule)
    return FewStep(Net(toy, process), process, method.prediction, each.times, rule, method.pick)


def started(student: FewStep, origin: Denoiser) -> FewStep:
    """The student with the weights of an earlier network."""
    student.load_state_dict(origin.state_dict())
    return student


def time_at(process: Gaussian, level: float) -> float:
    """The time at which sigma / alpha is ``level`` standard deviations of the data, within the process' range."""
    times = torch.linspace(process.t_min, process.t_max, 200_001, dtype=torch.float64)
    ratio = process.sigma(times) / process.alpha(times).clamp(min=1e-12) / process.sigma_data
    return float(times[(ratio - level).abs().argmin()])


@cache
def pretrained(toy: Toy, process: str) -> Denoiser:
    """A small network that has learned to denoise; what students, fakes and heads start from."""
    made = toy.processes[process]

    def build(shelf: Any) -> Any:
        times = Karras(made.t_min, made.t_max, made.rho)
        objective = Denoising(times, weight=customary, role="teacher")
        make = {"teacher": lambda: Denoiser(Net(toy, made), made, NATIVE[process])}
        return assemble(objective, make, toy, {"teacher": optim(2e-3, 0.9)}, {"smooth": Average("teacher")})

    stage = Stage("teacher", build, toy.pretraining, {"smooth": "teacher"})
    found: Denoiser = execute(Plan((stage,), product()), Site(Key(0), Path()))["teacher"]
    return found


NATIVE = {"edm": "edm", "trig": "trig", "flow": "flow"}
"""What the pretrained network of each process predicts."""


def optim(lr: float, momentum: float) -> Optim:
    """Adam whose rate falls to a fiftieth."""
    return Optim((Group(lr=Linear(lr, lr / 50)),), options={"betas": (momentum, 0.99), "weight_decay": 0.0})


def product() -> Product:
    """Nothing is asked of a plan but its student."""
    empty: Any = lambda *_: []  # noqa: E731
    return Product("student", {}, empty, empty, dict, empty, ())


def drawn(student: Any, toy: Toy, key: Key, count: int = DRAWN) -> tuple[Tensor, float]:
    """Samples of a student, and its network calls for each."""
    counter = Counter()
    counter.watch(student)
    with torch.no_grad():
        x = student.sample(Batch(like=torch.zeros(count, toy.size)), Step.inference(key)).x
    counter.stop()
    return x, float(counter.calls)


def energy_distance(x: Tensor, draw: Callable[[Key, int], Tensor]) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'| to fresh data y (Szekely & Rizzo 2013)."""
    fresh, within = _fresh(draw)
    return float(2 * torch.cdist(x, fresh).mean() - torch.cdist(x, x).mean()) - within


@cache
def _fresh(draw: Callable[[Key, int], Tensor]) -> tuple[Tensor, float]:
    """Data that nobody has seen, and their mean distance to one another."""
    y = draw(Key(78), DRAWN)
    return y, float(torch.cdist(y, y).mean())


class Counter:
    """Calls of networks, counted by hooks: a denoiser with a network by its network, an exact one by itself."""

    def __init__(self) -> None:
        self.calls = 0
        self.handles: list[Any] = []
        self.seen: set[int] = set()

    def watch(self, role: nn.Module) -> None:
        """Count this role's calls from now on."""
        network = getattr(role, "net", role)
        network = role if isinstance(network, nn.Identity) else network
        if id(network) not in self.seen:
            self.seen.add(id(network))
            self.handles.append(network.register_forward_pre_hook(self._called))

    def stop(self) -> None:
        """Take the hooks away."""
        for handle in self.handles:
            handle.remove()

    def _called(self, *_: Any) -> None:
        self.calls += 1


def _silent(layer: Any) -> Any:
    """The layer with all weights zero: an input that was never trained adds nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
