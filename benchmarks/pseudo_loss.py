"""Three ways to give a student the direction of score distillation: squared pseudo-loss, inner product (ours), directly.

All three do the same update of the same student by the same direction; only the way from direction to gradient differs.
Blocks rotate, CPU time is counted, ratios are medians over rounds with bootstrap intervals.

Run: ``python benchmarks/pseudo_loss.py [--rounds 25]``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from loops import Run, compared
from torch import Tensor, nn

Way = Callable[[Tensor, Tensor], None]


def squared(x: Tensor, direction: Tensor) -> None:
    """Half the squared distance to the shifted, detached sample (Poole et al. 2023, as usually coded)."""
    (0.5 * (x - (x - direction).detach()).square().flatten(1).sum(1)).mean().backward()


def inner(x: Tensor, direction: Tensor) -> None:
    """The mean inner product with the detached direction."""
    (x * direction).flatten(1).sum(1).mean().backward()


def direct(x: Tensor, direction: Tensor) -> None:
    """The direction is the gradient."""
    x.backward(direction / len(x))


def updates(way: Way, features: int, width: int, rows: int) -> Run:
    """One-step student updates by a fixed direction."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Linear(features, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, features),
        )
        noise, direction = torch.randn(rows, features), torch.randn(rows, features)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-5)

    def run(cycles: int) -> None:
        for _ in range(cycles):
            way(net(noise), direction)
            optimizer.step()
            optimizer.zero_grad()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print(f"{'student':<28}{'squared ms':>12}{'inner / squared':>26}{'direct / inner':>26}")
    for features, width, rows, cycles in ((2, 96, 256, 60), (64, 256, 64, 40), (4096, 256, 32, 10)):
        make = lambda way: updates(way, features, width, rows)  # noqa: B023, E731 - used before the loop moves on
        ours = compared(make(squared), make(inner), cycles, rounds)
        best = compared(make(inner), make(direct), cycles, rounds)
        name = f"{rows} x {features}, width {width}"
        ratios = [f"{each.value:.3f} [{each.low:.3f}, {each.high:.3f}]" for each in (ours, best)]
        print(f"{name:<28}{ours.first:>12.3f}{ratios[0]:>26}{ratios[1]:>26}", flush=True)


if __name__ == "__main__":
    main()
