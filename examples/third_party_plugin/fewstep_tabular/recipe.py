"""Rows of a table: data, network, plan, metric, file and panel of a modality in one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_wine
from torch import Tensor, nn

from fewstep import protocol as fs
from fewstep import samplers
from fewstep.config import RecipeConfig, Settings, load_teacher, setting
from fewstep.config.objectives import AnyObjective, Round, student_stages
from fewstep.engine import assemble
from fewstep.objectives import Denoising, weights
from fewstep.processes import LogNormal, edm
from fewstep.runs import bootstrap_statistic, media

CULTIVARS = 3
PROCESS = edm(sigma_data=1.0, sigma_max=20.0)


class WineConfig(RecipeConfig):
    """A generator of table rows, told the class of each row."""

    objective: AnyObjective = setting("consistency", "how the student learns from the teacher")
    batch: int = setting(128, "rows per update", unit="rows", ge=1)
    teacher_steps: int = setting(2000, "updates of the teacher", unit="updates", ge=1)
    steps: int = setting(1500, "updates of the student", unit="updates", ge=1)


class Wanted(Settings):
    """What ``fewstep sample`` may ask."""

    cultivar: int | None = setting(None, "class of all rows; drawn if not given", ge=0, lt=CULTIVARS)


@cache
def table() -> tuple[Tensor, Tensor, Tensor, Tensor, tuple[str, ...]]:
    """Standardized rows (178, 13), classes, means, deviations, and the names of the columns."""
    wine = load_wine()
    raw, classes = torch.tensor(wine.data, dtype=torch.float32), torch.tensor(wine.target)
    mean, deviation = raw.mean(0), raw.std(0)
    return (raw - mean) / deviation, classes, mean, deviation, tuple(wine.feature_names)


@dataclass(frozen=True)
class Rows:
    """Rows with their class, drawn with replacement."""

    size: int

    def batch(self, index: int, key: fs.Key) -> fs.Batch:
        rows, classes, *_ = table()
        drawn = key.at(index).integers((key.share(self.size),), len(rows))
        return fs.Batch(like=rows[drawn], x=rows[drawn], cond=fs.Cond(classes[drawn]))


class Network(nn.Module):
    """Row, log-noise level and class to a row."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.classes = nn.Embedding(CULTIVARS, width)
        self.time = nn.Linear(8, width)
        self.first = nn.Linear(13, width)
        self.rest = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 13))

    def forward(self, x: Tensor, time: Tensor, cond: fs.Cond) -> Tensor:
        angles = time[:, None] * torch.tensor([1.0, 2.0, 4.0, 8.0])
        told = self.time(torch.cat([angles.sin(), angles.cos()], 1)) + self.classes(cond.data)
        return self.rest(self.first(x) + told)


def make() -> fs.Denoiser:
    return fs.Denoiser(Network(), PROCESS, "boundary")


def build(config: WineConfig, site: fs.Site) -> fs.Plan:
    """Train a teacher on the table, distill it, compare on fresh rows."""
    teach = fs.Stage("teacher", partial(_teach, config), config.teacher_steps, {"average": "teacher"})
    leaves, each = {"student": "student", "teacher": "teacher"}, partial(_distill, config)
    distill = student_stages(config.objective, PROCESS, (PROCESS.t_max,), each, config.steps, leaves)
    return fs.Plan((teach, *distill) if config.teacher.kind == "train" else distill, _product())


def _teach(config: WineConfig, shelf: fs.Shelf) -> fs.Assembly:
    law = LogNormal(-0.4, 1.4, low=0.002, high=20.0)
    optim, average = {"teacher": _adam(3e-3)}, {"average": fs.Average("teacher", 0.99)}
    objective = Denoising(law, weights.edm, role="teacher")
    return assemble(objective, {"teacher": make}, Rows(config.batch), optim, average)


def _distill(config: WineConfig, now: Round, shelf: fs.Shelf) -> fs.Assembly:
    roles = {
        "teacher": lambda: shelf.get(now.before or "teacher") or load_teacher(config.teacher, make),
        "student": lambda: samplers.student_for(now.objective, Network(), PROCESS, "boundary", now.times),
        "fake": make,
    }
    optim = {"student": _adam(1e-3), "fake": _adam(2e-3)}
    target = {"target": fs.Average("student", 0.95, when="before")}
    return assemble(now.objective, roles, Rows(config.batch), optim, target)


def _adam(lr: float) -> fs.Optim:
    return fs.Optim((fs.Group(lr=fs.Linear(lr, 0.0)),))


def energy(x: fs.Tree, batch: fs.Batch, key: fs.Key) -> fs.Score:
    """Energy distance 2 E|x - y| - E|x - x'| - E|y - y'| to the whole table, in deviations (Szekely & Rizzo 2013)."""
    rows = table()[0]
    across, within = torch.cdist(x, rows).mean(1), torch.cdist(x, x)
    own = _pairs(torch.cdist(rows, rows), torch.arange(len(rows)))
    return bootstrap_statistic(lambda i: 2 * across[i].mean(-1) - _pairs(within, i) - own, len(x), key)


def _pairs(distances: Tensor, index: Tensor) -> Tensor:
    """Mean distance over pairs of different rows; a row that is drawn twice is not its own neighbor."""
    counts = nn.functional.one_hot(index, len(distances)).sum(-2).float()
    pairs = counts.sum(-1).square() - counts.square().sum(-1)
    return torch.einsum("...i,ij,...j->...", counts, distances, counts) / pairs


def _product() -> fs.Product:
    def request(wanted: Wanted, count: int, key: fs.Key) -> fs.Batch:
        drawn = key.integers((count,), CULTIVARS)
        classes = drawn if wanted.cultivar is None else torch.full((count,), wanted.cultivar)
        return fs.Batch(like=torch.zeros(count, 13), cond=fs.Cond(classes))

    return fs.Product(
        student="student",
        contenders={
            "teacher": samplers.solver_sampler("teacher", samplers.heun, 12),
            "student": samplers.student_sampler(),
            "teacher_1step": samplers.one_call_sampler("teacher"),
        },
        evaluation=lambda count, key: Rows(count).batch(0, key),
        request=request,
        options=Wanted,
        write=write,
        metrics=(fs.Metric("energy", "lower", energy, "", "Energy distance to the standardized table."),),
        panels=(fs.Panel("Wines", show),),
        samples=512,
    )


def measured(x: Tensor) -> Tensor:
    """Rows in their own units."""
    return x * table()[3] + table()[2]


def write(x: fs.Tree, batch: fs.Batch, folder: Path) -> Sequence[Path]:
    """One CSV with a header and the class of each row."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = torch.cat([batch.cond.data[:, None], measured(x)], 1)
    header = ",".join(("cultivar", *table()[4]))
    np.savetxt(folder / "wines.csv", rows, fmt="%.4g", delimiter=",", header=header, comments="")
    return [folder / "wines.csv"]


def show(drawn: Mapping[str, fs.Drawn]) -> str:
    """The first rows of every contender."""
    first = [(name, row) for name, one in drawn.items() for row in measured(one.x[:3]).tolist()]
    body = [[name, *(f"{value:.4g}" for value in row)] for name, row in first]
    return media.table(("", *table()[4]), body, "First wines of every contender")
