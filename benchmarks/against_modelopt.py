"""DMD2 steps: nvidia-modelopt's pipeline, our objective in our engine, and a loop with the formulas written out by hand.

All three make the same calls on networks of the same size, on rectified flow, one student update after several of the fake;
blocks alternate, CPU time is counted, ratios are medians over pairs of blocks with bootstrap intervals.

Run: ``python benchmarks/against_modelopt.py [--rounds 15]`` (needs ``pip install nvidia-modelopt``).
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from loops import Run, compared, filled, markdown, peak_bytes, trained
from torch import Tensor, nn

from fewstep.objectives import dmd
from fewstep.objectives.weights import one
from fewstep.processes import Uniform, flow
from fewstep.protocol import Assembly, Batch, Cond, Denoiser, Group, Key, Optim
from fewstep.samplers import FewStep

LOW, HIGH, FAKE_UPDATES, RATE = 0.02, 0.98, 4, 1e-4


class Net(nn.Module):
    """A perceptron over a vector and its time, callable in both conventions."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(features + 1, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, features),
        )

    def forward(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Tensor:
        found: Tensor = self.body(torch.cat([x, t.to(x.dtype)[:, None]], 1))
        return found


class Keywords(nn.Module):
    """The same network as modelopt calls it."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, hidden_states: Tensor, timestep: Tensor, **rest: Any) -> Tensor:
        found: Tensor = self.net(hidden_states, timestep)
        return found


@dataclass(frozen=True)
class Size:
    features: int
    width: int
    rows: int

    def net(self) -> Net:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return Net(self.features, self.width)

    def batch(self, index: int, key: Key) -> Batch:
        return Batch(like=torch.zeros(1).expand(self.rows, self.features))


def ours(size: Size) -> Run:
    """The engine."""
    process = flow()
    roles: dict[str, nn.Module] = {
        "teacher": Denoiser(size.net(), process, "flow"),
        "student": FewStep(size.net(), process, "flow", (1.0,)),
        "fake": Denoiser(size.net(), process, "flow"),
    }
    objective = dmd(Uniform(LOW, HIGH), critic_updates=FAKE_UPDATES, fake_weight=one)
    adam = Optim((Group(lr=RATE),))
    return trained(Assembly(roles, objective, size, {"student": adam, "fake": adam}))


def by_hand(size: Size) -> Run:
    """The formulas, and nothing else."""
    teacher, student, fake = (size.net() for _ in range(3))
    teacher.requires_grad_(False)
    optimizers = [torch.optim.AdamW(net.parameters(), RATE) for net in (student, fake)]

    def noised(x: Tensor) -> tuple[Tensor, Tensor]:
        t = LOW + (HIGH - LOW) * torch.rand(size.rows)
        return (1 - t[:, None]) * x + t[:, None] * torch.randn_like(x), t

    def clean(net: Net, xt: Tensor, t: Tensor) -> Tensor:
        return xt - t[:, None] * net(xt, 1000 * t)

    def made() -> Tensor:
        return clean(student, torch.randn(size.rows, size.features), torch.ones(size.rows))

    def run(cycles: int) -> None:
        for _ in range(cycles):
            for _ in range(FAKE_UPDATES):
                with torch.no_grad():
                    x = made()
                    xt, t = noised(x)
                (clean(fake, xt, t) - x).square().mean().backward()
                optimizers[1].step()
                optimizers[1].zero_grad()
            x = made()
            with torch.no_grad():
                xt, t = noised(x)
                real = clean(teacher, xt, t)
                direction = (clean(fake, xt, t) - real) / (x - real).abs().mean(1, keepdim=True).clamp(
                    min=1e-5
                )
            (x * direction).mean().backward()
            optimizers[0].step()
            optimizers[0].zero_grad()

    return run


def theirs(size: Size) -> Run:
    """Modelopt's pipeline with the loop that its documentation asks for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from modelopt.torch.fastgen.config import DMDConfig, SampleTimestepConfig
        from modelopt.torch.fastgen.methods.dmd import DMDPipeline

    teacher, student, fake = (Keywords(size.net()) for _ in range(3))
    teacher.requires_grad_(False)
    config = DMDConfig(
        pred_type="flow",
        student_sample_steps=1,
        num_train_timesteps=1000,
        student_update_freq=FAKE_UPDATES + 1,
        sample_t_cfg=SampleTimestepConfig(time_dist_type="uniform", min_t=LOW, max_t=HIGH),
    )
    pipeline = DMDPipeline(student, teacher, fake, config)
    optimizers = [torch.optim.AdamW(net.parameters(), RATE) for net in (student, fake)]
    data = torch.zeros(size.rows, size.features)

    def updated(which: int, name: str, loss: Any) -> None:
        student.requires_grad_(which == 0)
        fake.requires_grad_(which == 1)
        loss(data, torch.randn_like(data))["total"].backward()
        optimizers[which].step()
        optimizers[which].zero_grad()

    def run(cycles: int) -> None:
        for _ in range(cycles):
            for _ in range(FAKE_UPDATES):
                updated(1, "fake", pipeline.compute_fake_score_loss)
            updated(0, "student", pipeline.compute_student_loss)

    return run


HEAD = (
    "parameters",
    "batch",
    "by hand, ms per cycle",
    "fewstep / by hand",
    "modelopt / by hand",
    "fewstep / modelopt",
    "peak MB: by hand / fewstep / modelopt",
)


def line(size: Size, cycles: int, rounds: int) -> tuple[str, ...]:
    """One row of the table."""
    parameters = sum(p.numel() for p in size.net().parameters())
    hand = compared(by_hand(size), ours(size), cycles, rounds)
    other = compared(by_hand(size), theirs(size), cycles, rounds)
    versus = compared(theirs(size), ours(size), cycles, rounds)
    ratios = [f"{each.value:.3f} [{each.low:.3f}, {each.high:.3f}]" for each in (hand, other, versus)]
    memory = " / ".join(f"{peak_bytes(make(size)) / 1e6:.2f}" for make in (by_hand, ours, theirs))
    return f"{parameters:,}", str(size.rows), f"{hand.first:.2f}", *ratios, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", type=Path, help="a page with markers")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    for size, cycles in ((Size(2, 180, 64), 40), (Size(2, 180, 256), 25), (Size(64, 940, 64), 6)):
        lines.append(line(size, cycles, asked.rounds))
        print(" | ".join(lines[-1]), flush=True)
    table = markdown(HEAD, lines)
    if asked.write:
        filled(asked.write, "modelopt", table)
    else:
        print(f"\n{table}")


if __name__ == "__main__":
    main()
