"""From settings to a plan: a small denoiser learns a noisy ring, a student learns it in one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor, nn

from fewstep.config import RecipeConfig, load_teacher, setting
from fewstep.config.objectives import AnyObjective, ConsistencyConfig, Round, student_stages
from fewstep.engine import assemble
from fewstep.objectives import Denoising
from fewstep.processes import LogNormal, edm
from fewstep.protocol import (
    Assembly,
    Average,
    Batch,
    Cond,
    Denoiser,
    Drawn,
    Group,
    Key,
    Metric,
    Optim,
    Panel,
    Piece,
    Plan,
    Product,
    Score,
    Shelf,
    Site,
    Stage,
    Stream,
)
from fewstep.runs import bootstrap, media
from fewstep.samplers import (
    heun,
    is_flow_map,
    one_call_sampler,
    solver_sampler,
    student_for,
    student_sampler,
)


class RingConfig(RecipeConfig):
    width: int = setting(64, "width of the network", unit="channels", ge=1, le=4096)
    teacher_steps: int = setting(600, "updates of the teacher", unit="updates", ge=1)
    steps: int = setting(600, "updates of the student", unit="updates", ge=1)
    batch: int = setting(128, "points per update", unit="points", ge=1)
    lr: float = setting(5e-3, "learning rate", gt=0, lt=1)
    student: bool = setting(True, "false = offer a student that cannot generate")
    objective: AnyObjective = setting(ConsistencyConfig(distance="pseudo-huber"), "how it is distilled")


class RingOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    radius: float = Field(1.0, gt=0, description="points are scaled to this radius")
    name: str = Field("ring", description="name of the file; letters only")

    @field_validator("name")
    @classmethod
    def _letters(cls, name: str) -> str:
        if not name.isalpha():
            raise ValueError(f"only letters are known, got {name!r}")
        return name


class Net(nn.Module):
    def __init__(self, width: int, lands: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(13, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2)
        )
        self.accepts = frozenset({"to"} if lands else ())
        self.destination = nn.Parameter(torch.zeros(8, width)) if lands else None

    def forward(self, x: Tensor, time: Tensor, cond: Cond, to: Tensor | None = None) -> Tensor:
        radius = x.norm(dim=1, keepdim=True)
        # A ring is learned in seconds when the network is shown radius and direction.
        hidden = self.layers[0](torch.cat([x, radius, x / radius.clamp(min=1e-6), waves(time)], 1))
        return self.layers[1:](hidden if to is None else hidden + waves(to) @ self.destination)


def waves(time: Tensor) -> Tensor:
    angles = time[:, None] * torch.tensor([1.0, 2.0, 4.0, 8.0])
    return torch.cat([angles.sin(), angles.cos()], 1)


@dataclass(frozen=True)
class Ring:
    size: int

    def batch(self, index: int, key: Key) -> Batch:
        angle = 2 * torch.pi * key.at(index, "angle").uniform((self.size,)).float()
        x = torch.stack([angle.cos(), angle.sin()], 1)
        x = x + 0.05 * key.at(index, "noise").normal(x)
        return Batch(like=x, x=x)


def build(config: RingConfig, site: Site) -> Plan:
    process = edm(sigma_data=0.7)
    source = Ring(config.batch)

    def denoiser() -> nn.Module:
        return Denoiser(Net(config.width), process, "boundary")

    def student(now: Round) -> nn.Module:
        if not config.student:
            return denoiser()
        net = Net(config.width, lands=is_flow_map(now.objective))
        return student_for(now.objective, net, process, "boundary", now.times)

    optim = Optim((Group("", config.lr),))

    def train_teacher(shelf: Shelf) -> Assembly:
        times = LogNormal(-1.0, 1.4, process.t_min, process.t_max)
        return assemble(Denoising(times, role="teacher"), {"teacher": denoiser}, source, {"teacher": optim})

    def distill(now: Round, shelf: Shelf) -> Assembly:
        teacher = shelf.get(now.before or "teacher") or ready
        make = {"teacher": lambda: teacher, "student": partial(student, now), "fake": denoiser}
        averages = {"target": Average("student", 0.9, when="before")}
        return assemble(now.objective, make, source, {"student": optim, "fake": optim}, averages)

    ready = load_teacher(config.teacher, denoiser)
    first = (Stage("teacher", train_teacher, config.teacher_steps, {"teacher": "teacher"}),)
    left = {"student": "student"} if ready is None else {"student": "student", "teacher": "teacher"}
    last = student_stages(config.objective, process, (process.t_max,), distill, config.steps, left)
    return Plan((*(first if ready is None else ()), *last), product())


def product() -> Product:
    return Product(
        student="student",
        contenders={
            "student": student_sampler(),
            "teacher": solver_sampler("teacher", heun, 9),
            "teacher_1step": one_call_sampler("teacher"),
        },
        evaluation=lambda number, key: Ring(number).batch(0, key),
        request=request,
        options=RingOptions,
        write=write,
        metrics=[Metric("radius error", "lower", radius_error, description="mean distance from the circle")],
        panels=[Panel("Points", points), Panel("Media", players)],
        samples=128,
        stream=Stream("text/plain", ".txt", RingOptions, pieces),
    )


def pieces(options: RingOptions, draw: Callable[[Batch, Key], Tensor], key: Key) -> Iterator[Piece]:
    for number in range(3):
        x = draw(request(options, 2, key.at("request", number)), key.at("draw", number))
        yield Piece(f"{options.name} {x.norm(dim=1).tolist()}\n".encode(), f"pair {number + 1}")


def request(options: RingOptions, number: int, key: Key) -> Batch:
    batch = Ring(number).batch(0, key)
    return Batch(like=batch.like, extra={"name": options.name, "radius": options.radius})


def write(x: Tensor, batch: Batch, folder: Path) -> Sequence[Path]:
    file = folder / f"{batch.extra.get('name', 'ring')}.txt"
    np.savetxt(file, x.numpy() * float(batch.extra.get("radius", 1.0)))
    return [file]


def radius_error(x: Tensor, batch: Batch, key: Key) -> Score:
    return bootstrap((x.norm(dim=1) - 1).abs(), key)


def points(drawn: Mapping[str, Drawn]) -> str:
    return media.columns(
        {name: media.picture(media.png(_picture(d.x)), f"points of {name}") for name, d in drawn.items()}
    )


def players(drawn: Mapping[str, Drawn]) -> str:
    return media.player("audio/wav", _wav(), "a tone") + media.download("text/plain", b"1 2", "points.txt")


def _picture(x: Tensor) -> np.ndarray:
    counts, *_ = np.histogram2d(x[:, 1].numpy(), x[:, 0].numpy(), bins=48, range=[[-1.5, 1.5]] * 2)
    return (255 - np.clip(counts * 90, 0, 255)).astype(np.uint8)


def _wav() -> bytes:
    import io
    import wave

    tone = (8000 * np.sin(np.arange(4000) / 8000 * 2 * np.pi * 440)).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(tone.tobytes())
    return file.getvalue()
