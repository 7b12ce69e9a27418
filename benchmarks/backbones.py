"""What runs of ``protein/sid-backbone`` draw when they are asked for something else than at their evaluation: other
lengths, numbers of calls, noise scales, classes, and samplers of the teacher.

One batch of held-out lengths and one key for all. Run:
``python benchmarks/backbones.py RUN... [--who student:16 sde:400] [--noise-scale 1 0.8] [--cath 0 1 2] [--length 60-120]``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import torch
from loops import markdown

from fewstep.protocol import Batch, Key, Sampler
from fewstep.runs import Run, load
from fewstep.runs.evaluation import drawn_once
from fewstep.samplers import at_noise_scale
from fewstep_protein.designs.request import read_lengths
from fewstep_protein.metrics.backbones import backbone_metrics
from fewstep_protein.metrics.ensemble import Ensemble, seen
from fewstep_protein.sid_backbone.conditioning import asked_for
from fewstep_protein.sid_backbone.recipe import evaluation, many_steps
from fewstep_protein.structures.segments import vocabulary

SHOWN = ("valid_bonds", "valid_chains", "bond_std_error", "clashes", "rg_distance", "helix", "strand")
SHOWN += ("right_handed", "pairwise_tm", "frechet_geometry")
SOLVERS = ("sde", "ode", "proteina")
CLASSES = {"0": "", "1": ", mainly alpha", "2": ", mainly beta"}
FEW = 0.1
"""Clashes a residue that ``--max-clashes 0.1`` lets pass."""


def named(run: Run, who: str) -> Sampler:
    """``student:8``, ``teacher_fewstep:16``, or the teacher by a solver: ``sde:100``, ``ode:100``, ``proteina:0.45:400``."""
    name, *numbers = who.split(":")
    if name in run.product.contenders and len(numbers) < 2:
        return run.sampler(name, *map(int, numbers))
    if name not in SOLVERS or not numbers:
        known = ", ".join((*run.product.contenders, *SOLVERS))
        raise SystemExit(f"--who {who}: expected NAME:CALLS of {known}, or proteina:GAMMA:CALLS")
    config = run.setup.resolved.config
    gamma = float(numbers[0]) if len(numbers) > 1 else config.teacher_gamma
    solver = {"teacher_solver": name, "teacher_steps": int(numbers[-1]), "teacher_gamma": gamma}
    return many_steps(config.model_copy(update=solver))


def asked(run: Run, given: argparse.Namespace) -> Iterator[tuple[str, Sampler]]:
    """Every combination, with its name."""
    for who, scale, cath in product(given.who, given.noise_scale, given.cath):
        sampler = named(run, who)
        if cath != "0":
            sampler = asked_for(sampler, vocabulary(run.setup.resolved.config.data.path).indices(cath))
        scaled = sampler if scale == 1 else at_noise_scale(sampler, scale)
        yield f"{who}{CLASSES[cath]}{'' if scale == 1 else f', noise {scale:g}'}", scaled


def held_out(run: Run, given: argparse.Namespace) -> Batch:
    """Real chains of the lengths that are asked for."""
    config = run.setup.resolved.config
    if given.length:
        lengths = read_lengths(given.length)
        config = config.model_copy(update={"shortest": min(lengths), "longest": max(lengths)})
    return evaluation(config, given.number, Key(given.seed).at("evaluation"))


def row(name: str, chains: Ensemble, scores: dict[str, float]) -> tuple[str, ...]:
    """All that is shown of some chains."""
    few = (chains.columns["clashes"] <= FEW).double().mean()
    size = chains.columns["rg"]
    numbers = (f"{scores[metric]:.3f}" for metric in SHOWN)
    return name, *numbers, f"{float(few):.2f}", f"{float(size.mean()):.1f} +- {float(size.std()):.1f}"


def measured(chains: torch.Tensor, batch: Batch) -> tuple[Ensemble, dict[str, float]]:
    """The chains, and their scores against the real ones of the batch."""
    scores = {m.name: m.fn(chains, batch, Key(0)).value for m in backbone_metrics() if m.name in SHOWN}
    return seen(chains, batch.mask), scores


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    words.add_argument(
        "--who", nargs="+", default=["student"], help="contender:calls, or solver:calls of the teacher"
    )
    words.add_argument("--noise-scale", nargs="+", type=float, default=[1.0], help="factors on all noise")
    words.add_argument("--cath", nargs="+", choices=CLASSES, default=["0"], help="classes; 0 is none")
    words.add_argument("--length", default="", help="such as 60-120; by default the run's own")
    words.add_argument("--number", type=int, default=64, help="chains")
    words.add_argument("--seed", type=int, default=11, help="of lengths and noise")
    given = words.parse_args()
    torch.set_num_threads(1)
    rows = []
    for folder in given.runs:
        run = load(folder, "cpu")
        batch = held_out(run, given)
        here = f"{run.setup.profile} seed {run.setup.resolved.config.seed}"
        for name, sampler in asked(run, given):
            drawn = drawn_once(name, sampler, run.shelf, batch, Key(given.seed))
            rows.append(row(f"{here}: {name}", *measured(drawn.x, batch)))
    rows.append(row("held out", *measured(batch.x, batch)))
    print(markdown(("run: who", *SHOWN, f"clashes at most {FEW:g}", "Rg (angstrom)"), rows))


if __name__ == "__main__":
    main()
