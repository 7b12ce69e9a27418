"""Every registered objective with small roles, for the invariances: a new one gets them by a line in CASES."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from objective_toys import At
from torch import Tensor, nn

from fewstep.objectives import (
    Consistency,
    Coupled,
    Denoising,
    GridPairs,
    RatioPolicy,
    Segment,
    SiD,
    diff_instruct,
    dmd,
    sds,
    segment_ends,
    vsd,
)
from fewstep.objectives.ratios import jensen_shannon
from fewstep.processes import Karras, Masked, Uniform, edm
from fewstep.protocol import Batch, Cond, Denoiser, Key
from fewstep.samplers import FewStep, FewStepTokens

ROWS, LENGTH, REAL, VOCABULARY = 4, 6, 4, 3
PROCESS = edm(sigma_max=10.0)
TOKENS = Masked(VOCABULARY)
TIMES = (10.0, 1.0)


class Pointwise(nn.Module):
    """(B, L, 2) -> (B, L, 2), every position on its own, with the time and the step that made the sample."""

    def __init__(self, seed: int, width: int = 2) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 8).double(), nn.Linear(8, width).double()
        fill(self, seed)

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        index = torch.zeros(len(x)) if cond.index is None else cond.index
        beside = torch.stack([time, index.to(time.dtype)], 1)[:, None].expand(-1, x.shape[1], -1)
        found: Tensor = self.outer(torch.tanh(self.inner(torch.cat([x, beside], -1))))
        return found


class TokenNet(nn.Module):
    """(B, L) ids -> (B, L, n), every position on its own."""

    def __init__(self, seed: int, width: int = VOCABULARY) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY + 1, 5).double()
        self.outer = nn.Linear(6, width).double()
        fill(self, seed)

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        beside = time.double()[:, None, None].expand(-1, x.shape[1], 1)
        found: Tensor = self.outer(torch.cat([self.table(x), beside], -1))
        return found


class Judge(nn.Module):
    """One logit for each position."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        found: Tensor = self.net(xt, t, Cond())
        return found.squeeze(-1)


def fill(module: nn.Module, seed: int) -> None:
    """Parameters from a key, so that no test depends on the global generator."""
    for i, parameter in enumerate(module.parameters()):
        parameter.data.copy_(0.5 * Key(seed).at(i).normal(parameter.data))


@dataclass(frozen=True)
class Case:
    """An objective, the roles it needs and a batch.

    Args:
        objective: made once.
        roles: fresh modules at every call.
        batch: real and padded positions, masked.
    """

    objective: Any
    roles: Callable[[], dict[str, nn.Module]]
    batch: Callable[[], Batch]


def points(objective: Any) -> Case:
    def roles() -> dict[str, nn.Module]:
        student = FewStep(Pointwise(2), PROCESS, "edm", TIMES, rule="ddim", pick="random")
        everyone = {
            "teacher": Denoiser(Pointwise(1), PROCESS, "edm"),
            "student": student,
            "fake": Denoiser(Pointwise(3), PROCESS, "edm"),
            "target": copy.deepcopy(student),
            "disc": Judge(Pointwise(4, 1)),
        }
        return {name: everyone[name] for name in objective.roles}

    def batch() -> Batch:
        mask = mask_of(ROWS).unsqueeze(-1)
        x = Key(11).normal(torch.zeros(ROWS, LENGTH, 2, dtype=torch.float64)) * mask
        return Batch(like=x, x=x, cond=Cond(mask=mask))

    return Case(objective, roles, batch)


def tokens(objective: Any) -> Case:
    def roles() -> dict[str, nn.Module]:
        everyone = {
            "teacher": Denoiser(TokenNet(1), TOKENS, "logits"),
            "student": FewStepTokens(TokenNet(2), TOKENS, "logits", 2),
            "disc": Judge(TokenNet(4, 1)),
            "fake": Denoiser(TokenNet(3), TOKENS, "logits"),
        }
        return {name: everyone[name] for name in objective.roles}

    def batch() -> Batch:
        x = Key(12).integers((ROWS, LENGTH), VOCABULARY) * mask_of(ROWS)
        return Batch(like=x, x=x, cond=Cond(mask=mask_of(ROWS)))

    return Case(objective, roles, batch)


def mask_of(count: int) -> Tensor:
    """(B, L) True for the real beginning of each row."""
    return (torch.arange(LENGTH) < REAL).expand(count, LENGTH)


NATURAL = Karras(PROCESS.t_min, PROCESS.t_max, PROCESS.rho)
UNIFORM = Uniform(0.05, 0.95)

CASES: dict[str, Case] = {
    "denoising": points(Denoising(NATURAL)),
    "denoising of tokens": tokens(Denoising(UNIFORM, role="teacher")),
    "consistency": points(Consistency(GridPairs(4))),
    "consistency training": points(Consistency(GridPairs(4), teacher=None, target=None)),
    "sds": points(sds(NATURAL)),
    "vsd": points(vsd(NATURAL)),
    "diff-instruct": points(diff_instruct(NATURAL, critic_updates=2)),
    "diff-instruct of tokens": tokens(diff_instruct(UNIFORM)),
    "dmd": points(dmd(NATURAL)),
    "dmd with one rollout": points(dmd(NATURAL, share_rollout=True)),
    "dmd with a discriminator": points(
        dmd(NATURAL, disc="disc", adversarial=0.1, ratio_factor=jensen_shannon, ratio_normalize=False)
    ),
    "trajectory matching": points(
        diff_instruct(At(1.0), corruption=Segment(segment_ends(TIMES, PROCESS), rho=7.0))
    ),
    "sid": points(SiD(NATURAL)),
    "ratio policy": tokens(RatioPolicy(UNIFORM, corruption=Coupled(), group=2, anchor=0.1, smoothing=0.1)),
}

THROUGH_THE_JUDGES = {"sid"}
"""Objectives whose gradient runs into frozen networks by design; the engine keeps their parameters out of it."""
