"""What the derivative along the path costs: one step of sCM on a small transformer against plain passes of the same network.

Every row is timed in turn within one run, so that a busy machine slows all alike; medians over rounds, and ratios to one
plain forward pass without a graph. "sCM step" is the loss with its backward pass: the teacher, the student with a graph,
and the derivative.

Run: ``python benchmarks/jvp.py [--rounds 15] [--device cuda]``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.objectives import SCM, Difference, SemiContinuous
from fewstep.objectives.tangent import Derivative, forward
from fewstep.processes import flow
from fewstep.protocol import Batch, Cond, Denoiser, Key, Phase, Step


class Block(nn.Module):
    """Attention and a perceptron, both modulated by the time."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.mixed, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.told = nn.Linear(width, 4 * width)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        scale, shift, scale2, shift2 = self.told(told)[:, None].chunk(4, -1)
        parts = self.mixed(self.norms[0](x) * (1 + scale) + shift).unflatten(-1, (self.heads, -1))
        mixed = F.scaled_dot_product_attention(*parts.transpose(1, 2).chunk(3, -1))
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.perceptron(self.norms[1](x) * (1 + scale2) + shift2)


class Transformer(nn.Module):
    """(B, L, d) -> (B, L, d)."""

    def __init__(self, features: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(features, width), nn.Linear(width, features)
        self.clock = nn.Sequential(nn.Linear(2, width), nn.SiLU())
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        angle = time / 1000 * 1.5
        told = self.clock(torch.stack([angle.sin(), angle.cos()], 1))
        h = self.first(x)
        for block in self.blocks:
            h = block(h, told)
        found: Tensor = self.last(h)
        return found


def rows(args: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    torch.manual_seed(0)
    make = lambda: Transformer(16, args.width, args.depth, args.heads)  # noqa: E731
    student, teacher = (Denoiser(make(), flow(), "flow").to(args.device) for _ in range(2))
    teacher.requires_grad_(False)
    x = Key(0).normal(torch.zeros(args.batch, args.length, 16)).to(args.device)
    t = torch.linspace(0.1, 0.9, args.batch, dtype=torch.float64, device=args.device)
    ones, phase = torch.ones_like(t), Phase("student", ("student",))

    def plain() -> None:
        with torch.no_grad():
            student(x, t)

    def derived(derivative: Derivative) -> Tensor:
        found: Tensor = derivative(lambda x, t: student(x, t).raw, (x, t), (x, ones))
        return found

    def trained(objective: SCM | None) -> None:
        student.zero_grad()
        if objective is None:
            (student(x, t).x0 - teacher(x, t).x0).square().mean().backward()
            return
        roles = {"student": student, "teacher": teacher}
        objective.loss(phase, roles, Batch(x, x), Step(0, 1, Key(1))).total.backward()

    law = lambda *_: t  # noqa: E731
    return {
        "forward": plain,
        "two forwards": lambda: (plain(), plain()),
        "derivative, forward mode": lambda: derived(forward),
        "derivative, difference": lambda: derived(Difference()),
        "derivative, semi": lambda: derived(SemiContinuous()),
        "step of plain regression": lambda: trained(None),
        "sCM step, forward mode": lambda: trained(SCM(law)),
        "sCM step, difference": lambda: trained(SCM(law, derivative=Difference())),
    }


def timed(run: Callable[[], object], device: str) -> float:
    """Milliseconds of one run: CPU time on a CPU, which others may share; wall time elsewhere."""
    if device == "cpu":
        begun = time.process_time()
        run()
        return (time.process_time() - begun) * 1e3
    torch.cuda.synchronize()
    begun = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return (time.perf_counter() - begun) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name, default in (("batch", 16), ("length", 64), ("width", 128), ("depth", 4), ("heads", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    if args.device == "cpu":
        torch.set_num_threads(1)
    all_rows = rows(args)
    for run in all_rows.values():
        run()
    taken: dict[str, list[float]] = {name: [] for name in all_rows}
    for _ in range(args.rounds):
        for name, run in all_rows.items():
            taken[name].append(timed(run, args.device))
    middle = {name: statistics.median(found) for name, found in taken.items()}
    print(f"{args.device}, {args.rounds} rounds, {args.batch} x {args.length} positions, width {args.width}")
    print(f"{'':<28}{'ms':>9}{'forwards':>10}")
    for name, ms in middle.items():
        print(f"{name:<28}{ms:>9.2f}{ms / middle['forward']:>10.2f}")


if __name__ == "__main__":
    main()
